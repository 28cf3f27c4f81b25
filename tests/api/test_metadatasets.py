"""Metadatasets: staged for their owner alone, read by those who may, and listed whole, once each."""

import json
import re
from datetime import datetime
from typing import Any

import pytest
import webtest
from openapi_schema_validator import OAS31Validator
from sqlalchemy import text

from datameta.api import load_spec
from datameta.logic import metadatasets
from tests.conftest import API, BASE_URL, Client, Portal, assert_refused, codes, counted

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def admin(portal: Portal) -> Client:
    return portal.add_user("Office", site_admin=True)


@pytest.fixture
def lab(portal: Portal) -> Client:
    return portal.add_user("Lab A")


def submit_at(client: Client, instant: str, *sets: dict[str, Any]) -> list[str]:
    """Submit sets as if it were that instant; return their site ids."""
    submitted = client.submit(list(sets)).json
    with client.portal.database.engine.begin() as connection:
        connection.execute(
            text("UPDATE submissions SET submitted_at = :instant WHERE site_id = :submission"),
            {"instant": datetime.fromisoformat(instant), "submission": submitted["id"]["site"]},
        )
    return [item["site"] for item in submitted["metadatasetIds"]]


def list_sites(client: Client, **query: Any) -> list[str]:
    """Return the site ids of the sets that a query finds, in order; none if it answers 404."""
    answer = client.get("/metadatasets", params=query)
    if answer.status_int == 404:
        assert codes(answer) == {("nothing_found", None)}
        return []
    assert answer.status_int == 200, answer.body
    return [item["id"]["site"] for item in answer.json]


def follow_links(client: Client, **query: Any) -> list[list[Any]]:
    """Read page after page as the Link header says; return the pages."""
    pages, path = [], "/metadatasets"
    while path:
        answer = client.get(path, params=query)
        assert answer.status_int == 200, answer.body
        pages.append(answer.json)
        link = re.fullmatch(r'<(.+)>; rel="next"', answer.headers.get("Link", ""))
        path, query = (link[1].removeprefix(BASE_URL + API) if link else ""), {}
    return pages


# Staging.


def test_staging_echoes_every_field_of_no_service(admin: Client, lab: Client) -> None:
    service = admin.post("/services", {"name": "Analysis"}).json["id"]["uuid"]
    admin.add_field("B", order=2)
    admin.add_field("A", order=1)
    admin.add_field("File", isFile=True, order=3)
    admin.add_field("Theirs", serviceId=service)
    staged = lab.post("/metadatasets", {"record": {"B": 1}})
    assert staged.status_int == 200
    assert staged.json == {
        "record": {"A": None, "B": "1", "File": None},
        "fileIds": {"File": None},
        "serviceExecutions": None,
        "id": staged.json["id"],
        "submissionId": None,
        "userId": {"uuid": lab.uuid, "site": lab.site_id},
    }
    assert staged.json["id"]["site"].startswith("DMR-")
    for key in ("uuid", "site"):
        assert lab.get(f"/metadatasets/{staged.json['id'][key]}").json == staged.json


def test_every_problem_of_a_record_is_told(admin: Client, lab: Client) -> None:
    service = admin.post("/services", {"name": "Analysis"}).json["id"]["uuid"]
    admin.add_field("Must", isMandatory=True)
    admin.add_field("Digits", regExp="[0-9]+", regexDescription="Digits only.")
    admin.add_field("Date", dateTimeFmt="%Y-%m-%d")
    admin.add_field("Theirs", serviceId=service)
    admin.add_field("Free")
    refused = lab.post(
        "/metadatasets",
        {"record": {"Digits": "12\n", "Date": "2025-02-30", "Theirs": "x", "Nonsense": "x", "Free": ["x"]}},
    )
    assert refused.status_int == 400
    assert codes(refused) == {
        ("mandatory_missing", "Must"),
        ("regex_mismatch", "Digits"),
        ("date_mismatch", "Date"),
        ("service_field", "Theirs"),
        ("unknown_field", "Nonsense"),
        ("wrong_type", "Free"),
    }
    assert "Digits only." in {problem["message"] for problem in refused.json}


# Who may see and delete one.


