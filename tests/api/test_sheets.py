"""Sample sheets over the API: checked, staged once however often they are sent, and given back."""

import csv
import io
import tracemalloc
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import openpyxl
import pytest
import webtest
from openapi_schema_validator import OAS31Validator
from sqlalchemy import func, select

from datameta.api import load_spec
from datameta.api.sheets import LONGEST_NAME
from datameta.logic import sheets
from datameta.models import MetaDataSet
from tests.conftest import API, Client, Portal, announce, assert_refused, counted, list_events, set_setting, sign_in

HEADER = ["Lab-ID", "Sampling date", "FileR1", "Note"]
ROWS = [["S1", "14.03.2026", "s1.fq", "first"], ["S2", "15.03.2026", "s2.fq", "second"]]


@pytest.fixture
def admin(portal: Portal) -> Client:
    client = portal.add_user("Office", site_admin=True)
    client.add_field("Lab-ID", order=1, isMandatory=True, isSiteUnique=True, regExp="S[0-9]+", example="S123")
    client.add_field("Sampling date", order=2, dateTimeFmt="%d.%m.%Y", example="31.12.2026")
    client.add_field("FileR1", order=3, isFile=True, example="S123_R1.fastq.gz")
    client.add_field("Note", order=4)
    return client


@pytest.fixture
def lab(admin: Client) -> Client:
    return admin.portal.add_user("Lab A")


def make_csv(*rows: Sequence[str], header: Sequence[str] = HEADER) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    return text.getvalue().encode()


def make_xlsx(*rows: Sequence[Any], header: Sequence[str] = HEADER) -> bytes:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.title = "Samples"
    for row in (header, *rows):
        book.active.append(list(row))
    saved = io.BytesIO()
    book.save(saved)
    return saved.getvalue()


def send_sheet(client: Client, operation: str, content: bytes, filename: str = "run.csv", **query: str) -> Any:
    """Send a sheet; every answer is returned, those with a report checked against the specification."""
    path = f"/sheets/{operation}?{urlencode({'filename': filename, **query})}"
    answer = client.post(path, params=content, content_type="application/octet-stream")
    if answer.status_int == 200 and operation != "annotate":
        name = "StagedSheet" if operation == "stage" else "SheetReport"
        spec = load_spec()
        OAS31Validator({"$ref": f"#/components/schemas/{name}", "components": spec["components"]}).validate(answer.json)
    return answer


def told(answer: webtest.TestResponse) -> list[tuple[str, str, list[str]]]:
    """Return severity, code and cells of each finding."""
    return [(finding["severity"], finding["code"], finding["cells"]) for finding in answer.json["findings"]]


def count_sets(portal: Portal) -> int:
    with portal.database.sessions() as db:
        return db.scalars(select(func.count()).select_from(MetaDataSet)).one()


def test_a_check_tells_everything_and_stages_nothing(lab: Client) -> None:
    bad = [["S1", "2026-03-15", "s1.fq", "again "], ["X3", "16.03.2026", "", "third"]]
    answer = send_sheet(lab, "check", make_csv(*ROWS, *bad))
    assert told(answer) == [
        ("error", "not_unique_in_sheet", ["A2", "A4"]),
        ("error", "duplicate_file_reference", ["C2", "C4"]),
        ("error", "date_mismatch", ["B4"]),
        ("error", "regex_mismatch", ["A5"]),
        ("warning", "file_not_staged", ["C2", "C4"]),
        ("warning", "file_not_staged", ["C3"]),
        ("warning", "outer_space", ["D4"]),
    ]
    report = answer.json
    assert (report["rows"], report["goodRows"], report["errors"], report["warnings"], report["notes"]) == (
        4,
        1,
        6,
        4,
        0,
    )
    assert report["findings"][2]["suggestion"] == "15.03.2026"
    assert report["files"][0] == {"name": "s1.fq", "sheet": "", "row": 2, "cell": "C2"}
    assert (report["format"], report["template"], report["findingsOmitted"]) == ("csv", None, 0)
    assert count_sets(lab.portal) == 0
    assert list_events(lab.portal, "metadataset") == []


def test_rows_are_staged_all_or_none(lab: Client) -> None:
    refused = send_sheet(lab, "stage", make_csv(*ROWS, ["X3", "", "", ""]))
    assert_refused(refused, 400, ("regex_mismatch", "Lab-ID"))
    assert refused.json[0]["message"].startswith("A4: ")
    assert count_sets(lab.portal) == 0
    answer = send_sheet(lab, "stage", make_xlsx(*ROWS), "run.xlsx")
    assert [(row["sheet"], row["row"], row["isNew"], row["submissionId"]) for row in answer.json["staged"]] == [
        ("Samples", 2, True, None), ("Samples", 3, True, None)
    ]  # fmt: skip
    shown = lab.get(f"/metadatasets/{answer.json['staged'][0]['id']['site']}").json
    assert shown["record"] == {"Lab-ID": "S1", "Sampling date": "14.03.2026", "FileR1": "s1.fq", "Note": "first"}
    assert len(list_events(lab.portal, "metadataset.staged")) == 2


