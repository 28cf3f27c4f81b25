"""Races: whatever arrives at once, one wins, the others hear a refusal, and nobody hears a 5xx.

A barrier lets all racers pass every check that only reads before the first of them writes.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import webtest
from sqlalchemy import text
from sqlalchemy.orm import Session

from datameta.errors import Problem
from datameta.logic import claims, metadatasets, refinements, rules, services, submissions, vocabularies
from datameta.logic.claims import Claim
from datameta.models import Service
from tests.conftest import Client, Portal, codes

RACERS = 16
WAIT_SECONDS = 60


def fork(client: Client) -> Client:
    """Return the same client with a TestApp of its own over the same application, for use in a thread."""
    portal = copy(client.portal)
    portal.app = webtest.TestApp(client.portal.app.app)
    return replace(client, portal=portal)


def race(calls: Sequence[Callable[[], webtest.TestResponse]]) -> list[webtest.TestResponse]:
    """Start all calls at once, each in its own thread; return the answers in order."""
    start = threading.Barrier(len(calls), timeout=WAIT_SECONDS)

    def run(call: Callable[[], webtest.TestResponse]) -> webtest.TestResponse:
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def statuses(answers: Sequence[webtest.TestResponse]) -> dict[int, int]:
    return dict(Counter(answer.status_int for answer in answers))


def race_common_value(portal: Portal) -> list[webtest.TestResponse]:
    """Let sixteen users submit sets with the same two site-unique values, in either order."""
    admin = portal.add_user(site_admin=True)
    admin.add_field("ID", isSiteUnique=True)
    calls = []
    for number in range(RACERS):
        client = fork(portal.add_user(f"Lab {number}"))
        values = ("one", "two") if number % 2 else ("two", "one")
        calls.append(partial(client.submit, [client.stage(ID=value) for value in values]))
    return race(calls)


def test_of_racing_submissions_with_a_common_value_exactly_one_wins(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecasts_done = threading.Barrier(RACERS, timeout=WAIT_SECONDS)
    insert_claims = claims.insert_claims

    def insert_after_all_have_looked(db: Session, wanted: Sequence[Claim]) -> list[Claim]:
        forecasts_done.wait()
        return insert_claims(db, wanted)

    monkeypatch.setattr(claims, "insert_claims", insert_after_all_have_looked)
    answers = race_common_value(portal)
    assert statuses(answers) == {200: 1, 400: RACERS - 1}
    losers = [answer for answer in answers if answer.status_int == 400]
    assert all(codes(answer) == {("not_unique_in_site", "ID")} for answer in losers)
    assert all(len({problem["entity"]["site"] for problem in answer.json}) == 2 for answer in losers)
    reader = portal.add_user(site_read=True)
    assert sorted(item["record"]["ID"] for item in reader.get("/metadatasets").json) == ["one", "two"]


def test_that_test_fails_with_check_then_insert(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant the fault against which the claims stand: decide by a read, write afterwards."""
    all_have_read = threading.Barrier(RACERS, timeout=WAIT_SECONDS)
    insert_claims = claims.insert_claims

    def check_then_insert(db: Session, wanted: Sequence[Claim]) -> list[Claim]:
        taken = claims.find_taken(db, wanted)
        all_have_read.wait()
        insert_claims(db, wanted)
        return taken

    monkeypatch.setattr(claims, "insert_claims", check_then_insert)
    assert statuses(race_common_value(portal)) == {200: RACERS}


def test_racing_submissions_without_help_from_a_barrier(portal: Portal) -> None:
    assert statuses(race_common_value(portal)) == {200: 1, 400: RACERS - 1}


