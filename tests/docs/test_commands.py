"""Every command in the documents is run, page by page and in order, as by a reader with a demo portal and a site.

The rule: a command is run, or it stands in ``ASIDE`` with the reason, and then what it names must exist. Of a page that
has a test of its own, ``ELSEWHERE`` says which. What a reader puts in the place of an example is in
``Reader.stands_for``.
"""

import ast
import importlib.util
import itertools
import json
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import botocore.session
import click
import openpyxl
import pytest
import sqlalchemy
from botocore import xform_name

from datameta import embedded, migrations
from datameta.api import iterate_operations, load_spec
from datameta.cli import main
from datameta.settings import Settings
from tests.client.sheets import FIELDS, make_row
from tests.docs import DOCS
from tests.e2e.conftest import DATAMETA, Served, make_environment, run_main_job, serve_cleanly

ROOT = DOCS.parent
SECONDS = 300
ELSEWHERE = {
    "api.md": "made of requests that tests/docs/test_api.py sends; here its lines are compared with the contract",
    "install.md": "followed word for word by a test of its own",
}
ASIDE = {
    "make run": "serves until it is stopped: tests/e2e/test_serve.py",
    "make develop": "fetches what these tests run in",
    "make test": "runs this test",
    "make check": "runs this test, and more for ten minutes",
    "git clone … datameta && cd datameta": "the reader knows the address",
    ".venv/bin/python -m pytest -q tests/api/test_submissions.py": "is run with all tests",
    ".venv/bin/ruff check . && .venv/bin/ruff format . && .venv/bin/mypy": "is run by make test",
    "pip install 'datameta[client]'": "asks PyPI; tests/client/test_alone.py has the client by itself",
    "pip install httpx": "asks PyPI",
    "python bot.py": "serves until it is stopped: tests/e2e/test_bot.py",
    "apt-get install nginx postgresql ceph-mon ceph-osd radosgw ceph-common": "changes the machine",
    ".venv/bin/python -m examples.scale.run": "serves until it is stopped: tests/e2e/test_scale.py",
    "datameta import-datameta --dry-run postgresql://datameta:secret@old-host/datameta /srv/old/storage": (
        "needs a DataMeta 1.1.1: tests/e2e/test_import.py"
    ),
    "datameta import-datameta postgresql://datameta:secret@old-host/datameta /srv/old/storage": "as the one before",
    ("storage.md", "AWS S3"): "needs AWS and its command line",
    (
        "storage.md",
        "Ceph RGW",
    ): "needs a gateway, and AWS's command line: tests/storage/test_docs.py does the same there",
    ("storage.md", "MinIO"): "needs MinIO",
}
"""Lines, and sections of a page, that are not run."""
LANGUAGES = {"sh", "bash", "json", "python", "http", "ini", "text"}
SHELL = ("sh", "bash")
ENDS = (";", "|", "&&", "||")
OF_DEMO = {"client.md", "sheets.md"}
"""Pages whose reader has a sheet `run7.xlsx`, its files in `run7`, and others in `run42`."""
PRELUDE = """
until_it_serves() {
  exec 3< <(PYTHONUNBUFFERED=1 exec "$@")
  local pid=$!
  grep -qm 1 ' serves ' <&3
  kill $pid
  wait $pid
}
in_a_new_database() {
  local name=new_$RANDOM
  createdb $name
  export DATAMETA_DATABASE_URL="postgresql://$PGUSER:$PGPASSWORD@/$name?host=$PGHOST&port=$PGPORT"
  "$@"
}
"""


@dataclass(frozen=True)
class Block:
    """What stands between two fences, in which section of which page, and from which line on."""

    page: str
    section: str
    line: int
    language: str
    text: str

    @property
    def is_aside(self) -> bool:
        return (self.page, self.section) in ASIDE