def test_the_good_rows_can_be_staged_alone(lab: Client) -> None:
    answer = send_sheet(lab, "stage", make_csv(*ROWS, ["X3", "", "", ""]), only="good")
    assert [row["row"] for row in answer.json["staged"]] == [2, 3]
    assert answer.json["goodRows"] == 2
    assert count_sets(lab.portal) == 2
    hopeless = make_csv(["first"], header=["Note", "Remark"])
    assert send_sheet(lab, "stage", make_csv(["x", "y"], header=["Note", "FileR1"]), only="good").json["staged"] == []
    assert_refused(send_sheet(lab, "stage", hopeless, only="good"), 400, ("no_header", None))
    assert_refused(send_sheet(lab, "stage", make_csv(*ROWS), only="bad"), 400, ("invalid_value", "only"))


def test_a_sheet_that_comes_again_changes_nothing(lab: Client) -> None:
    first = send_sheet(lab, "stage", make_csv(*ROWS)).json["staged"]
    again = send_sheet(lab, "stage", make_csv(*ROWS)).json["staged"]
    assert [row["id"] for row in again] == [row["id"] for row in first]
    assert not any(row["isNew"] for row in again)
    assert count_sets(lab.portal) == 2
    more = send_sheet(lab, "stage", make_csv(*ROWS, ["S3", "", "", ""])).json["staged"]
    assert [row["isNew"] for row in more] == [False, False, True]
    # What says the same is one's own only.
    other = lab.portal.add_user("Lab A")
    assert all(row["isNew"] for row in send_sheet(other, "stage", make_csv(*ROWS)).json["staged"])


def test_equal_rows_are_as_many_sets(portal: Portal) -> None:
    lab = portal.add_user("Office", site_admin=True)
    for name in ("Note", "Plain"):
        lab.add_field(name)
    same = make_csv(["x", "y"], ["x", "y"], header=["Note", "Plain"])
    first = send_sheet(lab, "stage", same)
    assert ("warning", "duplicate_row", ["3:3"]) in told(first)
    again = send_sheet(lab, "stage", same).json["staged"]
    assert [row["id"] for row in again] == [row["id"] for row in first.json["staged"]]
    assert count_sets(lab.portal) == 2


def test_submitted_rows_are_known_again(lab: Client) -> None:
    staged = send_sheet(lab, "stage", make_csv(["S1", "", "", ""], ["S2", "", "", ""])).json["staged"]
    submission = lab.post("/submissions", {"metadatasetIds": [row["id"]["uuid"] for row in staged], "fileIds": []}).json
    again = send_sheet(lab, "stage", make_csv(["S1", "", "", ""], ["S2", "", "", ""], ["S3", "", "", ""]))
    assert told(again) == [("warning", "already_submitted", ["2:3"])]
    assert [row["submissionId"] for row in again.json["staged"]] == [submission["id"], submission["id"], None]
    changed = send_sheet(lab, "check", make_csv(["S1", "", "", "changed"]))
    assert told(changed) == [("error", "not_unique_in_site", ["A2"])]
    # Of others only that the value is taken.
    other = send_sheet(lab.portal.add_user("Lab B"), "check", make_csv(["S1", "", "", ""]))
    assert told(other) == [("error", "not_unique_in_site", ["A2"])]
    assert submission["id"]["site"] not in other.text


def test_what_is_staged_with_other_words_is_told(lab: Client) -> None:
    staged = lab.stage(**{"Lab-ID": "S1", "Note": "typing error"})
    answer = send_sheet(lab, "check", make_csv(["S1", "", "", "right"]))
    assert told(answer) == [("warning", "value_staged", ["A2"])]
    assert staged["id"]["site"] in answer.json["findings"][0]["message"]


def test_files_are_looked_for_among_ones_own(lab: Client) -> None:
    lab.upload("s1.fq", b"ACGT")
    announce(lab, name="s2.fq")
    for content in (b"A", b"C"):
        announce(lab, content, name="s3.fq")
    lab.portal.add_user("Lab A").upload("s4.fq", b"ACGT")
    rows = [[f"S{number}", "", f"s{number}.fq", ""] for number in range(1, 5)]
    assert told(send_sheet(lab, "check", make_csv(*rows))) == [
        ("error", "file_ambiguous", ["C4"]),
        ("warning", "file_not_confirmed", ["C3"]),
        ("warning", "file_not_staged", ["C5"]),
    ]


