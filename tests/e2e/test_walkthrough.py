"""The lines that ``datameta serve --demo`` prints work as they are, and are those of the tutorial."""

import subprocess
from pathlib import Path

from tests.e2e.conftest import DEADLINE_SECONDS, REPOSITORY, WALKTHROUGH, Served, make_environment


def paste(served: Served, folder: Path) -> str:
    """Run the printed lines in an empty folder and return the sample they were about."""
    folder.mkdir()
    start = served.printed.index("URL=")
    done = subprocess.run(
        ["bash", "-e"],
        check=False,
        capture_output=True,
        text=True,
        input=served.printed[start:],
        cwd=folder,
        env=make_environment(),
        timeout=DEADLINE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    [report] = folder.glob("*_report.txt")
    return report.name.removesuffix("_report.txt")


def test_the_printed_lines_make_a_submission_with_the_services_result_each_time(
    served_demo: Served, tmp_path: Path
) -> None:
    lab, bot = served_demo.open_lab(), served_demo.open_bot()
    samples = [paste(served_demo, tmp_path / name) for name in ("first", "second")]
    group = lab.call("GET", "/rpc/whoami")["group"]["id"]["site"]
    submissions = lab.call("GET", f"/groups/{group}/submissions")
    submitted = {key["site"]: each for each in submissions for key in each["metadatasetIds"]}
    found = {each["record"]["Lab-ID"]: each for each in bot.call("GET", "/metadatasets")}
    for sample in samples:
        metadataset = found[sample]
        assert metadataset["record"]["Accession"] == f"ACC-{sample}"
        assert bot.fetch({"id": metadataset["fileIds"]["Report"]}) == b"all is well\n"
        assert lab.fetch({"id": metadataset["fileIds"]["FileR1"]}) == b"@read1\n"
        submission = submitted[metadataset["id"]["site"]]
        assert submission["label"] == "First run"
        assert len(submission["fileIds"]) == 2


def test_the_tutorial_has_the_lines_word_for_word() -> None:
    assert f"```bash\n{WALKTHROUGH}```\n" in (REPOSITORY / "docs/tutorial-lab.md").read_text("utf-8")