@dataclass(frozen=True)
class Reader:
    """Somebody who follows the pages, with a demo portal, and a site of their own to keep."""

    folder: Path
    served: Served
    home: Path
    database: sqlalchemy.URL

    def stands_for(self) -> dict[str, str]:
        """Return what a reader puts in the place of what, those first that contain others."""
        lab = self.served.open_lab()
        [service] = {each["serviceId"]["site"] for each in lab.call("GET", "/metadata") if each["serviceId"]}
        first_day = self.database.set(drivername="postgresql", database="first_day")
        return {
            # What a reader fills in before going on, and stops once it is seen to run.
            "template --to run7.xlsx": "template --force --to run7.xlsx && mv filled run7.xlsx",
            "datameta serve --host 0.0.0.0 --port 8080": "until_it_serves datameta serve --host 0.0.0.0 --port 0",
            "datameta worker --metrics-port 9109": f"datameta worker --once --metrics-port {find_free_port()}",
            "datameta restore ": "in_a_new_database datameta restore ",
            "createdb datameta": "createdb first_day",
            "postgresql://user:…@localhost/datameta": f"'{first_day.render_as_string(hide_password=False)}'",
            "https://portal.example.org": self.served.address,
            "http://127.0.0.1:8080": self.served.address,
            "DATAMETA_TOKEN=…": f"DATAMETA_TOKEN={self.served.read_demo()['lab_key']}",
            "DMS-12345678": lab.call("GET", "/submissions?limit=1")[0]["id"]["site"],
            "DMP-12345678": service,
            "/data/run7": "run7",
            "/backups/": "backups/",
            "/etc/datameta/": "./",
            "/srv/datameta": "srv",
            "portal.ini": f"{ROOT}/development.ini",
        }

    def prepare(self, page: str) -> Path:
        """Make the folder to work in."""
        folder = self.folder / page
        (folder / "backups").mkdir(parents=True)
        if page in OF_DEMO:
            sample = page.removesuffix(".md")
            for name in (f"run7/{sample}_R1.fq", f"run42/{sample}_R1.fastq.gz", f"run42/{sample}_R2.fastq.gz"):
                path = folder / name
                path.parent.mkdir(exist_ok=True)
                path.write_text(f"@{name}", "utf-8")
            book = openpyxl.Workbook()
            row = make_row(sample)
            for values in (FIELDS, [row.get(name) for name in FIELDS]):
                book.active.append(values)
            for name in ("run7.xlsx", "filled"):
                book.save(folder / name)
        return folder

    def run(self, page: str, script: str) -> "subprocess.CompletedProcess[str]":
        """Run lines in bash, which ends at the first that fails."""
        folder = self.prepare(page)
        demo = self.served.read_demo()
        programs = [DATAMETA.parent, *embedded.find_programs().values()]
        variables = {
            "BOT": demo["bot_key"],
            "DATAMETA_HOME": str(self.home),
            "HOME": str(folder),
            "KEY": demo["lab_key"],
            "PATH": os.pathsep.join([*map(str, programs), os.environ["PATH"]]),
            "PGHOST": str(self.database.query["host"]),
            "PGPASSWORD": str(self.database.password),
            "PGPORT": str(self.database.port),
            "PGUSER": str(self.database.username),
            "URL": f"{self.served.address}/api/v1",
        }
        environment = make_environment(**variables)
        # A site that others reach takes no cheap password hashes.
        del environment["DATAMETA_BCRYPT_COST"]
        command = ["bash", "-e", "-u", "-o", "pipefail", "-c", PRELUDE + script]
        return subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=folder,
            env=environment,
            timeout=SECONDS,
        )


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("reader")
    home = folder / "home"
    with embedded.running(home) as url, serve_cleanly(folder / "demo", folder, "--demo") as served:
        migrations.upgrade(url)
        run_main_job(served.open_lab(), served.open_bot(), "before")
        yield Reader(folder, served, home, sqlalchemy.make_url(url))