def test_the_workbook_comes_back_with_what_is_wrong(lab: Client) -> None:
    sheet = make_xlsx(["X1", "14.03.2026"], ["S2", "14.03.2026"])
    answer = send_sheet(lab, "annotate", sheet, "run 7.xlsx")
    assert answer.status_int == 200
    assert answer.content_type.endswith("spreadsheetml.sheet")
    assert 'filename="run 7.checked.xlsx"' in answer.headers["Content-Disposition"]
    book = openpyxl.load_workbook(io.BytesIO(answer.body))
    assert "S[0-9]+" in book["Samples"]["A2"].comment.text
    assert book["Samples"]["A3"].comment is None
    listed = send_sheet(lab, "annotate", make_csv(["X1", "", "", ""]), "run 7.csv")
    assert listed.content_type == "text/csv"
    assert 'filename="run 7.findings.csv"' in listed.headers["Content-Disposition"]
    assert "regex_mismatch" in listed.body.decode("utf-8-sig") or "S[0-9]+" in listed.body.decode("utf-8-sig")
    assert_refused(send_sheet(lab, "annotate", b"\xff\x00", "run.csv"), 400, ("sheet_encoding", None))


def test_the_template_can_be_filled(lab: Client) -> None:
    answer = lab.get("/sheets/template")
    assert answer.status_int == 200
    assert 'filename="DataMeta samples.xlsx"' in answer.headers["Content-Disposition"]
    untouched = send_sheet(lab, "check", answer.body, "t.xlsx")
    assert told(untouched)[0][:2] == ("error", "example_row")
    assert untouched.json["template"]["isCurrent"] is True
    book = openpyxl.load_workbook(io.BytesIO(answer.body))
    book["Samples"].delete_rows(2)
    for column, text in enumerate(["S9", "14.03.2026", None, "filled"], 1):
        book["Samples"].cell(2, column).value = text
    saved = io.BytesIO()
    book.save(saved)
    filled = send_sheet(lab, "stage", saved.getvalue(), "t.xlsx")
    assert told(filled) == []
    assert len(filled.json["staged"]) == 1
    assert lab.get("/sheets/template?format=csv").content_type == "text/csv"
    assert_refused(lab.get("/sheets/template?format=pdf"), 400, ("invalid_value", "format"))


def test_an_old_template_is_known_and_explained(admin: Client, lab: Client) -> None:
    old = lab.get("/sheets/template").body
    admin.add_field("Newcomer", order=9)
    answer = send_sheet(lab, "check", old, "t.xlsx")
    assert answer.json["template"]["isCurrent"] is False
    assert "old_template" in {code for _, code, _ in told(answer)}


@pytest.mark.parametrize("operation", ["check", "stage", "annotate"])
def test_what_is_no_request(lab: Client, operation: str) -> None:
    path = f"/sheets/{operation}"
    kind = {"content_type": "application/octet-stream"}
    assert_refused(lab.post(path, params=b"x", **kind), 400, ("missing", "filename"))
    long = "x" * (LONGEST_NAME + 1)
    answer = lab.post(f"{path}?filename={long}&sheet=%00", params=b"x", **kind)
    assert_refused(answer, 400, ("invalid_text", "filename"), ("invalid_text", "sheet"))
    assert_refused(lab.post(f"{path}?filename=a.csv", params=b"", **kind), 400, ("missing_body", None))
    assert_refused(send_sheet(lab, operation, b"PK\x03\x04 no zip", "a.xlsx"), 400, ("broken_file", None))
    assert_refused(send_sheet(lab, operation, make_xlsx(*ROWS), "a.xlsx", sheet="Two"), 400, ("no_such_sheet", None))
    assert_refused(
        lab.portal.anonymous().post(f"{path}?filename=a", params=b"x", **kind), 401, ("unauthenticated", None)
    )


def test_a_refusal_lists_so_many_problems_and_says_so(lab: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "MOST_PROBLEMS", 2)
    rows = [[f"X{number}", "", "", ""] for number in range(5)]
    refused = send_sheet(lab, "stage", make_csv(*rows))
    assert [problem["error_code"] for problem in refused.json] == ["regex_mismatch"] * 2 + ["more_problems"]
    column = send_sheet(lab, "stage", make_xlsx(["x", "y"], header=["Note", "FileR1"]), "run.xlsx")
    assert [problem["message"].split(":")[0] for problem in column.json] == ["Samples!row 1"]