def test_a_staged_set_is_its_owners_alone(portal: Portal, admin: Client, lab: Client) -> None:
    path = f"/metadatasets/{lab.stage()['id']['site']}"
    others = [admin, portal.add_user("Lab A", group_admin=True), portal.add_user("Office", site_read=True)]
    for other in others:
        assert other.get(path).status_int == 403
        assert other.delete(path).status_int == 403
    assert lab.get(path).status_int == 200
    assert lab.delete(path).status_int == 204
    for who in (lab, *others):
        assert who.get(path).status_int == 404
        assert who.delete(path).status_int == 404


def test_a_submitted_set_is_for_its_group_and_site_read(portal: Portal, admin: Client, lab: Client) -> None:
    staged = lab.stage()
    lab.submit([staged])
    path = f"/metadatasets/{staged['id']['uuid'].upper()}"
    colleague, reader = portal.add_user("Lab A"), portal.add_user("Office", site_read=True)
    for who, status in ((lab, 200), (colleague, 200), (reader, 200), (admin, 403), (portal.add_user("Lab B"), 403)):
        assert who.get(path).status_int == status
    for who, exception in (
        (lab, "ResourceNotModifiableError"),
        (colleague, "ForbiddenError"),
        (reader, "ForbiddenError"),
    ):
        refused = who.delete(path)
        assert refused.status_int == 403
        assert [(problem["exception"], problem["entity"]) for problem in refused.json] == [(exception, staged["id"])]


@pytest.mark.parametrize("unknown", [UNKNOWN, "DMR-00000000", "0", "%25", "%C3%BC", "' OR 1=1"])
def test_an_unknown_id_is_404(lab: Client, unknown: str) -> None:
    assert lab.get(f"/metadatasets/{unknown}").status_int == 404
    assert lab.delete(f"/metadatasets/{unknown}").status_int == 404


def test_many_are_deleted_all_or_none(portal: Portal, lab: Client) -> None:
    mine, foreign = [lab.stage() for _ in range(3)], portal.add_user("Lab A").stage()
    submitted = lab.stage()
    lab.submit([submitted])

    def delete(*ids: str) -> Any:
        return lab.post("/rpc/delete-metadatasets", {"metadatasetIds": list(ids)})

    kept = [item["id"]["uuid"] for item in mine]
    unknown = delete(*kept, UNKNOWN, "DMR-x", UNKNOWN, foreign["id"]["site"], submitted["id"]["site"])
    assert unknown.status_int == 404
    assert [problem["entity"] for problem in unknown.json] == [{"uuid": i, "site": i} for i in (UNKNOWN, "DMR-x")]
    refused = delete(*kept, foreign["id"]["site"], submitted["id"]["site"])
    assert refused.status_int == 403
    assert [problem["entity"] for problem in refused.json] == [foreign["id"]]
    refused = delete(*kept, submitted["id"]["site"])
    assert refused.status_int == 403
    assert [problem["exception"] for problem in refused.json] == ["ResourceNotModifiableError"]
    assert [problem["entity"] for problem in refused.json] == [submitted["id"]]
    assert all(lab.get(f"/metadatasets/{i}").status_int == 200 for i in kept)
    done = delete(kept[0], mine[0]["id"]["site"], *kept)
    assert (done.status_int, done.body) == (204, b"")
    assert all(lab.get(f"/metadatasets/{i}").status_int == 404 for i in kept)
    assert delete().status_int == 204


# The query.


def test_only_submitted_sets_are_listed(lab: Client) -> None:
    lab.stage()
    assert list_sites(lab) == []
    submitted = lab.stage()
    lab.submit([submitted])
    assert list_sites(lab) == [submitted["id"]["site"]]


def test_one_sees_the_group_and_with_site_read_all(portal: Portal, admin: Client, lab: Client) -> None:
    other = portal.add_user("Lab B")
    first, second = lab.stage(), other.stage()
    lab.submit([first])
    other.submit([second])
    one, two = first["id"]["site"], second["id"]["site"]
    assert list_sites(lab) == list_sites(portal.add_user("Lab A")) == [one]
    assert list_sites(other) == [two]
    assert list_sites(admin) == []
    assert list_sites(portal.add_user("Office", site_read=True)) == [one, two]


