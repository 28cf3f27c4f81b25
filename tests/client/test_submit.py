"""A sheet becomes one submission with its files, or nothing; whatever is lost on the way, nothing is there twice."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.client.conftest import Lab
from tests.client.sheets import make_row, write_csv
from tests.e2e.conftest import RECORD
from tests.faults.proxy import Once, Way, answer, cut, pass_all

STAGE = b"POST /api/v1/sheets/stage?"
PREVALIDATE = b"POST /api/v1/presubvalidation "
SUBMIT = b"POST /api/v1/submissions "


def submit(lab: Lab, path: Path, *words: str | Path, code: int = 0, **more: Any) -> Any:
    """Submit a sheet with the files beside it; return what is said for scripts."""
    done = lab.run("submit", path, "--files", lab.folder / "raw", "--json", "--no-annotated", *words, **more)
    assert done.exit_code == code, done.output
    [line] = done.stdout.splitlines()
    said = json.loads(line)
    assert list(said) == ["submission", "alreadySubmitted", "files", "rows", "findings"]
    return said | {"log": done.stderr.replace("\n", " ")}


def write_files(lab: Lab, *names: str, size: int = 10) -> None:
    (lab.folder / "raw").mkdir(exist_ok=True)
    for name in names:
        lab.write(f"raw/{name}", size)


def list_staged(lab: Lab) -> tuple[list[Any], list[Any]]:
    """Return the lab's files and sets that are part of nothing."""
    files = lab.api.call("GET", "/staged/files?limit=1000")
    return files, lab.api.call("GET", "/staged/metadatasets?limit=1000")


@pytest.fixture(autouse=True)
def tidy(lab: Lab) -> None:
    """Begin with nothing staged; the portal is the one of other tests too."""
    files, sets = list_staged(lab)
    for file in files:
        lab.api.call("DELETE", f"/files/{file['id']['uuid']}", status=204)
    for each in sets:
        lab.api.call("DELETE", f"/metadatasets/{each['id']['uuid']}", status=204)


def check_submitted(lab: Lab, said: Any, *rows: dict[str, str]) -> None:
    """Check that the portal has one submission of these rows, as it was said, with the files as they are here."""
    detail = lab.api.call("GET", f"/submissions/{said['submission']['id']['site']}")
    assert said["submission"] == {"id": detail["id"], "label": detail["label"]}
    sets = [lab.api.call("GET", f"/metadatasets/{row['id']['uuid']}") for row in said["rows"]]
    assert {each["submissionId"]["uuid"] for each in sets} == {detail["id"]["uuid"]}
    records = [{name: value for name, value in each["record"].items() if value is not None} for each in sets]
    assert records == list(rows)
    files = lab.api.call("GET", f"/submissions/{detail['id']['site']}/files")
    assert sorted(file["id"]["uuid"] for file in files) == sorted(file["id"]["uuid"] for file in said["files"])
    names = {value for row in rows for name, value in row.items() if name.startswith("File")}
    assert {file["name"] for file in files} == names
    for file in files:
        assert lab.api.fetch(file) == next((lab.folder / "raw").rglob(file["name"])).read_bytes()
    assert list_staged(lab) == ([], [])


def test_a_sheet_is_submitted_with_its_files_once(lab: Lab) -> None:
    rows = [make_row("once-1", ["once-1 ü.fq", "once-1b.fq"]), make_row("once-2")]
    write_files(lab, "once-1 ü.fq", "once-2_R1.fq", "not named.fq")
    (lab.folder / "raw" / "lane 1").mkdir()
    write_files(lab, "lane 1/once-1b.fq", size=(16 << 20) + 1)
    path = write_csv(lab.folder / "once.csv", *rows)
    before = path.read_bytes()
    said = submit(lab, path, "--label", "Run 7")
    assert said["submission"]["label"] == "Run 7"
    assert {file["state"] for file in said["files"]} == {"confirmed"}
    check_submitted(lab, said, *rows)
    again = submit(lab, path, "--label", "Run 7")
    assert (said["alreadySubmitted"], again["alreadySubmitted"]) == (False, True)
    assert again["submission"] == said["submission"]
    assert [row["id"] for row in again["rows"]] == [row["id"] for row in said["rows"]]
    assert {file["state"] for file in again["files"]} == {"already_there"}
    check_submitted(lab, again, *rows)
    assert path.read_bytes() == before
    assert {found.name for found in lab.folder.iterdir()} == {"once.csv", "raw"}