def test_a_browser_sends_sheets_too(lab: Client) -> None:
    browser = sign_in(lab)
    assert send_sheet(browser, "check", make_csv(*ROWS)).status_int == 200
    wrong = browser.post("/sheets/check?filename=a.csv", params=make_csv(*ROWS), content_type="text/plain")
    assert_refused(wrong, 403, ("csrf_failed", None))
    browser.csrf = "x" * 64
    assert_refused(send_sheet(browser, "check", make_csv(*ROWS)), 403, ("csrf_failed", None))


def test_only_so_many_are_read_at_once(lab: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "WAIT_SECONDS", 0)
    places = sheets.SheetReader(lab.portal.settings)
    with places.place(), places.place():
        with pytest.raises(sheets.UnavailableError) as refusal:
            places.place().__enter__()
        assert refusal.value.problems[0].code == "sheets_busy"


def test_no_query_for_each_row(lab: Client) -> None:
    def count(number: int, first: int) -> int:
        rows = [[f"S{first + place}", "", f"s{first + place}.fq", ""] for place in range(number)]
        with counted(lab.portal) as statements:
            assert send_sheet(lab, "stage", make_csv(*rows)).status_int == 200
        return len(statements)

    # The first request of a key notes that the key is used.
    count(1, 1)
    assert count(3, 10) == count(400, 1000)


def test_the_site_gives_its_name_to_the_template(lab: Client) -> None:
    set_setting(lab.portal, "site_name", "Nordlab")
    assert 'filename="Nordlab samples.xlsx"' in lab.get("/sheets/template").headers["Content-Disposition"]


def test_a_check_gives_the_rows_as_they_were_understood(lab: Client) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.append(["Note", "Weather", "Lab-ID", "Sampling date"])
    book.active.append(["first", "sunny", "S1", "4.3.2026"])
    book.active.append(["a, “b”\n", "", "X", "2026-03-15"])
    book.active.append([None, "rain", None, None])
    book.active.append(["=1/0", None, "S2", None])
    book.create_sheet("Second").append(["FileR1", "Lab-ID"])
    book["Second"].append(["s1.fq", "S3"])
    saved = io.BytesIO()
    book.save(saved)
    answer = send_sheet(lab, "check", saved.getvalue(), "run.xlsx", rows="true")
    assert answer.content_type == "application/json"
    assert answer.json["fields"] == ["Note", "Lab-ID", "Sampling date", "FileR1"]
    assert answer.json["content"] == [
        {"sheet": "Sheet", "row": 2, "values": ["first", "S1", "04.03.2026", None]},
        {"sheet": "Sheet", "row": 3, "values": ["a, “b”\n", "X", "2026-03-15", None]},
        {"sheet": "Sheet", "row": 5, "values": [None, "S2", None, None]},
        {"sheet": "Second", "row": 2, "values": [None, "S3", None, "s1.fq"]},
    ]
    plain = send_sheet(lab, "check", saved.getvalue(), "run.xlsx", rows="false").json
    assert plain == {key: value for key, value in answer.json.items() if key not in ("fields", "content")}
    assert plain == send_sheet(lab, "check", saved.getvalue(), "run.xlsx").json


def test_a_check_of_a_sheet_without_rows_gives_none(lab: Client) -> None:
    answer = send_sheet(lab, "check", make_csv(), rows="true").json
    assert (answer["fields"], answer["content"]) == (HEADER, [])


def test_a_check_with_rows_refuses_as_without(lab: Client) -> None:
    assert_refused(send_sheet(lab, "check", make_csv(*ROWS), rows="yes"), 400, ("invalid_value", "rows"))
    assert_refused(send_sheet(lab, "check", b"", rows="true"), 400, ("missing_body", None))
    assert_refused(send_sheet(lab, "check", b"\xff\x00", rows="true"), 400, ("sheet_encoding", None))


def test_the_rows_of_a_check_are_never_in_memory_as_a_whole(lab: Client) -> None:
    sheet = make_csv(*([f"S{number}", "", "", "x" * 8000] for number in range(1500)))

    def measure_peak(rows: str) -> tuple[int, int]:
        """Return the size of the answer, and the most memory that was taken at once."""
        request = webtest.TestRequest.blank(
            f"{API}/sheets/check?filename=run.csv&rows={rows}", method="POST", body=sheet
        )
        request.headers["Authorization"] = f"Bearer {lab.token}"
        tracemalloc.start()
        try:
            size = sum(map(len, lab.portal.app.app(request.environ, lambda status, headers: None)))
            return size, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    # What is loaded and compiled at the first check stays.
    measure_peak("true")
    # The answer without rows has the same rows read, a batch at a time. What a pipe gives at once differs.
    sizes, peaks = zip(*(measure_peak("true") for _ in range(5)), strict=True)
    peak, least = min(peaks), min(measure_peak("false")[1] for _ in range(5))
    assert sizes[0] > len(sheet) > 10 << 20
    assert peak < least + (1 << 20)
