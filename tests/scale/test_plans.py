"""Lists, searches and submissions look at what they give, never at all there is: each statement as the portal sends it.

``DATAMETA_SCALE_SETS`` says among how many sets, see ``make test-scale``.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, event, make_url, text
from sqlalchemy.pool import NullPool

from datameta import migrations
from datameta.database import Database
from datameta.logic.sweep import sweep
from datameta.paging import make_cursor
from datameta.settings import Settings
from datameta.storage import open_storage
from tests.conftest import BASE_URL, Client, Portal
from tests.scale.fill import SETS_OF_A_SUBMISSION, define, fill

SETS = int(os.environ.get("DATAMETA_SCALE_SETS", "50000"))
MOST_ROWS = 25_000
"""So many rows of one of the big tables a statement may look at, however many there are."""
BIG = {
    *("metadatasets", "files", "file_references", "unique_claims", "service_executions"),
    *("audit_events", "audit_seals"),
}


@dataclass
class Site:
    """A site that has run for years: somebody of a lab, a site reader, a site admin and a service's user."""

    portal: Portal
    admin: Client
    lab: Client
    reader: Client
    bot: Client
    service: str


@pytest.fixture(scope="module")
def site(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    server = create_engine(database_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text("CREATE DATABASE scale"))
    url = make_url(database_url).set(database="scale").render_as_string(hide_password=False)
    migrations.upgrade(url)
    database = Database(url)
    settings = Settings(home=tmp_path_factory.mktemp("scale"), base_url=BASE_URL, bcrypt_cost=4)
    portal = Portal(database, settings, open_storage(settings))
    admin = portal.add_user("Office", site_admin=True)
    service = define(lambda path, body: admin.post(path, body).json)
    with psycopg.connect(url.replace("+psycopg", "")) as filled:
        fill(filled, sets=SETS)
    lab, bot, reader = portal.add_user("Lab 07"), portal.add_user("Lab 07"), portal.add_user("Office", site_read=True)
    admin.put(f"/services/{service}", {"userIds": [bot.uuid]})
    yield Site(portal, admin, lab, reader, bot, service)
    database.dispose()
    with server.connect() as connection:
        connection.execute(text("DROP DATABASE scale WITH (FORCE)"))


@contextmanager
def explained(portal: Portal) -> Iterator[list[str]]:
    """Yield the list of what is wrong with the plans of the statements that are sent to the database meanwhile."""
    found: list[str] = []
    with portal.database.engine.connect() as connection:
        beside = connection.connection.cursor()

        def explain(sent: Any, cursor: Any, statement: str, parameters: Any, *more: Any) -> None:
            if cursor is beside or not re.match("SELECT|WITH|UPDATE|DELETE|INSERT", statement) or more[-1]:
                return
            # What changes or locks something is not carried out a second time.
            is_run = re.match("SELECT|WITH", statement) and " FOR " not in statement
            options = "ANALYZE, TIMING OFF, FORMAT JSON" if is_run else "FORMAT JSON"
            beside.execute(f"EXPLAIN ({options}) {statement}", parameters)
            [[[explanation]]] = beside.fetchall()
            problems = find_problems(explanation["Plan"])
            found.extend(f"{problem}\n{statement}\n{parameters}" for problem in problems)

        event.listen(portal.database.engine, "before_cursor_execute", explain)
        try:
            yield found
        finally:
            event.remove(portal.database.engine, "before_cursor_execute", explain)


def find_problems(plan: dict[str, Any]) -> Iterator[str]:
    """Yield where a plan goes through a big table, or sorts what it has of one.

    A statement that was carried out tells how far it went; of others it counts that they would go through all.
    """
    children = plan.get("Plans", [])
    table = plan.get("Relation Name")
    if table in BIG:
        if plan["Node Type"] == "Seq Scan" and "Actual Rows" not in plan:
            yield f"all rows of {table} are read"
        removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
        read = (plan.get("Actual Rows", 0) + removed) * plan.get("Actual Loops", 0)
        if read > MOST_ROWS:
            yield f"{read:,} rows of {table} are looked at"
    if "pieces" in plan.get("Filter", ""):
        yield "all pieces of blocks are read"
    if plan["Node Type"].endswith("Sort"):
        [child] = children
        rows = child.get("Actual Rows", 0) * child.get("Actual Loops", 0)
        if rows > MOST_ROWS and BIG & set(list_tables(plan)):
            yield f"{rows:,} rows are sorted"
    for child in children:
        yield from find_problems(child)


def list_tables(plan: dict[str, Any]) -> Iterator[str]:
    """Yield the tables that a plan reads."""
    if "Relation Name" in plan:
        yield plan["Relation Name"]
    for child in plan.get("Plans", []):
        yield from list_tables(child)


def ask(client: Client, path: str, **query: Any) -> Any:
    """Ask for a page and check how its statements were carried out; return it."""
    with explained(client.portal) as problems:
        answer = client.get(path, params=[(name, one) for name, given in query.items() for one in as_list(given)])
    assert answer.status_int == 200, answer.body
    assert not problems, "\n\n".join(problems)
    return answer.json


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


TEXTS = {
    "an id": "0012345_r1",
    "a part of ids": "01234",
    "digits": "345",
    "a word that many have": "illumina",
    "a word that few have": "Contaminated",
    "a word that nobody has": "zyxwvut",
    "two characters that nobody has": "qx",
    "a character": "7",
    "a day": "14.03.2021",
    "a month": "03.2021",
    "a year": "2021",
    "a submission's label": "run 42",
    "a submission's id": "SCALE-S4",
    "a set's id": "scale-00",
    "what a service has said of many": "passed",
    "what a service has said of few": "withdrawn",
    "what a service has said of one": "ERS0097",
}
WHERE = {
    "is an id": "Lab-ID==L06-0000601",
    "is part of an id": "Reads=0601_",
    "is what many have": "Platform==Illumina MiSeq",
    "is what few have": "Country==FR",
    "holds what few have": "Comment=transit",
    "is what nobody has": "Country==XX",
    "is a day": "Sampling date==14.03.2021",
    "holds a day": "Sampling date=14.03.",
    "holds a year": "Sampling date=2021",
    "has a value": "Comment=",
    "has none": "Comment==",
    "has none, which is mandatory": "Lab-ID==",
}
ANSWERED = {
    "holds what a service has said of one": "Accession=ERS0097",
    "is what a service has said of few": "Verdict==withdrawn",
    "is what a service has said of many": "Verdict==passed",
}


@pytest.mark.parametrize("who", ["lab", "reader", "bot"])
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_is_searched_for_in_some_sets(site: Site, who: str, text: str) -> None:
    client = getattr(site, who)
    page = ask(client, "/search", q=text)
    while page["next"] is not None and page["total"] < 300:
        page = ask(client, "/search", q=text, cursor=page["next"])


@pytest.mark.parametrize("where", [*WHERE.values(), *ANSWERED.values()], ids=[*WHERE, *ANSWERED])
def test_a_field_is_searched_in_some_sets(site: Site, where: str) -> None:
    for client in [site.bot, site.reader] if where in ANSWERED.values() else [site.lab, site.reader]:
        page = ask(client, "/search", where=where)
        if page["next"] is not None:
            ask(client, "/search", where=where, cursor=page["next"])
    if where in ANSWERED.values():
        return
    ask(site.reader, "/search", where=[where, "Platform=i"], q="l")


@pytest.mark.parametrize("who", ["lab", "reader"])
@pytest.mark.parametrize("sort", ["submitted", "-submitted", "id", "-id", "group", "-group"])
def test_what_is_sorted_is_read_as_far_as_it_is_shown(site: Site, who: str, sort: str) -> None:
    client = getattr(site, who)
    places = {
        "submitted": ("2020-01-01T20:00:00+00:00", SETS // 2),
        "id": ("SCALE-50000000", SETS // 2),
        "group": ("lab 07", SETS // 2),
    }
    for cursor in ({}, {"cursor": make_cursor(*places[sort.removeprefix("-")])}):
        page = ask(client, "/search", sort=sort, **cursor)
        assert len(page["rows"]) == 50
        assert page["moreThanTotal"] == (min(SETS, 10_001) > 10_000 if who == "reader" else SETS // 50 > 10_000)


@pytest.mark.parametrize("sort", ["field:Lab-ID", "-field:Read count", "field:Sampling date"])
def test_a_group_sorts_its_own_sets_by_a_field(site: Site, sort: str) -> None:
    page = ask(site.lab, "/search", sort=sort)
    ask(site.lab, "/search", sort=sort, cursor=page["next"])
    ask(site.reader, "/search", sort=sort, where="Country==FR")


def test_filters_by_submission_are_for_its_sets(site: Site) -> None:
    [row] = ask(site.reader, "/search", limit=1)["rows"]
    submission, group, user = (row[name]["id"]["uuid"] for name in ("submission", "group", "user"))
    assert ask(site.reader, "/search", submissionId=submission)["total"] == SETS_OF_A_SUBMISSION
    for query in ({"groupId": group}, {"userId": user}):
        assert ask(site.reader, "/search", **query)["rows"][0] == row
        assert ask(site.reader, "/search", **query, q="illumina")["total"] > 0
    ask(site.reader, "/search", submittedAfter="2020-01-02T00:00:00Z", submittedBefore="2020-01-02T02:00:00Z")
    ask(site.reader, "/search", submittedAfter="2040-01-01T00:00:00Z")


@pytest.mark.parametrize("who", ["bot", "reader"])
def test_what_awaits_a_service_is_found_behind_all_it_has_done(site: Site, who: str) -> None:
    client = getattr(site, who)
    for state in ("done", "awaiting"):
        page = ask(client, "/search", serviceId=site.service, serviceState=state)
        assert page["moreThanTotal"] == (state == "done" and (who == "reader" or SETS > 50_000))
    if who == "reader":
        assert len(ask(client, "/metadatasets", awaitingService=site.service, limit=100)) == 100


@pytest.mark.parametrize("who", ["lab", "reader"])
def test_lists_are_read_as_far_as_they_are_shown(site: Site, who: str) -> None:
    client = getattr(site, who)
    place = make_cursor("2020-01-01T20:00:00+00:00", SETS // 2)
    for cursor in ({}, {"cursor": place}):
        for path in ("/submissions", "/metadatasets"):
            assert ask(client, path, limit=50, **cursor)
    for path in ("/staged/metadatasets", "/staged/files", "/jobs" if client is site.admin else "/groups"):
        ask(client, path, limit=50)
    [submission] = ask(client, "/submissions", limit=1)
    path = f"/submissions/{submission['id']['uuid']}"
    detail = ask(client, path)
    assert len(ask(client, f"{path}/files", limit=500)) == SETS_OF_A_SUBMISSION
    [metadataset, *_] = detail["metadatasetIds"]
    ask(client, f"/metadatasets/{metadataset['uuid']}")
    assert ask(client, f"/metadatasets/{metadataset['site']}/history")
    ask(client, f"/files/{detail['fileIds'][0]['uuid']}")
    ask(client, "/submissions", groupId=detail["groupId"]["uuid"])
    ask(client, "/overview")


def test_the_audit_is_read_as_far_as_it_is_shown(site: Site) -> None:
    assert ask(site.admin, "/audit", limit=1)
    for query in ({"event": "metadataset.staged"}, {"event": "nothing"}, {"actorId": site.lab.uuid}):
        ask(site.admin, "/audit", limit=50, **query)
    ask(site.admin, "/audit", entityId="SCALE-00000000")
    ask(site.admin, "/audit", after="2040-01-01T00:00:00Z")
    ask(site.admin, f"/users/{site.lab.uuid}/events")


def test_a_submission_looks_at_what_it_is_about(site: Site) -> None:
    values = {"Sampling date": "14.03.2026", "Platform": "Illumina MiSeq", "Country": "DE"}
    with explained(site.portal) as problems:
        sets, files = [], []
        for number in range(3):
            files.append(site.lab.upload(f"new{number}.fq", b"ACGT"))
            sets.append(site.lab.stage(**values, **{"Lab-ID": f"new{number}", "Reads": f"new{number}.fq"}))
        body = {
            "metadatasetIds": [item["id"]["uuid"] for item in sets],
            "fileIds": [item["id"]["site"] for item in files],
        }
        assert site.lab.post("/presubvalidation", body).status_int == 204
        assert site.lab.post("/submissions", body).status_int == 200
        path = f"/service-execution/{site.service}/{sets[0]['id']['uuid']}"
        answer = {"record": {"Accession": "ERS1", "Verdict": "passed"}, "fileIds": []}
        assert site.bot.post(path, answer).status_int == 200
        deleted = site.lab.stage(**values, **{"Lab-ID": "other", "Reads": "other.fq"})
        assert site.lab.delete(f"/metadatasets/{deleted['id']['uuid']}").status_int == 204
    assert not problems, "\n\n".join(problems)


def test_the_sweeper_looks_at_what_is_unfinished(site: Site) -> None:
    with explained(site.portal) as problems:
        sweep(site.portal.database.sessions, site.portal.storage)
    assert not problems, "\n\n".join(problems)