def find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def read_blocks(path: Path) -> list[Block]:
    """Return what stands between fences; code that is only indented has no language, so it fails."""
    blocks: list[Block] = []
    section, language, former, opened = "", "", "", 0
    lines: list[str] = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if line.startswith("```") and opened:
            blocks.append(Block(path.name, section, opened, language, "\n".join(lines) + "\n"))
            opened = 0
        elif line.startswith("```"):
            opened, language, lines = number, line[3:] or "text", []
        elif opened:
            lines.append(line)
        else:
            assert former or not line.startswith("    "), f"{path.name}:{number} is code without a fence"
            section = line.removeprefix("## ") if line.startswith("## ") else section
        former = line
    assert not opened, f"{path.name}:{opened} is never closed"
    return blocks


PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")), *sorted(DOCS.glob("*.md"))]
BLOCKS = {path.name: read_blocks(path) for path in PAGES if path.name not in ELSEWHERE}
EVERY = [block for blocks in BLOCKS.values() for block in blocks]


def strip_comment(line: str) -> str:
    return re.sub(r"(^|\s+)#\s.*$", "", line).rstrip()


def is_aside(line: str) -> bool:
    return strip_comment(line) in ASIDE


def write_script(blocks: list[Block], stands_for: dict[str, str]) -> str:
    """Return the lines to run, each block after a line that says where it is."""
    script = ""
    for block in blocks:
        lines = [":" if is_aside(line) else line for line in block.text.splitlines()]
        text = "\n".join(lines)
        for example, own in stands_for.items():
            text = text.replace(example, own)
        unknown = [line for line in text.splitlines() if "…" in strip_comment(line)]
        assert unknown == [], f"{block.page}: nobody knows what stands for this"
        script += f"echo '{block.page}:{block.line}' >&2\n{text}\n"
    return script


def list_run(page: str) -> list[Block]:
    """Return the blocks of a page in which there is something to run."""
    blocks = [block for block in BLOCKS[page] if block.language in SHELL and not block.is_aside]
    return [block for block in blocks if any(not is_aside(line) for line in block.text.splitlines())]


@pytest.mark.parametrize("page", [page for page in BLOCKS if list_run(page)])
def test_every_command_of_a_page_is_run(reader: Reader, page: str) -> None:
    blocks = list_run(page)
    done = reader.run(page, write_script(blocks, reader.stands_for()))
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def test_what_is_set_aside_stands_in_a_page() -> None:
    lines = {strip_comment(line) for block in EVERY if block.language in SHELL for line in block.text.splitlines()}
    sections = {(block.page, block.section) for block in EVERY if block.language in SHELL}
    assert ASIDE.keys() - lines - sections == set()
    assert ELSEWHERE.keys() - {"install.md"} <= {path.name for path in PAGES}


def list_commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command, without what only bash itself understands."""
    text = re.sub(r"cat > \S+ <<'?END'?\n.*?\nEND", "", text, flags=re.DOTALL).replace("\\\n", " ")
    for line in text.splitlines():
        read = shlex.shlex(strip_comment(line), posix=True, punctuation_chars=";&|")
        read.commenters = ""
        read.whitespace_split = True
        for is_end, group in itertools.groupby(read, lambda word: word in ENDS):
            words = list(itertools.dropwhile(lambda word: "=" in word or word == "export", group))
            if words and not is_end:
                yield words


def check_exists(words: list[str]) -> None:
    """Fail if a command names something that is not there; of programs that are not the portal's nothing is known."""
    if words[0] == "datameta":
        check_datameta(words[1:])
    elif words[0] == "make":
        targets = [word for word in words[1:] if "=" not in word]
        assert set(targets) <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    elif words[0] in ("aws", "s3api"):
        check_aws(words[1:] if words[0] == "aws" else words)
    elif words[0].endswith("python") or words[0] == "python":
        rest = words[1:]
        if rest[:1] == ["-m"] and rest[1] != "pytest":
            assert importlib.util.find_spec(rest[1]), words
        paths = [word for word in rest if "/" in word or word.endswith(".py")]
        assert [path for path in paths if not ((ROOT / path).exists() or (ROOT / "examples/bot" / path).exists())] == []
    elif words[:2] == ["pip", "install"]:
        extra = re.fullmatch(r"datameta\[(\w+)\]", words[2])
        assert extra is None or f'"{extra[1]}": [' in (ROOT / "setup.py").read_text("utf-8")


