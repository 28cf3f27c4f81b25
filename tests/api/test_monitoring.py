"""Life, readiness and metrics: what is told, to whom, and that it is so."""

import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text

from datameta import logs, metrics
from datameta.app import make_app
from datameta.database import Database
from datameta.jobs.tasks import PERIODIC, Site
from datameta.jobs.worker import do_due_jobs
from datameta.logic import health
from datameta.logic.health import PARTS
from datameta.storage import Storage, StorageUnavailableError
from datameta.vault import open_vault
from tests.api.test_errors import DEAD_URL
from tests.conftest import Portal, announce, codes, confirm, send, sign_in
from tests.flows.test_jobs import store

ROOT = Path(__file__).parents[2]
TOKEN = "Tk-0123456789abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(autouse=True)
def looking_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing that was found be kept for a moment."""
    monkeypatch.setattr(health, "KEPT_SECONDS", 0)


@pytest.fixture
def watched(portal: Portal) -> Portal:
    """A portal with a monitoring token and a worker."""
    beat(portal.database)
    return Portal(portal.database, replace(portal.settings, monitoring_token=TOKEN), portal.storage)


def beat(database: Database, ago: str = "0 s") -> None:
    """Let there be one worker, whose last sign of life was so long ago."""
    with database.engine.begin() as connection:
        connection.execute(text("DELETE FROM procrastinate_workers"))
        query = "INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - CAST(:ago AS interval))"
        connection.execute(text(query), {"ago": ago})


def ready(portal: Portal, query: str = "") -> tuple[int, list[str]]:
    """Return the status, and the parts that fail."""
    answer = portal.app.get(f"/health/ready{query}", expect_errors=True)
    assert answer.content_type == "application/json"
    assert list(answer.json["parts"]) == list(PARTS)
    return answer.status_int, [part for part, state in answer.json["parts"].items() if state == "failing"]


def scrape(portal: Portal) -> dict[str, Metric]:
    answer = portal.app.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(families: dict[str, Metric], name: str, **labels: str) -> float:
    """Return the value of a sample; 0 if there is none."""
    samples = [sample for family in families.values() for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def test_a_portal_that_answers_is_live(portal: Portal) -> None:
    answer = portal.app.get("/health/live")
    assert answer.json == {"status": "live"}
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_portal_that_is_well_is_ready(watched: Portal) -> None:
    assert ready(watched) == (200, [])
    assert watched.app.head("/health/ready").body == b""


def test_the_database_that_does_not_answer_is_named(watched: Portal) -> None:
    dead = Portal.__new__(Portal)
    dead.app = type(watched.app)(make_app(watched.settings, Database(DEAD_URL), watched.storage))
    assert ready(dead) == (503, ["database", "migrations", "worker"])
    assert dead.app.get("/health/live").status_int == 200


def test_the_schema_is_looked_at(watched: Portal) -> None:
    def set_schema(version: str) -> None:
        with watched.database.engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})

    with watched.database.engine.connect() as connection:
        current = connection.scalar(text("SELECT version_num FROM alembic_version"))
    assert current is not None
    try:
        set_schema("0001")
        assert ready(watched) == (503, ["migrations", "worker"])
        # One that was made after this portal was started, for which the database has just been upgraded.
        set_schema("9999")
        assert ready(watched) == (200, [])
        with watched.database.engine.begin() as connection:
            connection.execute(text("ALTER TABLE alembic_version RENAME TO gone"))
        assert ready(watched) == (503, ["migrations", "worker"])
    finally:
        with watched.database.engine.begin() as connection:
            connection.execute(text("ALTER TABLE IF EXISTS gone RENAME TO alembic_version"))
        set_schema(current)


def test_a_store_that_does_not_answer_or_was_emptied_is_named(
    watched: Portal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(self: Storage) -> str:
        raise StorageUnavailableError("silence")

    monkeypatch.setattr(type(watched.storage), "read_mark", fail)
    assert ready(watched) == (503, ["storage"])
    assert ready(watched) == (503, ["storage"])
    monkeypatch.setattr(type(watched.storage), "read_mark", lambda self: None)
    assert ready(watched) == (503, ["storage"])
    monkeypatch.undo()
    monkeypatch.setattr(health, "KEPT_SECONDS", 0)
    with caplog.at_level(logging.INFO):
        assert ready(watched) == (200, [])
    told = [record.getMessage() for record in caplog.records if "ready" in record.getMessage()]
    assert told == [
        "not ready: The store does not answer: silence.",
        "not ready: The store has no mark that says whose it is. Is it mounted?",
        "ready again: storage",
    ]


def test_a_worker_without_a_sign_of_life_is_named_and_may_be_left_out(watched: Portal) -> None:
    beat(watched.database, "59 s")
    assert ready(watched) == (200, [])
    beat(watched.database, "61 s")
    assert ready(watched) == (503, ["worker"])
    assert ready(watched, "?exclude=worker") == (200, ["worker"])
    assert ready(watched, "?exclude=storage") == (503, ["worker"])


def test_what_was_found_is_told_for_a_moment(watched: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "KEPT_SECONDS", 3600)
    assert ready(watched) == (200, [])
    beat(watched.database, "1 hour")
    assert ready(watched) == (200, [])


def test_readiness_tells_no_more_than_which_part(watched: Portal) -> None:
    beat(watched.database, "1 hour")
    answer = watched.app.get("/health/ready", status=503)
    assert set(answer.json) == {"status", "parts"}
    assert set(answer.json["parts"].values()) == {"ok", "failing"}


def test_without_a_token_there_are_no_metrics(portal: Portal) -> None:
    for headers in ({}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {TOKEN}"}):
        answer = portal.app.get("/metrics", headers=headers, status=404)
        assert codes(answer) == {("unknown_address", None)}


def test_metrics_are_for_who_has_the_token(watched: Portal) -> None:
    admin = watched.add_user(site_admin=True)
    for credential in ("", "Bearer", f"Bearer {TOKEN}x", f"Bearer {admin.token}", f"Basic {TOKEN}", "Bearer ü"):
        answer = watched.app.get("/metrics", headers={"Authorization": credential}, status=401)
        assert codes(answer) == {("unauthenticated", None)}
    assert scrape(watched)


def test_requests_are_counted_by_operation_and_status(watched: Portal) -> None:
    lab, before = watched.add_user(), scrape(watched)
    lab.get("/rpc/whoami")
    lab.get("/files/DMF-1")
    lab.get("/nothing")
    watched.app.get("/nowhere/at/all")
    watched.app.request("/metrics", method="POST", expect_errors=True)
    lab.request("delete", "/rpc/whoami")
    after = scrape(watched)
    for operation, status in (
        ("getUserInformation", "200"),
        ("getFile", "404"),
        ("unknown", "404"),
        ("unknown", "405"),
        ("portal", "200"),
    ):
        labels = {"operation": operation, "status": status}
        assert value(after, "datameta_requests_total", **labels) > value(before, "datameta_requests_total", **labels)
    labels = {"operation": "getUserInformation"}
    count = "datameta_request_seconds_count"
    assert value(after, count, **labels) == value(before, count, **labels) + 1


def do_all(portal: Portal) -> None:
    """Do a little of everything that is counted."""
    lab = portal.add_user(group_admin=True)
    sign_in(lab)
    portal.anonymous().post("/sessions", {"email": lab.email, "password": "wrong"})
    announced = announce(lab)
    send(lab, announced)
    confirm(lab, announced)
    assert lab.submit([], [announced]).status_int == 400
    address = lab.get(f"/rpc/get-file-url/{announced['id']['uuid']}").json["fileUrl"]
    portal.app.get(address.removeprefix(portal.settings.base_url))
    with portal.database.sessions.begin() as db:
        db.execute(text("UPDATE files SET sha256 = NULL, md5 = NULL, checked_at = NULL"))
    abandoned = announce(lab, name="b.fq")
    with portal.database.sessions.begin() as db:
        query = "UPDATE files SET upload_expires_at = now() - interval '2 hours' WHERE uuid = :uuid"
        db.execute(text(query), {"uuid": abandoned["id"]["uuid"]})
    site = Site(portal.settings, portal.database, portal.storage, open_vault(portal.settings))
    for name in PERIODIC:
        store(site, name)
    do_due_jobs(site)
    store(site, "sweep", "failed")


def test_what_happens_is_counted(watched: Portal) -> None:
    before = scrape(watched)
    do_all(watched)
    after = scrape(watched)

    def grown(name: str, **labels: str) -> float:
        return value(after, name, **labels) - value(before, name, **labels)

    for event in ("login.ok", "login.failed", "file.confirmed"):
        assert grown("datameta_events_total", event=event) == 1, event
    assert grown("datameta_events_total", event="file.announced") == 2
    assert grown("datameta_confirmed_bytes_total", way="single") == 4
    assert grown("datameta_transferred_bytes_total", direction="in") == 4
    assert grown("datameta_transferred_bytes_total", direction="out") == 4
    assert grown("datameta_verified_bytes_total", purpose="check") == 4
    assert grown("datameta_swept_total", kind="uploads expired") == 1
    for task in PERIODIC:
        assert grown("datameta_job_seconds_count", task=task, result="done") == 1, task
        assert grown("datameta_job_finished_timestamp_seconds", task=task) > 0
    assert value(after, "datameta_jobs", queue="default", status="failed") == 1
    assert {sample.labels["part"]: sample.value for sample in after["datameta_ready"].samples} == dict.fromkeys(
        PARTS, 1
    )


def test_the_longest_wait_is_that_of_what_is_due(watched: Portal) -> None:
    site = Site(watched.settings, watched.database, watched.storage, open_vault(watched.settings))
    store(site, "sweep", age="2 hours")
    later = store(site, "tidy", age="9 hours")
    with watched.database.engine.begin() as connection:
        query = "UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 hour' WHERE id = :id"
        connection.execute(text(query), {"id": later})
    waited = value(scrape(watched), "datameta_job_wait_seconds", queue="default")
    assert 7200 <= waited < 9 * 3600


def test_metrics_outlive_the_database(watched: Portal) -> None:
    dead = Portal.__new__(Portal)
    dead.app = type(watched.app)(make_app(watched.settings, Database(DEAD_URL), watched.storage))
    families = scrape(dead)
    assert value(families, "datameta_ready", part="database") == 0
    assert "datameta_jobs" not in families
    assert "datameta_requests" in families


def test_a_slow_statement_is_logged_with_its_operation_and_without_what_it_was_given(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    query, given = text("SELECT pg_sleep(0.02),\n  :given AS given"), {"given": "hunter2"}
    for least_ms in (10, 600_000, 0):
        watched = Database(database.url, slow_query_ms=least_ms)
        with logs.about(operation="search"), watched.autocommit.connect() as connection:
            connection.execute(query, given)
        watched.dispose()
    [record] = [record for record in caplog.records if record.getMessage() == "slow query"]
    line = json.loads(logs.JsonFormatter().format(record))
    assert line["query_ms"] >= 20
    assert line["statement"].startswith("SELECT pg_sleep(0.02), ")
    assert "hunter2" not in str(line)
    samples = [sample for family in metrics.OWN.collect() for sample in family.samples]
    assert any(
        sample.name == "datameta_slow_queries_total" and sample.labels == {"operation": "search"} for sample in samples
    )


def test_a_request_is_a_line_with_its_operation_and_no_address(
    portal: Portal, caplog: pytest.LogCaptureFixture
) -> None:
    lab = portal.add_user()
    with caplog.at_level(logging.DEBUG, logger="datameta"):
        answer = lab.get("/files/DMF-12345678")
        portal.app.get("/health/live")
    records = [record for record in caplog.records if record.name == "datameta.access"]
    first, second = (json.loads(logs.JsonFormatter().format(record)) for record in records)
    assert (first["message"], first["operation"], first["status"], first["user"]) == (
        "GET 404",
        "getFile",
        404,
        lab.uuid,
    )
    assert len(answer.headers["X-Request-Id"]) == 32
    assert "DMF-12345678" not in caplog.text
    assert (second["operation"], second["level"]) == ("health-live", "debug")


def list_queries() -> Iterator[tuple[str, str]]:
    """Yield the title and expression of each query of the dashboard and the alerts."""
    folder = ROOT / "examples/monitoring"
    for panel in json.loads((folder / "grafana.json").read_text("utf-8"))["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for group in yaml.safe_load((folder / "alerts.yml").read_text("utf-8"))["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def test_every_query_of_the_examples_names_what_there_is(watched: Portal) -> None:
    with watched.database.engine.connect() as connection:
        connection.execute(text("SELECT 1"))
    do_all(watched)
    slow = Database(watched.database.url, slow_query_ms=1)
    with slow.engine.connect() as connection:
        connection.execute(text("SELECT pg_sleep(0.02)"))
    slow.dispose()
    site = Site(watched.settings, watched.database, watched.storage, open_vault(watched.settings))
    store(site, "sweep")
    families = scrape(watched)
    names = {sample.name for family in families.values() for sample in family.samples}
    labels = {
        sample.name: set().union(*(other.labels for other in family.samples if other.name == sample.name))
        for family in families.values()
        for sample in family.samples
    }
    used = set()
    for title, query in list_queries():
        found = re.findall(r"\bdatameta_\w+", query.replace('job="datameta"', ""))
        assert found or "up{" in query, title
        for name in found:
            assert name in names, f"{title}: {name}"
            used.add(name)
        # What is summed by, or selected with, is a label of the metric in the same query.
        wanted = set(re.findall(r'(\w+)(?:=~|=|!=)"', query)) - {"job"}
        for group in re.findall(r"\bby \(([^)]*)\)", query):
            wanted |= {word.strip() for word in group.split(",")}
        for label in wanted:
            assert any(label in labels[name] for name in found), f"{title}: {label}"
    bases = {re.sub("_(total|bucket|count|sum)$", "", name) for name in used}
    missing = {name for name in families if name.startswith("datameta_")} - bases - {"datameta_build"}
    assert missing == set(), "a metric that nobody looks at"