def test_of_racing_submissions_of_the_same_things_exactly_one_wins(portal: Portal) -> None:
    portal.add_user(site_admin=True).add_field("File", isFile=True)
    lab = portal.add_user()
    sets = [lab.stage(File="a.fq"), lab.stage(File="b.fq")]
    files = [lab.upload("a.fq", b"a"), lab.upload("b.fq", b"b")]
    orders = [1, -1] * (RACERS // 2)
    answers = race([partial(fork(lab).submit, sets[::order], files[::order]) for order in orders])
    assert statuses(answers) == {200: 1, 400: RACERS - 1}
    losers = [answer for answer in answers if answer.status_int == 400]
    assert all(
        codes(answer) == {("already_submitted", "metadatasetIds"), ("already_submitted", "fileIds")}
        for answer in losers
    )
    [submission] = lab.get(f"/groups/{lab.group}/submissions").json
    assert len(submission["metadatasetIds"]) == len(submission["fileIds"]) == 2


def test_a_submission_racing_with_deletions_is_whole_or_absent(portal: Portal) -> None:
    portal.add_user(site_admin=True).add_field("File", isFile=True)
    lab = portal.add_user()
    for number in range(8):
        staged, other = lab.stage(File=f"{number}.fq"), lab.stage()
        file = lab.upload(f"{number}.fq", b"a")
        submitted, set_deleted, file_deleted = race(
            [
                partial(fork(lab).submit, [other, staged], [file]),
                partial(fork(lab).delete, f"/metadatasets/{staged['id']['site']}"),
                partial(fork(lab).delete, f"/files/{file['id']['uuid']}"),
            ]
        )
        if submitted.status_int == 200:
            assert (set_deleted.status_int, file_deleted.status_int) == (403, 403)
            shown = lab.get(f"/metadatasets/{staged['id']['uuid']}").json
            assert shown["fileIds"] == {"File": file["id"]}
        else:
            assert submitted.status_int == 400
            assert "not_found" in {problem["error_code"] for problem in submitted.json}
            assert 204 in (set_deleted.status_int, file_deleted.status_int)
            assert lab.get(f"/metadatasets/{other['id']['uuid']}").json["submissionId"] is None


def test_of_racing_answers_of_a_service_exactly_one_wins(portal: Portal) -> None:
    admin = portal.add_user(site_admin=True)
    lab, bot = portal.add_user(), portal.add_user("Bots", site_read=True)
    service = admin.post("/services", {"name": "Analysis"}).json["id"]["site"]
    admin.put(f"/services/{service}", {"userIds": [bot.uuid]})
    admin.add_field("Text", serviceId=service)
    staged = lab.stage()
    lab.submit([staged])
    path = f"/service-execution/{service}/{staged['id']['site']}"
    bodies = [{"record": {"Text": str(number)}, "fileIds": []} for number in range(RACERS)]
    answers = race([partial(fork(bot).post, path, body) for body in bodies])
    assert statuses(answers) == {200: 1, 403: RACERS - 1}
    [winner] = [answer.json for answer in answers if answer.status_int == 200]
    assert bot.get(f"/metadatasets/{staged['id']['uuid']}").json == winner


def test_of_racing_services_of_one_name_exactly_one_comes_about(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_have_looked = threading.Barrier(RACERS, timeout=WAIT_SECONDS)
    check_name = services._check_name

    def check_and_wait(db: Session, name: str, service: Service | None = None) -> list[Problem]:
        found = check_name(db, name, service)
        all_have_looked.wait()
        return found

    admin = portal.add_user(site_admin=True)
    spares = [admin.post("/services", {"name": f"S{number}"}).json["id"]["site"] for number in range(RACERS)]
    monkeypatch.setattr(services, "_check_name", check_and_wait)
    for calls in (
        [partial(fork(admin).post, "/services", {"name": "Analysis"}) for _ in range(RACERS)],
        [partial(fork(admin).put, f"/services/{spare}", {"name": "Assembly"}) for spare in spares],
    ):
        answers = race(calls)
        assert statuses(answers) == {200: 1, 400: RACERS - 1}
        assert all(codes(answer) == {("duplicate_name", "name")} for answer in answers if answer.status_int == 400)


def hold(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> tuple[threading.Event, threading.Event]:
    """Stop whoever has just done this; return the events that say so, and that let them go on."""
    arrived, released = threading.Event(), threading.Event()
    original = getattr(module, name)

    def stop(*arguments: Any, **more: Any) -> Any:
        result = original(*arguments, **more)
        arrived.set()
        assert released.wait(WAIT_SECONDS)
        return result

    monkeypatch.setattr(module, name, stop)
    return arrived, released


def wait_until_blocked(portal: Portal) -> None:
    """Return once some transaction waits for a lock of another."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    deadline = time.monotonic() + WAIT_SECONDS
    with portal.database.autocommit.connect() as connection:
        while not connection.scalar(query):
            assert time.monotonic() < deadline, "nobody waits"
            time.sleep(0.01)


def overtake(
    portal: Portal,
    monkeypatch: pytest.MonkeyPatch,
    place: tuple[Any, str],
    first: Callable[[], webtest.TestResponse],
    second: Callable[[], webtest.TestResponse],
) -> tuple[webtest.TestResponse, webtest.TestResponse]:
    """Let ``first`` come as far as ``place``, and go on when ``second`` waits for it; return both answers."""
    arrived, released = hold(monkeypatch, *place)
    with ThreadPoolExecutor(2) as pool:
        earlier = pool.submit(first)
        assert arrived.wait(WAIT_SECONDS)
        later = pool.submit(second)
        try:
            wait_until_blocked(portal)
        finally:
            released.set()
        answers = earlier.result(), later.result()
    monkeypatch.undo()
    return answers


def make_changes_of_rules(portal: Portal, admin: Client, lab: Client) -> dict[str, partial[webtest.TestResponse]]:
    """Return changes of the rulebook after each of which no set passes that was staged before."""
    field = admin.add_field("Host")
    path = f"/metadata/{field['id']['uuid']}"
    terms = [{"term": "Homo sapiens"}, {"term": "Mus musculus"}]
    assert admin.put(f"{path}/vocabulary", {"terms": terms}).status_int == 200
    refinement = {"kind": "vocabulary", "unit": "", "minimum": None, "maximum": None, "isInteger": False}
    refinement |= {"missingTerms": []}
    assert admin.put(f"{path}/refinement", refinement).status_int == 200
    rule = {"message": "No hosts.", "when": [], "then": [{"field": "Host", "operator": "is_empty"}]}
    return {
        "vocabulary": partial(fork(admin).put, f"{path}/vocabulary", {"terms": terms[1:]}),
        "refinement": partial(fork(admin).put, f"{path}/refinement", refinement | {"kind": "number"}),
        "rules": partial(fork(admin).put, "/recordrules", {"rules": [rule]}),
    }


@pytest.mark.parametrize("what", ["vocabulary", "refinement", "rules"])
def test_a_change_of_what_is_checked_waits_for_a_submission(
    portal: Portal, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    admin, lab = portal.add_user(site_admin=True), portal.add_user()
    change = make_changes_of_rules(portal, admin, lab)[what]
    staged, other = lab.stage(Host="Homo sapiens"), lab.stage(Host="Homo sapiens")
    place = (submissions, "check_submission")
    submitted, changed = overtake(portal, monkeypatch, place, partial(fork(lab).submit, [staged]), change)
    assert (submitted.status_int, changed.status_int) == (200, 200)
    # The set that was submitted meanwhile is not counted any more.
    assert changed.headers["DataMeta-Affected"] == "1"
    assert lab.submit([other]).status_int == 400


@pytest.mark.parametrize("what", ["vocabulary", "refinement", "rules"])
def test_a_submission_waits_for_a_change_of_what_is_checked(
    portal: Portal, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    admin, lab = portal.add_user(site_admin=True), portal.add_user()
    change = make_changes_of_rules(portal, admin, lab)[what]
    staged = lab.stage(Host="Homo sapiens")
    module = {"vocabulary": vocabularies, "refinement": refinements, "rules": rules}[what]
    place = (module, "count_affected")
    changed, submitted = overtake(portal, monkeypatch, place, change, partial(fork(lab).submit, [staged]))
    assert (changed.status_int, submitted.status_int) == (200, 400)
    assert changed.headers["DataMeta-Affected"] == "1"


def test_a_set_is_changed_before_it_is_submitted_or_not_at_all(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    portal.add_user(site_admin=True).add_field("A")
    lab = portal.add_user()
    for is_change_first in (True, False):
        staged = lab.stage(A="1")
        path = f"/metadatasets/{staged['id']['uuid']}"
        change = partial(fork(lab).put, path, {"record": {"A": "2"}})
        submit = partial(fork(lab).submit, [staged])
        if is_change_first:
            place = (metadatasets, "load_rulebook")
            changed, submitted = overtake(portal, monkeypatch, place, change, submit)
        else:
            place = (submissions, "check_submission")
            submitted, changed = overtake(portal, monkeypatch, place, submit, change)
        assert submitted.status_int == 200
        assert changed.status_int == (200 if is_change_first else 403)
        assert lab.get(path).json["record"] == {"A": "2" if is_change_first else "1"}