def check_datameta(words: list[str]) -> None:
    """Fail if there is no such command, or it has no such option."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, words
        command, words = found, words[1:]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    given = {word.partition("=")[0] for word in words if word.startswith("-")}
    assert given <= options | {"--help", "--version"}, words


def check_aws(words: list[str]) -> None:
    """Fail if a service of AWS has no such operation, or it has no such member."""
    words = [word for word in words if word not in ("--region", "us-east-1", "$@") and "://" not in word]
    service, rest = ("s3", words[1:]) if words[0].startswith("s3api") else (words[0], words[1:])
    if not rest or words[0] == "--endpoint-url":
        return
    model = botocore.session.get_session().get_service_model(service)
    names = {xform_name(name, "-"): name for name in model.operation_names}
    members = {xform_name(name, "-") for name in model.operation_model(names[rest[0]]).input_shape.members}
    assert {word.removeprefix("--") for word in rest if word.startswith("--")} <= members | {"region"}, words


def test_what_is_set_aside_names_what_there_is() -> None:
    checked = 0
    for block in EVERY:
        if block.language in SHELL:
            lines = block.text.splitlines()
            text = block.text if block.is_aside else "\n".join(line for line in lines if is_aside(line))
            for words in list_commands(text):
                check_exists(words)
                checked += 1
    assert checked > len(ASIDE)


def test_commands_within_sentences_name_what_there_is() -> None:
    found = []
    for path in PAGES:
        text = re.sub(r"^```.*?^```$", "", path.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        found += re.findall(r"`((?:datameta|make) [a-z][^`]*)`", text.replace("\n", " "))
    assert len(found) > 20
    for command in found:
        for words in list_commands(re.sub(r"  +", " ", command)):
            check_exists(words)


def complete(text: str) -> str:
    """Return JSON without the marks of what was left out."""
    return re.sub(r",?\s*…(?=\s*[\]}])", "", text)


def test_other_blocks_are_what_they_say() -> None:
    for block in EVERY:
        where = f"{block.page}:{block.line}"
        assert block.language in LANGUAGES, where
        if block.language == "python":
            ast.parse(block.text, where)
        elif block.language == "json":
            assert json.loads(complete(block.text)), where
        elif block.language == "ini":
            named = re.findall(r"^DATAMETA_([A-Z_0-9]+)=", block.text, re.MULTILINE)
            assert {name.lower() for name in named} <= set(Settings.__dataclass_fields__), where


def test_the_lines_of_the_api_are_requests_of_the_contract() -> None:
    paths = {
        (method, re.compile(re.sub(r"\{\w+\}", "[^/]+", path))) for path, method, _ in iterate_operations(load_spec())
    }
    blocks = [block.text for block in read_blocks(DOCS / "api.md") if block.language == "bash"]
    assert len(blocks) == len(paths)
    for text in blocks:
        subprocess.run(["bash", "-n"], check=True, input=text, text=True)
        options, address = read_curl(shlex.split(text.replace("\\\n", " ")))
        sent = options.keys() & {"-d", "-F", "--data-binary"}
        method = options.get("-X", "POST" if sent else "PUT" if "-T" in options else "GET").lower()
        path = address.removeprefix("$URL").partition("?")[0]
        assert any(method == known and pattern.fullmatch(path) for known, pattern in paths), text


def read_curl(words: list[str]) -> tuple[dict[str, str], str]:
    """Return the options of curl, each of which takes a value, and the address."""
    options: dict[str, str] = {}
    [address] = [word for word in words if word.startswith("$URL")]
    rest = [word for word in words[1:] if word != address]
    for name, value in zip(rest[::2], rest[1::2], strict=True):
        assert name in ("-X", "-H", "-b", "-d", "-F", "-T", "--data-binary"), words
        options[name] = value
    return options, address
