"""Races: whatever arrives at once, one wins, the others hear a refusal, and nobody hears a 5xx.

A barrier lets all racers pass every check that only reads before the first of them writes.
"""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from functools import partial

import pytest
import webtest
from sqlalchemy.orm import Session

from datameta.errors import Problem
from datameta.logic import claims, services
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