def test_the_bounds_of_time_are_exclusive(lab: Client) -> None:
    sites = [
        site
        for instant in ("2025-06-01T12:00:00+00:00", "2025-06-01T12:00:00.000001+00:00", "2025-06-02T00:00:00+00:00")
        for site in submit_at(lab, instant, lab.stage())
    ]
    for bound, before, after in (
        ("2025-06-01T12:00:00+00:00", [], sites[1:]),
        ("2025-06-01T12:00:00Z", [], sites[1:]),
        ("2025-06-01T14:00:00+02:00", [], sites[1:]),
        ("2025-06-01T08:30:00-0330", [], sites[1:]),
        ("2025-06-01T12:00:00", [], sites[1:]),
        ("2025-06-01T12:00:00.000001", sites[:1], sites[2:]),
        ("2025-06-02", sites[:2], []),
        ("2025-06-02T00:00:00.000001Z", sites, []),
        ("0001-01-01T00:00:00Z", [], sites),
        ("9999-12-31T23:59:59Z", sites, []),
    ):
        assert list_sites(lab, submittedBefore=bound) == before
        assert list_sites(lab, submittedAfter=bound) == after
    between = {"submittedAfter": "2025-06-01T12:00:00Z", "submittedBefore": "2025-06-02T00:00:00Z"}
    assert list_sites(lab, **between) == sites[1:2]
    # A plus sign that was not escaped arrives as a space.
    plain = lab.get("/metadatasets?submittedAfter=2025-06-01T14:00:00+02:00")
    assert [item["id"]["site"] for item in plain.json] == sites[1:]


@pytest.mark.parametrize(
    "bad", ["", "yesterday", "2025-02-30", "2025-01-01T25:00:00", "1", "0001-01-01T00:00:00+14:00"]
)
def test_a_bad_date_is_named(lab: Client, bad: str) -> None:
    for name in ("submittedAfter", "submittedBefore"):
        refused = lab.get("/metadatasets", params={name: bad})
        assert refused.status_int == 400
        assert {field for _, field in codes(refused)} == {name}
    refused = lab.get("/metadatasets", params={"submittedAfter": "x", "submittedBefore": "y"})
    assert codes(refused) == {("invalid_date", "submittedAfter"), ("invalid_date", "submittedBefore")}


def test_awaiting_is_asked_by_users_of_the_service_and_site_read(portal: Portal, admin: Client, lab: Client) -> None:
    bot, reader = portal.add_user("Lab A"), portal.add_user("Office", site_read=True)
    services = [admin.post("/services", {"name": name}).json["id"] for name in "ab"]
    for service in services:
        admin.put(f"/services/{service['uuid']}", {"userIds": [bot.uuid]})
    foreign, other = portal.add_user("Lab B"), None
    other = foreign.stage()
    foreign.submit([other])
    first, second = lab.stage(), lab.stage()
    old = submit_at(lab, "2025-06-01T00:00:00Z", first)
    new = submit_at(lab, "2025-06-02T00:00:00Z", second)
    for key in ("uuid", "site"):
        assert list_sites(bot, awaitingService=services[0][key]) == old + new
        assert list_sites(reader, awaitingService=services[0][key]) == old + new + [other["id"]["site"]]
    body = {"record": {}, "fileIds": []}
    assert bot.post(f"/service-execution/{services[0]['site']}/{old[0]}", body).status_int == 200
    assert list_sites(bot, awaitingService=services[0]["uuid"]) == new
    assert list_sites(bot, awaitingService=services[1]["uuid"]) == old + new
    # Every condition must hold.
    assert list_sites(bot, awaitingService=services[0]["site"], submittedBefore="2025-06-02") == []
    assert list_sites(bot, awaitingService=services[0]["site"], submittedAfter="2025-06-01T12:00") == new
    for stranger in (lab, admin, foreign):
        refused = stranger.get("/metadatasets", params={"awaitingService": services[0]["uuid"]})
        assert refused.status_int == 400
        assert codes(refused) == {("not_a_service_user", "awaitingService")}
    for unknown in (UNKNOWN, "DMP-x", lab.site_id):
        refused = reader.get("/metadatasets", params={"awaitingService": unknown})
        assert refused.status_int == 400
        assert codes(refused) == {("not_found", "awaitingService")}
        assert refused.json[0]["entity"] == {"uuid": unknown, "site": unknown}