def test_people_are_told_the_submission_and_how_to_fetch_it(lab: Lab) -> None:
    path = write_csv(lab.folder / "people.csv", make_row("people"))
    write_files(lab, "people_R1.fq")
    words = ("submit", path, "--files", lab.folder)
    done, again = lab.run(*words), lab.run(*words)
    assert (done.exit_code, again.exit_code) == (0, 0), done.output + again.output
    first, second = done.stdout.splitlines()
    site = first.split()[2].rstrip(":")
    assert first == f"submitted as {site}: 1 row, 1 file"
    assert second == f"To fetch it: datameta download {site} --to {site}"
    assert again.stdout.splitlines() == [f"already {first}", second]
    assert "people.csv: 1 row, 1 good; 1 warning\n" in done.stderr
    assert "people_R1.fq (DMF-" in done.stderr
    assert "1 row staged\n" in done.stderr


def test_rows_without_files_are_a_submission(lab: Lab) -> None:
    path = write_csv(lab.folder / "fileless.csv", make_row("fileless", FileR1=""))
    (lab.folder / "raw").mkdir()
    said = submit(lab, path, code=1)
    # The demo site wants a file with each sample.
    assert [(finding["cell"], finding["field"]) for finding in said["findings"]] == [("E2", "FileR1")]


# What is wrong.


def test_a_wrong_sheet_changes_nothing_and_is_saved_with_its_cells_marked(lab: Lab) -> None:
    write_files(lab, "refused-1_R1.fq", "refused-2_R1.fq")
    path = write_csv(lab.folder / "refused.csv", make_row("refused-1"), make_row("refused-2", ZIPCode="7a0"))
    done = lab.run("submit", path, "--files", lab.folder / "raw")
    assert done.exit_code == 1
    assert done.stdout.startswith('error: C3: ZIPCode: "7a0": ')
    assert len(done.stdout.splitlines()) == 1
    assert "refused.findings.csv" in done.stderr
    assert "Nothing was submitted. Correct this, and run the same command again." in done.stderr
    assert list_staged(lab) == ([], [])
    said = submit(lab, path, code=1)
    assert (said["submission"], said["files"], said["rows"]) == (None, [], [])
    assert [finding["cell"] for finding in said["findings"]] == ["C3"]


def test_a_file_that_is_missing_or_there_twice_is_an_error_at_its_cell(lab: Lab) -> None:
    write_files(lab, "twice-1_R1.fq", "TWICE-2_R1.fq.gz")
    (lab.folder / "raw" / "more").mkdir()
    write_files(lab, "more/twice-1_R1.fq")
    path = write_csv(lab.folder / "twice.csv", make_row("twice-1"), make_row("twice-2"))
    said = submit(lab, path, code=1)
    assert [(each["cell"], each["field"], each["code"], each["suggestion"]) for each in said["findings"]] == [
        ("E2", "FileR1", "file_twice", None),
        ("E3", "FileR1", "file_missing", "TWICE-2_R1.fq.gz"),
    ]
    assert list_staged(lab) == ([], [])


def test_a_sheet_without_rows_is_told(lab: Lab) -> None:
    (lab.folder / "raw").mkdir()
    said = submit(lab, write_csv(lab.folder / "empty.csv"), code=1)
    assert "There is no row in the sheet." in said["log"]


def test_words_that_can_not_be_are_refused_before_anything_is_done(lab: Lab) -> None:
    path = write_csv(lab.folder / "words.csv", make_row("words"))
    before = lab.proxy.bytes_up
    for words in (("--label", "x" * 101), ("--files", lab.folder / "gone"), ("--annotated", path, "--force")):
        done = lab.run("submit", path, "--files", lab.folder, *words)
        assert done.exit_code == 2, done.output
    assert lab.proxy.bytes_up == before


