"""Lists: everybody sees their own rows, all of them, each once, however small the pages."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import text

from datameta.logic import submissions
from datameta.paging import make_cursor
from tests.conftest import (
    API,
    BASE_URL,
    Client,
    Portal,
    announce,
    assert_refused,
    codes,
    counted,
    read_pages,
)

UNKNOWN = "00000000-0000-4000-8000-000000000000"
LISTS = ["/staged/files", "/staged/metadatasets", "/submissions"]


@pytest.fixture
def lab(portal: Portal) -> Client:
    portal.add_user("Office", site_admin=True).add_field("ID")
    return portal.add_user("Lab A")


def sites(items: Iterable[dict[str, Any]]) -> list[str]:
    return [item["id"]["site"] for item in items]


def listed(client: Client, path: str, **query: Any) -> list[str]:
    """Return the site ids of a list's first page."""
    answer = client.get(path, params=query)
    assert answer.status_int == 200, answer.body
    return sites(answer.json)


def add_row(client: Client, path: str) -> str:
    """Add what a list shows; return its site id."""
    if path == "/staged/files":
        return str(announce(client)["id"]["site"])
    staged = client.stage(ID="1")
    return str((staged if path == "/staged/metadatasets" else client.submit([staged]).json)["id"]["site"])


def submit_at(client: Client, instant: str) -> str:
    """Submit a set as if it were that instant; return the submission's site id."""
    site = add_row(client, "/submissions")
    with client.portal.database.engine.begin() as connection:
        connection.execute(
            text("UPDATE submissions SET submitted_at = :instant WHERE site_id = :site"),
            {"instant": datetime.fromisoformat(instant), "site": site},
        )
    return site


# What all lists have in common.


def test_a_list_may_be_empty(lab: Client) -> None:
    for path in LISTS:
        answer = lab.get(path)
        assert (answer.status_int, answer.json) == (200, [])
        assert "Link" not in answer.headers


def test_a_stranger_is_refused(portal: Portal) -> None:
    for path in LISTS:
        assert_refused(portal.anonymous().get(path), 401, ("unauthenticated", None))


