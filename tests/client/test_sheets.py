"""A template is fetched and a sheet is checked: each cell that is wrong is told, and no file of the user's is lost."""

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from click.testing import Result

from datameta.client import commands
from tests.client.conftest import Lab
from tests.client.sheets import FIELDS, make_row, write_csv
from tests.faults.proxy import Once, Way, answer, cut

BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"


def list_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def at_home(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run where the laboratory's files are."""
    monkeypatch.chdir(lab.folder)


def check(lab: Lab, path: Path, *words: str | Path, code: int = 0, **more: Any) -> Result:
    done = lab.run("check", path, *words, **more)
    assert done.exit_code == code, done.output
    return done


# The template.


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ((), "samples.xlsx"),
        (("--format", "csv"), "samples.csv"),
        (("--to", "mine.csv"), "mine.csv"),
        (("--to", "MINE.XLSX", "--format", "xlsx"), "MINE.XLSX"),
        (("--to", "noend"), "noend"),
    ],
)
def test_a_template_is_saved_and_the_next_step_told(lab: Lab, words: tuple[str, ...], name: str) -> None:
    done = lab.run("template", *words)
    assert (done.exit_code, done.stdout) == (0, ""), done.output
    assert f"Then: datameta check {name}\n" in done.stderr
    assert list_names(lab.folder) == {name}
    path = lab.folder / name
    if name.lower().endswith("csv"):
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file))
    else:
        path = path.rename(lab.folder / "renamed.xlsx")
        header = [str(cell.value) for cell in openpyxl.load_workbook(path)["Samples"][1]]
    assert header == list(FIELDS)
    # As it comes it is no sheet to hand in.
    done = check(lab, path, "--no-annotated", code=1)
    assert "error: " in done.stdout


def test_a_template_replaces_nothing_unless_it_is_told_to(lab: Lab) -> None:
    path = lab.folder / "samples.xlsx"
    path.write_bytes(b"filled in")
    done = lab.run("template")
    assert (done.exit_code, path.read_bytes()) == (1, b"filled in")
    assert "samples.xlsx is there already. Choose another name, or say --force to replace it." in done.stderr
    assert lab.run("template", "--force").exit_code == 0
    assert path.read_bytes()[:2] == b"PK"


def test_a_template_of_one_format_gets_no_name_of_another(lab: Lab) -> None:
    done = lab.run("template", "--format", "xlsx", "--to", "a.csv")
    assert done.exit_code == 2
    assert "a.csv does not end in .xlsx." in done.stderr


# The check.


def test_a_sheet_that_is_right_is_right(lab: Lab) -> None:
    path = write_csv(lab.folder / "right.csv", make_row("right-1"), make_row("right-2", ["right 2.fq", "right2b.fq"]))
    before = path.read_bytes()
    done = check(lab, path, "--no-annotated")
    assert "2 rows, 2 good; 3 warnings" in done.stderr
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == ["warning"] * 3
    report = json.loads(check(lab, path, "--no-annotated", "--json").stdout)
    assert (report["rows"], report["goodRows"], report["errors"]) == (2, 2, 0)
    assert (list_names(lab.folder), path.read_bytes()) == ({"right.csv"}, before)
    staged = lab.api.call("GET", "/staged/metadatasets?limit=1000")
    assert not [each for each in staged if each["record"]["Lab-ID"].startswith("right")]


def test_what_is_wrong_is_told_with_its_cell_and_saved_beside(lab: Lab) -> None:
    wrong = make_row("wrong-2", ZIPCode="7a0", **{"Sequencing platform": "illumina"})
    path = write_csv(lab.folder / "run7.csv", make_row("wrong-1"), wrong, make_row("wrong-3", ZIPCode="7a0"))
    before = path.read_bytes()
    done = check(lab, path, code=1)
    assert 'error: C3: ZIPCode: "7a0": ' in done.stdout
    assert "(2 cells: C3:C4)" in done.stdout
    assert 'Sequencing platform: "illumina": ' in done.stdout
    assert "3 rows, 1 good; 3 errors, 3 warnings\n" in done.stderr
    assert "run7.findings.csv" in done.stderr
    assert "check it again: datameta check " in done.stderr
    with (lab.folder / "run7.findings.csv").open(encoding="utf-8-sig", newline="") as file:
        assert any("7a0" in line for line in csv.reader(file))
    check(lab, path, code=1)
    assert list_names(lab.folder) == {"run7.csv", "run7.findings.csv", "run7.findings-2.csv"}
    assert path.read_bytes() == before


def make_workbook(path: Path, *rows: dict[str, str], name: str = "Samples") -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = name
    sheet.append(FIELDS)
    for row in rows:
        sheet.append([row.get(field) for field in FIELDS])
    book.create_sheet("Notes").append(["of", "mine"])
    book.save(path)
    return path