def add_many(portal: Portal, admin: Client, lab: Client) -> int:
    """Submit sets in several submissions, some of one instant, with a file and a service's answer."""
    bot = portal.add_user("Lab A")
    service = admin.post("/services", {"name": "Analysis"}).json["id"]["uuid"]
    admin.put(f"/services/{service}", {"userIds": [bot.uuid]})
    admin.add_field("ID")
    admin.add_field("File", isFile=True)
    admin.add_field("Report", isFile=True, serviceId=service)
    for number, instant in enumerate(("2025-06-01", "2025-06-02", "2025-06-01", "2025-05-01")):
        submit_at(lab, f"{instant}T00:00:00Z", *[lab.stage(ID=f"{number}-{place}") for place in range(3)])
    last = lab.stage(ID="last", File="a.fq")
    lab.submit([last], [lab.upload("a.fq", b"a")])
    report = bot.upload("r.txt", b"r")["id"]["uuid"]
    path = f"/service-execution/{service}/{last['id']['site']}"
    assert bot.post(path, {"record": {"Report": "r.txt"}, "fileIds": [report]}).status_int == 200
    return 13


def test_pages_hold_everything_exactly_once(portal: Portal, admin: Client, lab: Client) -> None:
    total = add_many(portal, admin, lab)
    everything = lab.get("/metadatasets")
    assert "Link" not in everything.headers
    assert len({item["id"]["site"] for item in everything.json}) == total
    for limit in (1, 2, 5, 12, 13, 1000):
        pages = follow_links(lab, limit=limit)
        assert [item for page in pages for item in page] == everything.json
        assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)
        assert len(pages) == -(-total // limit)
    # The conditions go with the link.
    query = {"submittedAfter": "2025-05-31T23:00:00+01:00", "submittedBefore": "2025-06-02"}
    found = list_sites(lab, **query)
    assert len(found) == 6
    assert [item["id"]["site"] for page in follow_links(lab, limit=4, **query) for item in page] == found


@pytest.mark.parametrize("page_size", [1, 2, 6, 12, 13])
def test_everything_is_streamed_as_it_would_be_paged(
    portal: Portal, admin: Client, lab: Client, monkeypatch: pytest.MonkeyPatch, page_size: int
) -> None:
    total = add_many(portal, admin, lab)
    reader = portal.add_user("Office", site_read=True)
    expected = [reader.get("/metadatasets", params={"limit": 1000}), lab.get("/metadatasets", params={"limit": 1000})]
    monkeypatch.setattr(metadatasets, "PAGE_SIZE", page_size)
    for client, paged in zip((reader, lab), expected, strict=True):
        streamed = client.get("/metadatasets")
        assert streamed.status_int == 200
        assert streamed.content_type == "application/json"
        assert streamed.headers["Cache-Control"] == "no-store"
        assert streamed.json == paged.json
        assert len(streamed.json) == total
        spec = load_spec()
        schema = {"$ref": "#/components/schemas/MetaDataSetList", "components": spec["components"]}
        assert list(OAS31Validator(schema).iter_errors(streamed.json)) == []
    head = lab.request("head", "/metadatasets")
    assert (head.status_int, head.body) == (200, b"")


def test_a_page_is_read_when_the_reader_has_taken_the_one_before(
    portal: Portal, admin: Client, lab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = add_many(portal, admin, lab)
    monkeypatch.setattr(metadatasets, "PAGE_SIZE", 5)
    request = webtest.TestRequest.blank(f"{API}/metadatasets", headers={"Authorization": f"Bearer {lab.token}"})
    status, headers, pieces = request.call_application(portal.app.app)
    assert status == "200 OK"
    assert "Content-Length" not in dict(headers)
    parts = []
    with counted(portal) as statements:
        for piece in pieces:
            parts.append((json.loads(b"[" + piece.lstrip(b"[,").rstrip(b"]") + b"]"), len(statements)))
            # Between the pages a slow reader holds no connection.
            assert portal.database.engine.pool.checkedout() == 0
    pieces.close()
    assert [len(sets) for sets, _ in parts] == [5, 5, 3, 0]
    assert sum(len(sets) for sets, _ in parts) == total
    assert [count for _, count in parts] == [0, 1, 2, 2]


def test_sets_that_vanish_while_they_are_read_leave_valid_json(
    portal: Portal, admin: Client, lab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        lab.submit([lab.stage()])
    monkeypatch.setattr(metadatasets, "PAGE_SIZE", 2)
    request = webtest.TestRequest.blank(f"{API}/metadatasets", headers={"Authorization": f"Bearer {lab.token}"})
    _, _, pieces = request.call_application(portal.app.app)
    body = next(iter(pieces))
    with portal.database.engine.begin() as connection:
        connection.execute(text("DELETE FROM metadatasets"))
    assert len(json.loads(body + b"".join(pieces))) == 2


def test_a_cursor_goes_on_without_a_limit(portal: Portal, admin: Client, lab: Client) -> None:
    add_many(portal, admin, lab)
    first = lab.get("/metadatasets", params={"limit": 4})
    cursor = re.search(r"cursor=([^&>]+)", first.headers["Link"])
    assert cursor
    rest = lab.get(f"/metadatasets?cursor={cursor[1]}")
    assert first.json + rest.json == lab.get("/metadatasets").json


@pytest.mark.parametrize(
    "cursor", ["", "x", "ü", "MQ==", "MjAyNS0wNi0wMSAx", "bm93IDE=", "MjAyNS0wNi0wMVQwMDowMFogLTE="]
)
def test_a_cursor_not_made_here_is_refused(lab: Client, cursor: str) -> None:
    refused = lab.get("/metadatasets", params={"limit": 1, "cursor": cursor})
    assert refused.status_int == 400
    assert {field for _, field in codes(refused)} == {"cursor"}


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "x", "", "1.5", "9" * 500])
def test_a_bad_limit_is_named(lab: Client, limit: str) -> None:
    refused = lab.get("/metadatasets", params={"limit": limit})
    assert refused.status_int == 400
    assert {field for _, field in codes(refused)} == {"limit"}


# Service fields.


def test_service_fields_are_for_site_read_and_users_of_that_service(portal: Portal, admin: Client, lab: Client) -> None:
    bot, other_bot = portal.add_user("Lab A"), portal.add_user("Lab A")
    colleague, reader = portal.add_user("Lab A"), portal.add_user("Office", site_read=True)
    services = []
    for name, user in (("One", bot), ("Two", other_bot)):
        services.append(admin.post("/services", {"name": name}).json["id"]["uuid"])
        admin.put(f"/services/{services[-1]}", {"userIds": [user.uuid]})
    admin.add_field("ID", order=0)
    admin.add_field("Text", serviceId=services[0], order=1)
    admin.add_field("Report", isFile=True, serviceId=services[0], order=2)
    admin.add_field("Other", serviceId=services[1], order=3)
    staged = lab.stage(ID="1")
    lab.submit([staged])

    def show(client: Client) -> dict[str, Any]:
        one: dict[str, Any] = client.get(f"/metadatasets/{staged['id']['uuid']}").json
        assert client.get("/metadatasets").json == [one]
        return one

    for who, executions, files in (
        (lab, None, {}),
        (colleague, None, {}),
        (bot, {"Text": None, "Report": None}, {"Report": None}),
        (other_bot, {"Other": None}, {}),
        (reader, {"Text": None, "Report": None, "Other": None}, {"Report": None}),
    ):
        shown = show(who)
        assert (shown["record"], shown["serviceExecutions"], shown["fileIds"]) == ({"ID": "1"}, executions, files)

    report = bot.upload("r.txt", b"r")["id"]
    body = {"record": {"Text": "secret", "Report": "r.txt"}, "fileIds": [report["uuid"]]}
    bot.post(f"/service-execution/{services[0]}/{staged['id']['uuid']}", body, status=200)
    answered = {"ID": "1", "Text": "secret", "Report": "r.txt"}
    for who, record, executed, files in (
        (lab, {"ID": "1"}, None, {}),
        (colleague, {"ID": "1"}, None, {}),
        (bot, answered, {"Text": True, "Report": True}, {"Report": report}),
        (other_bot, {"ID": "1"}, {"Other": False}, {}),
        (reader, answered, {"Text": True, "Report": True, "Other": False}, {"Report": report}),
    ):
        shown = show(who)
        assert shown["record"] == record
        executions = shown["serviceExecutions"]
        assert (executions and {name: value is not None for name, value in executions.items()}) == executed
        assert shown["fileIds"] == files
        assert who.get(f"/files/{report['uuid']}").status_int == (200 if files else 403)
    assert b"secret" not in lab.get("/metadatasets").body


def test_a_user_of_the_service_may_stage_and_sees_its_fields_empty(portal: Portal, admin: Client) -> None:
    bot = portal.add_user()
    service = admin.post("/services", {"name": "One"}).json["id"]["uuid"]
    admin.put(f"/services/{service}", {"userIds": [bot.uuid]})
    admin.add_field("Text", serviceId=service)
    assert bot.stage()["serviceExecutions"] == {"Text": None}
    refused = bot.post("/metadatasets", {"record": {"Text": "x"}})
    assert (refused.status_int, codes(refused)) == (400, {("service_field", "Text")})


# What it costs.


def test_the_number_of_statements_does_not_grow_with_the_list(portal: Portal, admin: Client, lab: Client) -> None:
    add_many(portal, admin, lab)
    counts = []
    for limit in (1, 2, 13):
        with counted(portal) as statements:
            assert len(lab.get("/metadatasets", params={"limit": limit}).json) == limit
        counts.append(len(statements))
    assert len(set(counts)) == 1
    assert counts[0] < 10


def test_the_number_of_statements_does_not_grow_with_the_definitions(
    portal: Portal, admin: Client, lab: Client
) -> None:
    # The first use of a key in a day is noted.
    lab.get("/rpc/whoami")
    counts = []
    for number in range(20):
        admin.add_field(f"F{number}", isSiteUnique=True, isFile=number % 2 == 0)
        with counted(portal) as statements:
            lab.stage(**{f"F{number}": "x"})
        counts.append(len(statements))
    assert len(set(counts)) == 1
    assert counts[0] < 10


def test_a_staged_set_changes_in_place(portal: Portal) -> None:
    admin, lab = portal.add_user("Office", site_admin=True), portal.add_user("Lab A")
    admin.add_field("A", dateTimeFmt="%d.%m.%Y")
    admin.add_field("B", isMandatory=True)
    admin.add_field("C")
    staged = lab.stage(A="1.2.2024", B="x", C="y")
    for identifier in staged["id"].values():
        answer = lab.put(f"/metadatasets/{identifier}", {"record": {"B": "z", "C": None, "A": "03.02.2024"}})
        assert answer.status_int == 200
        assert answer.json == {**staged, "record": {"A": "03.02.2024", "B": "z", "C": None}}
        assert lab.get(f"/metadatasets/{identifier}").json == answer.json
    events = [event for event in admin.get("/audit").json if event["event"] == "metadataset.changed"]
    assert [(event["entityId"], event["before"], event["after"]) for event in events] == [
        (staged["id"], None, {"fields": ["A", "B", "C"]})
    ]


def test_a_changed_set_is_checked_as_a_new_one(portal: Portal) -> None:
    admin, lab = portal.add_user("Office", site_admin=True), portal.add_user("Lab A")
    admin.add_field("A", regExp="[0-9]+", isMandatory=True)
    staged = lab.stage(A="1")
    path = f"/metadatasets/{staged['id']['site']}"
    for record in ({"A": "x", "Else": "y"}, {}, {"A": ["1"]}, {"A": "1", "B": 2}):
        refused = lab.put(path, {"record": record})
        assert refused.status_int == 400
        assert refused.json == lab.post("/metadatasets", {"record": record}).json
    assert lab.get(path).json == staged


def test_only_the_owner_changes_a_set_and_only_while_it_is_staged(portal: Portal) -> None:
    portal.add_user("Office", site_admin=True).add_field("A")
    lab, colleague = portal.add_user("Lab A"), portal.add_user("Lab A", group_admin=True)
    staged = lab.stage(A="1")
    path, body = f"/metadatasets/{staged['id']['uuid']}", {"record": {"A": "2"}}
    assert_refused(colleague.put(path, body), 403, ("forbidden", None))
    assert_refused(lab.put("/metadatasets/DMR-00000000", body), 404, ("not_found", None))
    assert lab.submit([staged]).status_int == 200
    refused = lab.put(path, body)
    assert_refused(refused, 403, ("not_modifiable", None))
    assert refused.json[0]["exception"] == "ResourceNotModifiableError"
    assert refused.json[0]["entity"] == staged["id"]
    assert_refused(colleague.put(path, body), 403, ("forbidden", None))
    assert lab.get(path).json["record"] == {"A": "1"}