@pytest.mark.parametrize("path", LISTS)
def test_the_pages_give_everything_once_newest_first(lab: Client, path: str) -> None:
    rows = [add_row(lab, path) for _ in range(5)]
    assert listed(lab, path) == rows[::-1]
    for limit in (1, 2, 4, 5, 6):
        pages = read_pages(lab, path, limit=limit)
        assert [site for page in pages for site in sites(page)] == rows[::-1]
        assert len(pages) == -(-5 // limit)
        assert all(len(page) == limit for page in pages[:-1])


@pytest.mark.parametrize("path", LISTS)
def test_what_comes_meanwhile_does_not_shift_the_pages(lab: Client, path: str) -> None:
    rows = [add_row(lab, path) for _ in range(4)]
    first = lab.get(path, params={"limit": 2})
    add_row(lab, path)
    link = first.headers["Link"]
    second = lab.get(link[1 : link.index(">")].removeprefix(BASE_URL + API))
    assert sites(first.json) + sites(second.json) == rows[::-1]


@pytest.mark.parametrize("path", LISTS)
def test_the_next_page_is_named_by_the_portals_own_address(lab: Client, path: str) -> None:
    for _ in range(2):
        add_row(lab, path)
    answer = lab.get(path, params={"limit": 1, "junk": "ü" * 3000}, headers={"Host": "evil.example"})
    assert answer.status_int == 200, answer.body
    assert answer.headers["Link"].startswith(f"<{BASE_URL}{API}{path}?limit=1&cursor=")
    assert answer.headers["Link"].endswith('>; rel="next"')


def test_a_cursor_that_no_page_gave_is_refused(lab: Client) -> None:
    cursors = ["nonsense", "é", make_cursor(), make_cursor("x", 1), make_cursor("0001-01-01T00:00:00+23:59", 1)]
    for path in (*LISTS, "/metadatasets"):
        for cursor in cursors:
            assert_refused(lab.get(path, params={"cursor": cursor}), 400, ("invalid_cursor", "cursor"))
        assert_refused(lab.get(path, params={"cursor": ""}), 400, ("invalid_parameter", "cursor"))


def test_a_page_has_1_to_1000_items(lab: Client) -> None:
    for path in LISTS:
        for limit in ("0", "1001", "-1"):
            assert_refused(lab.get(path, params={"limit": limit}), 400, ("out_of_range", "limit"))
        for limit in ("many", "1.5", ""):
            assert {field for _, field in codes(lab.get(path, params={"limit": limit}))} == {"limit"}
        assert lab.get(path, params={"limit": 1000}).status_int == 200


@pytest.mark.parametrize("path", LISTS)
def test_a_page_has_a_hundred_items_unless_said(lab: Client, path: str) -> None:
    insert = {
        "/staged/files": (
            "INSERT INTO files (site_id, user_id, name, checksum, state, upload_token_hash, upload_expires_at)"
            " SELECT 'F' || n, users.id, 'a', repeat('0', 32), 'announced', '', now()"
        ),
        "/staged/metadatasets": "INSERT INTO metadatasets (site_id, user_id, record) SELECT 'R' || n, users.id, '{}'",
        "/submissions": (
            "INSERT INTO submissions (site_id, user_id, group_id) SELECT 'S' || n, users.id, users.group_id"
        ),
    }[path]
    statement = f"{insert} FROM users, generate_series(1, 101) AS numbers (n) WHERE users.site_id = :user"
    with lab.portal.database.engine.begin() as connection:
        connection.execute(text(statement), {"user": lab.site_id})
    assert [len(page) for page in read_pages(lab, path)] == [100, 1]


@pytest.mark.parametrize("path", LISTS)
def test_many_rows_take_as_few_statements_as_one(lab: Client, path: str) -> None:
    counts = []
    for number in (1, 6):
        for _ in range(number):
            add_row(lab, path)
        with counted(lab.portal) as statements:
            lab.get(path)
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 4


# What is staged.


def test_staged_sets_are_those_of_the_owner_alone(portal: Portal, lab: Client) -> None:
    staged = lab.stage(ID="1")
    lab.submit([lab.stage(ID="2")])
    deleted = lab.stage(ID="3")
    lab.delete(f"/metadatasets/{deleted['id']['uuid']}")
    assert lab.get("/staged/metadatasets").json == [staged]
    for roles in ({}, {"group_admin": True}, {"site_admin": True, "site_read": True}):
        assert listed(portal.add_user("Lab A", **roles), "/staged/metadatasets") == []


def test_staged_files_are_those_of_the_owner_alone(portal: Portal, lab: Client) -> None:
    admin = portal.add_user("Office", site_admin=True)
    admin.add_field("File", isFile=True)
    announced, confirmed = announce(lab, name="1.fq"), lab.upload("2.fq", b"2")
    lab.submit([lab.stage(File="3.fq")], [lab.upload("3.fq", b"3")])
    lab.delete(f"/files/{announce(lab)['id']['uuid']}")
    shown = [lab.get(f"/files/{file['id']['uuid']}").json for file in (confirmed, announced)]
    assert lab.get("/staged/files").json == shown
    assert [(file["name"], file["contentUploaded"]) for file in shown] == [("2.fq", True), ("1.fq", False)]
    for roles in ({}, {"group_admin": True}, {"site_admin": True, "site_read": True}):
        assert listed(portal.add_user("Lab A", **roles), "/staged/files") == []


@pytest.mark.parametrize("state", ["new", "deleting"])
def test_a_file_that_is_not_there_yet_or_any_more_is_not_listed(lab: Client, state: str) -> None:
    announce(lab)
    with lab.portal.database.engine.begin() as connection:
        connection.execute(text("UPDATE files SET state = :state"), {"state": state})
    assert listed(lab, "/staged/files") == []


def test_a_file_of_a_services_answer_is_no_longer_staged(portal: Portal, lab: Client) -> None:
    admin = portal.add_user("Office", site_admin=True)
    service = admin.post("/services", {"name": "Analysis"}).json["id"]["uuid"]
    admin.put(f"/services/{service}", {"userIds": [lab.uuid]})
    admin.add_field("Report", isFile=True, serviceId=service)
    staged, report = lab.stage(ID="1"), lab.upload("report.pdf", b"%PDF")
    lab.submit([staged])
    assert listed(lab, "/staged/files") == [report["id"]["site"]]
    body = {"record": {"Report": "report.pdf"}, "fileIds": [report["id"]["uuid"]]}
    assert lab.post(f"/service-execution/{service}/{staged['id']['uuid']}", body).status_int == 200
    assert listed(lab, "/staged/files") == []


# What is submitted.


def test_submissions_are_those_of_the_group_or_all(portal: Portal, lab: Client) -> None:
    other, colleague = portal.add_user("Lab B"), portal.add_user("Lab A")
    mine, theirs = add_row(lab, "/submissions"), add_row(other, "/submissions")
    assert listed(lab, "/submissions") == listed(colleague, "/submissions") == [mine]
    assert listed(other, "/submissions") == [theirs]
    assert listed(portal.add_user("Office", site_admin=True), "/submissions") == []
    assert listed(portal.add_user("Office", site_read=True), "/submissions") == [theirs, mine]


def test_a_submission_stays_with_the_group_that_made_it(portal: Portal, lab: Client) -> None:
    site = add_row(lab, "/submissions")
    portal.add_user("Office", site_admin=True).put(f"/users/{lab.uuid}", {"groupId": portal.add_user("Lab B").group})
    assert listed(lab, "/submissions") == []
    assert_refused(lab.get(f"/submissions/{site}"), 403, ("forbidden", None))
    assert listed(portal.add_user("Lab A"), "/submissions") == [site]


def test_the_newest_submission_is_first_and_ties_are_in_order(lab: Client) -> None:
    second = submit_at(lab, "2030-02-01T00:00:00+00:00")
    tied = [submit_at(lab, "2030-01-01T00:00:00.000001+00:00") for _ in range(3)]
    last = submit_at(lab, "2030-01-01T00:00:00+00:00")
    first = submit_at(lab, "2030-03-01T00:00:00+00:00")
    expected = [first, second, *tied[::-1], last]
    assert listed(lab, "/submissions") == expected
    assert [site for [item] in read_pages(lab, "/submissions", limit=1) for site in sites([item])] == expected


def test_submissions_of_one_group(portal: Portal, lab: Client) -> None:
    other, reader = portal.add_user("Lab B"), portal.add_user("Office", site_read=True)
    mine = [add_row(lab, "/submissions") for _ in range(3)]
    add_row(other, "/submissions")
    group = lab.get(f"/groups/{lab.group}").json["id"]
    for group_id in (group["uuid"], group["uuid"].upper(), group["site"]):
        assert listed(reader, "/submissions", groupId=group_id) == listed(lab, "/submissions", groupId=group_id)
        pages = read_pages(reader, "/submissions", groupId=group_id, limit=2)
        assert [sites(page) for page in pages] == [mine[:0:-1], mine[:1]]
    assert listed(other, "/submissions", groupId=lab.group) == []
    for group_id in (UNKNOWN, "nothing"):
        answer = reader.get("/submissions", params={"groupId": group_id})
        assert_refused(answer, 400, ("not_found", "groupId"))
        assert answer.json[0]["entity"] == {"uuid": group_id, "site": group_id}


def test_a_submission_is_counted_and_told_whole(portal: Portal, lab: Client) -> None:
    portal.add_user("Office", site_admin=True).add_field("File", isFile=True)
    sets = [lab.stage(ID=str(number), File="a.fq" if number == 0 else None) for number in range(3)]
    files = [lab.upload("a.fq", b"a")]
    submitted = lab.submit(sets, files, label="first").json
    add_row(lab, "/submissions")
    detail = lab.get(f"/submissions/{submitted['id']['uuid']}").json
    by_whom = {
        "groupId": lab.get(f"/groups/{lab.group}").json["id"],
        "userId": {"uuid": lab.uuid, "site": lab.site_id},
        "submittedAt": detail["submittedAt"],
    }
    assert datetime.fromisoformat(detail["submittedAt"]).utcoffset() is not None
    assert detail == {**submitted, **by_whom}
    assert [item["site"] for item in detail["metadatasetIds"]] == sites(sets)
    assert detail["fileIds"] == [files[0]["id"]]
    [newest, summary] = lab.get("/submissions").json
    counts = {"metadatasetCount": 3, "fileCount": 1}
    assert summary == {"id": submitted["id"], "label": "first", **by_whom, **counts}
    assert (newest["label"], newest["metadatasetCount"], newest["fileCount"]) == (None, 1, 0)


def test_a_submission_is_for_its_group_and_site_readers(portal: Portal, lab: Client) -> None:
    uuid = lab.submit([lab.stage(ID="1")]).json["id"]["uuid"]
    site = listed(lab, "/submissions")[0]
    for client in (lab, portal.add_user("Lab A"), portal.add_user("Lab B", site_read=True)):
        for submission_id in (uuid, uuid.upper(), site):
            assert client.get(f"/submissions/{submission_id}").json["id"] == {"uuid": uuid, "site": site}
    for client in (portal.add_user("Lab B"), portal.add_user("Office", site_admin=True, group_admin=True)):
        for submission_id in (uuid, site):
            assert_refused(client.get(f"/submissions/{submission_id}"), 403, ("forbidden", None))
    for submission_id in (UNKNOWN, "nothing", lab.site_id, lab.uuid):
        assert_refused(lab.get(f"/submissions/{submission_id}"), 404, ("not_found", None))
    assert_refused(portal.anonymous().get(f"/submissions/{uuid}"), 401, ("unauthenticated", None))


def test_a_submission_with_many_sets_takes_few_statements(lab: Client) -> None:
    site = lab.submit([lab.stage(ID="1") for _ in range(10)]).json["id"]["site"]
    with counted(lab.portal) as statements:
        assert len(lab.get(f"/submissions/{site}").json["metadatasetIds"]) == 10
    assert len(statements) <= 6


@pytest.mark.parametrize("most", [1, 3, 4, 7, 100])
def test_all_submissions_of_a_group_are_streamed_as_they_are_read_at_once(
    portal: Portal, lab: Client, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    sent = [lab.submit([lab.stage(ID="1") for _ in range(count)], label=str(count)).json for count in (1, 3, 2)]
    path = f"/groups/{lab.group}/submissions"
    assert lab.get(path).json == sent
    monkeypatch.setattr(submissions, "PAGE_MEMBERS", most)
    with counted(portal) as statements:
        answer = lab.get(path)
    assert (answer.status_int, answer.content_type, answer.json) == (200, "application/json", sent)
    # Submissions with a set, three and two: in pages of ``most`` sets and submissions, but one at least.
    pages = {1: 3, 3: 3, 4: 3, 7: 2, 100: 1}[most]
    assert sum("json_agg" in statement for statement in statements) == pages


def test_a_group_without_submissions_has_an_empty_list(lab: Client) -> None:
    assert lab.get(f"/groups/{lab.group}/submissions").json == []