def test_a_workbook_comes_back_marked(lab: Lab) -> None:
    path = make_workbook(lab.folder / "run8.xlsx", make_row("book-1", ZIPCode="7a0"))
    before = path.read_bytes()
    done = check(lab, path, code=1)
    assert 'error: Samples!C2: ZIPCode: "7a0": ' in done.stdout
    assert "run8.checked.xlsx: a copy with the cells marked\n" in done.stderr, done.stderr
    book = openpyxl.load_workbook(lab.folder / "run8.checked.xlsx")
    assert book["Samples"]["C2"].value == "7a0"
    assert book["Samples"]["C2"].comment is not None
    assert book["Notes"]["A1"].value == "of"
    assert path.read_bytes() == before
    # Whoever corrects the copy is not to lose it either.
    check(lab, lab.folder / "run8.checked.xlsx", "--sheet", "Samples", code=1)
    assert list_names(lab.folder) == {"run8.xlsx", "run8.checked.xlsx", "run8.checked-2.xlsx"}


def test_the_marked_copy_goes_where_it_is_wanted(lab: Lab) -> None:
    path = write_csv(lab.folder / "run9.csv", make_row("wanted", ZIPCode="7a0"))
    target = lab.folder / "deep" / "marked.csv"
    done = check(lab, path, "--annotated", target, code=1)
    assert "deep/marked.csv can't be written: No such file or directory" in done.stderr.replace("\n", "")
    assert "error: C2" in done.stdout
    target.parent.mkdir()
    check(lab, path, "--annotated", target, code=1)
    kept = target.read_bytes()
    done = check(lab, path, "--annotated", target, code=2)
    assert "is there already" in done.stderr
    target.write_bytes(b"")
    check(lab, path, "--annotated", target, "--force", code=1)
    assert target.read_bytes() == kept
    done = check(lab, path, "--annotated", path, "--force", code=2)
    assert "the sheet itself" in done.stderr
    done = check(lab, path, "--annotated", target, "--no-annotated", code=2)
    assert "exclude each other" in done.stderr
    assert list_names(lab.folder) == {"run9.csv", "deep"}


def test_a_copy_that_can_not_be_saved_hides_no_report(lab: Lab) -> None:
    path = write_csv(lab.folder / "run10.csv", make_row("hides", ZIPCode="7a0"))
    done = check(lab, path, "--annotated", lab.folder / "gone" / "a.csv", "--json", code=1)
    report = json.loads(done.stdout)
    assert report["errors"] == 1
    [finding] = [finding for finding in report["findings"] if finding["severity"] == "error"]
    assert (finding["cell"], finding["value"], finding["field"]) == ("C2", "7a0", "ZIPCode")


def test_what_is_no_sheet_is_refused_in_the_portals_words(lab: Lab) -> None:
    path = lab.folder / "run.csv"
    path.write_bytes(b"Lab-ID,ZIPCode\r\nM\xfcller,720\r\n")
    done = check(lab, path, code=1)
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert "the byte 0xFC" in done.stderr
    done = check(lab, write_csv(path, make_row("none")), "--sheet", "", code=1)
    assert done.stderr.startswith("Error: ")
    assert list_names(lab.folder) == {"run.csv"}


@pytest.mark.parametrize("mark", [".~lock.open ü.csv#", "~$open ü.csv"])
def test_a_sheet_that_is_open_is_pointed_out(lab: Lab, mark: str) -> None:
    path = write_csv(lab.folder / "open ü.csv", make_row("open"))
    (lab.folder / mark).write_bytes(b"")
    done = check(lab, path, "--no-annotated")
    assert "is open in another program: what is not saved there is not seen here." in done.stderr.replace("\n", "")


def test_a_sheet_that_changes_is_of_no_state_to_speak_of(lab: Lab) -> None:
    path = write_csv(lab.folder / "changing.csv", make_row("changing", ZIPCode="7a0"))
    lab.proxy.rule = Once(b"HTTP/1.1 200 OK", Way.DOWN, lambda: path.write_bytes(b"changed") and None)
    done = check(lab, path, code=1)
    assert "changing.csv has been changed meanwhile. Run the same command again." in done.stderr.replace("\n", "")
    assert list_names(lab.folder) == {"changing.csv"}


def test_a_bad_network_is_outlived_or_told(lab: Lab) -> None:
    path = write_csv(lab.folder / "network.csv", make_row("network"))
    for action in (partial(cut, is_passed=True), partial(answer, BUSY)):
        rule = lab.proxy.rule = Once(b"POST /api/v1/sheets/check?", Way.UP, action)
        assert "1 row, 1 good" in check(lab, path, "--no-annotated").stderr
        assert rule.met == 1
    lab.proxy.rule = Once(b"POST /api/v1/sheets/check?", Way.UP, cut, 1000)
    done = check(lab, path, code=3, patience=0)
    assert "Run the same command again" in done.stderr


def test_an_interrupted_check_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_csv(lab.folder / "interrupted.csv", make_row("interrupted"))

    def interrupt(*words: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "print_findings", interrupt)
    assert "Interrupted." in check(lab, path, code=3).stderr
