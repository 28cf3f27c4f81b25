"""What the site has besides docs/: the pages at the repository's top, and the files that pages link to."""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PAGES = {"CHANGES.md": "changes.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
LINK = re.compile(r"(?<=\]\()\.\./([^)#]+)")
NAMED_BY_FILE = re.compile(r"\[[\w./-]+\.md\](?=\(([\w./-]+\.md)\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages, the icon, and each file that some page links to."""
    for source, name in PAGES.items():
        text = (ROOT / source).read_text("utf-8")
        # Links go from the top of the repository there, and from docs/ here.
        text = re.sub(r"(?<=\]\()(?![#a-z]+:|#)(?:docs/)?", lambda match: "" if match[0] else "../", text)
        files.append(File.generated(config, name, content=text))
    files.append(File.generated(config, "icon.svg", abs_src_path=str(ROOT / "frontend/public/icon.svg")))
    texts = [file.content_string for file in files.documentation_pages()]
    for path in sorted({path for text in texts for path in LINK.findall(text)}):
        if not path.endswith(".md") and (ROOT / path).is_file():
            files.append(File.generated(config, f"files/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, files: Files, **more: Any) -> str:
    """Let links to what is outside of docs/ lead to where it is in the site, and call pages by their titles."""

    def name(match: re.Match[str]) -> str:
        file = files.get_file_from_path(match[1])
        return f"[{file.content_string.partition(chr(10))[0].removeprefix('# ')}]" if file else match[0]

    markdown = LINK.sub(lambda match: PAGES.get(match[1], f"files/{match[1]}"), markdown)
    return NAMED_BY_FILE.sub(name, markdown)