def test_a_file_that_is_refused_keeps_the_sheet_from_being_submitted(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(lab, "changes_R1.fq")
    path = write_csv(lab.folder / "changes.csv", make_row("changes"))

    def grow() -> None:
        lab.write("raw/changes_R1.fq", 11)

    lab.proxy.rule = Once(b"POST /api/v1/files ", Way.UP, grow)
    said = submit(lab, path, code=1)
    assert [file["state"] for file in said["files"]] == ["refused"]
    assert "Nothing was submitted: the sheet needs all the files that it names." in said["log"]
    assert list_staged(lab)[1] == []


def test_rows_that_are_part_of_another_submission_are_told(lab: Lab) -> None:
    write_files(lab, *(f"part-{number}_R1.fq" for number in range(4)))
    rows = [make_row(f"part-{number}") for number in range(4)]
    first = submit(lab, write_csv(lab.folder / "part.csv", *rows[:2]))["submission"]["id"]["site"]
    said = submit(lab, write_csv(lab.folder / "part.csv", *rows[1:]), code=1)
    [finding] = said["findings"]
    assert finding["code"] == "already_submitted"
    assert finding["row"] == 2
    assert first in finding["message"]
    assert "So are 1 of the sheet's 3 rows; a row can't be submitted twice." in finding["message"]
    assert list_staged(lab) == ([], [])
    second = submit(lab, write_csv(lab.folder / "part.csv", *rows[2:]))["submission"]["id"]["site"]
    said = submit(lab, write_csv(lab.folder / "part.csv", *rows), code=1)
    assert [finding["row"] for finding in said["findings"]] == [2, 4]
    assert second in said["findings"][1]["message"]


def overtake(lab: Lab, sample: str) -> None:
    """Submit a sample of the same name as somebody else would."""
    file = lab.api.upload(f"{sample} other.fq", b"other")
    record = RECORD | {"Lab-ID": sample, "FileR1": file["name"]}
    staged = lab.api.call("POST", "/metadatasets", {"record": record})
    lab.api.call("POST", "/submissions", {"metadatasetIds": [staged["id"]["site"]], "fileIds": [file["id"]["site"]]})


@pytest.mark.parametrize("words", [STAGE, PREVALIDATE, SUBMIT])
def test_what_comes_between_is_told_at_its_cell_and_leaves_no_row_staged(lab: Lab, words: bytes) -> None:
    sample = f"between {words[12:-1].decode().replace('/', ' ')}"
    write_files(lab, "between_R1.fq", f"{sample}_R1.fq")
    path = write_csv(lab.folder / "between.csv", make_row(f"{sample} 1", ["between_R1.fq"]), make_row(sample))
    rule = lab.proxy.rule = Once(words, Way.UP, partial(overtake, lab, sample))
    said = submit(lab, path, code=1)
    assert rule.met == 1
    [finding] = [finding for finding in said["findings"] if finding["severity"] == "error"]
    assert finding["code"] == "not_unique_in_site"
    assert (finding["cell"], finding["field"], finding["row"]) == ("A3", "Lab-ID", 3)
    assert (said["submission"], said["rows"]) == (None, [])
    files, sets = list_staged(lab)
    assert (len(files), sets) == (2, [])


def test_what_is_wrong_with_a_file_is_told_at_the_cell_that_names_it(lab: Lab) -> None:
    write_files(lab, "gone-1_R1.fq", "gone-2_R1.fq")
    path = write_csv(lab.folder / "gone.csv", make_row("gone-1"), make_row("gone-2"))

    def delete() -> None:
        [file] = lab.find_staged("gone-2_R1.fq")
        lab.api.call("DELETE", f"/files/{file['id']['uuid']}", status=204)

    lab.proxy.rule = Once(PREVALIDATE, Way.UP, delete)
    said = submit(lab, path, code=1)
    assert {(finding["cell"], finding["field"]) for finding in said["findings"]} == {("E3", "FileR1")}
    assert "gone-2_R1.fq" in {finding["value"] for finding in said["findings"]}
    lab.proxy.rule = pass_all
    check_submitted(lab, submit(lab, path), make_row("gone-1"), make_row("gone-2"))


def test_what_is_wrong_with_the_whole_is_told_without_a_cell(lab: Lab) -> None:
    write_files(lab, "odd_R1.fq")
    path = write_csv(lab.folder / "odd.csv", make_row("odd"))
    body = b'[{"exception": "Odd", "error_code": "odd", "message": "That is odd."}]'
    head = f"HTTP/1.1 400 Bad Request\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    lab.proxy.rule = Once(PREVALIDATE, Way.UP, partial(answer, head + body))
    done = lab.run("submit", path, "--files", lab.folder)
    assert (done.exit_code, done.stdout) == (1, "error: the sheet: That is odd.\n")
    lab.proxy.rule = Once(
        PREVALIDATE, Way.UP, partial(answer, head.replace(b"400 Bad Request", b"403 Forbidden") + body)
    )
    assert "Error: That is odd." in submit(lab, path, code=1)["log"]


def test_rows_that_another_run_submits_meanwhile_are_told(lab: Lab) -> None:
    write_files(lab, "meanwhile-1_R1.fq", "meanwhile-2_R1.fq")
    path = write_csv(lab.folder / "meanwhile.csv", make_row("meanwhile-1"), make_row("meanwhile-2"))

    def submit_one() -> None:
        [file] = lab.find_staged("meanwhile-1_R1.fq")
        staged = lab.api.call("POST", "/metadatasets", {"record": make_row("meanwhile-1")})
        body = {"metadatasetIds": [staged["id"]["site"]], "fileIds": [file["id"]["site"]]}
        lab.api.call("POST", "/submissions", body)

    lab.proxy.rule = Once(STAGE, Way.UP, submit_one)
    said = submit(lab, path, code=1)
    assert "Some of the rows have been submitted meanwhile." in said["log"]
    assert list_staged(lab)[1] == []
    assert [finding["row"] for finding in submit(lab, path, code=1)["findings"]] == [2]


# Files of the same name.


def test_another_file_of_the_name_is_told_and_replaced_on_demand(lab: Lab) -> None:
    write_files(lab, "stale_R1.fq")
    stale = lab.api.upload("stale_R1.fq", b"of another day")
    path = write_csv(lab.folder / "stale.csv", make_row("stale"))
    for _ in range(2):
        said = submit(lab, path, code=1)
        [finding] = said["findings"]
        assert (finding["cell"], finding["code"]) == ("E2", "file_ambiguous")
        assert stale["id"]["site"] in finding["message"]
        assert "--replace" in finding["message"]
        assert len(list_staged(lab)[0]) == 2
    said = submit(lab, path, "--replace")
    assert f"stale_R1.fq ({stale['id']['site']}): deleted" in said["log"]
    check_submitted(lab, said, make_row("stale"))


def test_a_second_file_of_the_same_content_is_no_matter(lab: Lab) -> None:
    write_files(lab, "same_R1.fq")
    for _ in range(2):
        lab.api.upload("same_R1.fq", (lab.folder / "raw" / "same_R1.fq").read_bytes())
    said = submit(lab, write_csv(lab.folder / "same.csv", make_row("same")))
    check_submitted(lab, said, make_row("same"))


# What is lost on the way.


@pytest.mark.parametrize("words", [b"POST /api/v1/sheets/check?", STAGE, PREVALIDATE, SUBMIT])
def test_an_answer_that_is_lost_does_nothing_twice(lab: Lab, words: bytes) -> None:
    sample = f"answer {words[12:-1].decode().replace('/', ' ')}"
    write_files(lab, f"{sample}_R1.fq")
    rule = lab.proxy.rule = Once(words, Way.UP, partial(cut, is_passed=True))
    said = submit(lab, write_csv(lab.folder / "answer.csv", make_row(sample)))
    assert rule.met == 1
    assert not said["alreadySubmitted"]
    lab.proxy.rule = pass_all
    check_submitted(lab, said, make_row(sample))


class Lose:
    """Lose the answer to a request with these words, and whatever is said after it."""

    def __init__(self, words: bytes) -> None:
        self.words = words
        self.met = False

    def __call__(self, way: Way, piece: bytes, before: int) -> None:
        # The headers and the body of a request may come in pieces of their own.
        if self.met and (way is Way.DOWN or before == 0):
            cut()
        if way is Way.UP and self.words in piece:
            self.met = True


@pytest.mark.parametrize("words", [STAGE, SUBMIT])
def test_a_run_that_gave_up_is_gone_on_with(lab: Lab, words: bytes) -> None:
    sample = f"up {words[12:-1].decode().replace('/', ' ')}"
    write_files(lab, f"{sample}_R1.fq")
    path = write_csv(lab.folder / "up.csv", make_row(sample))
    lab.proxy.rule = Lose(words)
    said = submit(lab, path, code=3, patience=0)
    assert "Run the same command again" in said["log"]
    lab.proxy.rule = pass_all
    said = submit(lab, path)
    assert said["alreadySubmitted"] == (words == SUBMIT)
    assert {file["state"] for file in said["files"]} == {"already_there"}
    check_submitted(lab, said, make_row(sample))


@pytest.mark.parametrize("words", [b"GET /api/v1/staged/files", STAGE, PREVALIDATE, SUBMIT])
def test_a_submission_that_a_former_run_has_begun_may_come_through_at_any_time(lab: Lab, words: bytes) -> None:
    sample = f"late {words[12:-1].decode().replace('/', ' ')}"
    write_files(lab, f"{sample}_R1.fq")
    path = write_csv(lab.folder / "late.csv", make_row(sample))
    bodies: list[bytes] = []

    def keep(way: Way, piece: bytes, before: int) -> None:
        # The headers and the body of a request may come in pieces of their own.
        if way is Way.UP and b'"fileIds"' in piece and not bodies:
            bodies.append(piece[piece.index(b"{") :])
        if way is Way.UP and SUBMIT in piece:
            cut()

    lab.proxy.rule = keep
    submit(lab, path, code=3, patience=0)
    [body] = bodies

    def come_through() -> None:
        headers = {"Authorization": f"Bearer {lab.api.token}", "Content-Type": "application/json"}
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(f"{lab.api.address}/api/v1/submissions", data=body, headers=headers)
        assert answer.status_code == 200, answer.text

    rule = lab.proxy.rule = Once(words, Way.UP, come_through)
    said = submit(lab, path)
    assert rule.met == 1
    assert said["alreadySubmitted"]
    lab.proxy.rule = pass_all
    check_submitted(lab, said, make_row(sample))
