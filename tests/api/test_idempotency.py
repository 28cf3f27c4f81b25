"""Repeated requests: one key is one effect and one answer, whatever is lost on the way."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson
import pytest
from sqlalchemy import select, text

from datameta.logic import idempotency
from datameta.logic.sweep import sweep
from datameta.models import IdempotentAnswer
from datameta.vault import open_vault
from tests.conftest import Client, Portal, assert_refused, counted, list_events
from tests.flows.test_races import fork, race

RACERS = 8
CHECKSUM = hashlib.md5(b"ACGT").hexdigest()


@dataclass(frozen=True)
class Case:
    """An operation that takes the key: a body, another one, and where its effects are listed."""

    path: str
    make: Callable[[Client], Any]
    listed: str

    def post(self, client: Client, body: Any, key: str = "a key") -> Any:
        return client.post(self.path, body, headers={"Idempotency-Key": key})

    def count(self, client: Client) -> int:
        return len(client.get(self.listed).json)


def make_submission(client: Client) -> dict[str, Any]:
    return {"metadatasetIds": [client.stage(ID="1")["id"]["uuid"]], "fileIds": []}


CASES = [
    Case("/files", lambda client: {"name": "a.fq", "checksum": CHECKSUM}, "/staged/files"),
    Case("/metadatasets", lambda client: {"record": {"ID": "1"}}, "/staged/metadatasets"),
    Case("/submissions", make_submission, "/submissions"),
    Case("/rpc/stage-metadatasets", lambda client: {"records": [{"ID": "1"}]}, "/staged/metadatasets"),
    Case("/rpc/announce-files", lambda client: {"files": [{"name": "a", "checksum": CHECKSUM}]}, "/staged/files"),
]
OTHER_BODIES = {
    "/files": {"name": "b.fq", "checksum": CHECKSUM},
    "/metadatasets": {"record": {"ID": "2"}},
    "/submissions": {"metadatasetIds": [], "fileIds": []},
    "/rpc/stage-metadatasets": {"records": [{"ID": "2"}]},
    "/rpc/announce-files": {"files": []},
}


@pytest.fixture(params=CASES, ids=lambda case: case.path[1:])
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
def lab(portal: Portal) -> Client:
    portal.add_user("Office", site_admin=True).add_field("ID")
    return portal.add_user("Lab A")


def age(portal: Portal, interval: str) -> None:
    with portal.database.engine.begin() as connection:
        statement = "UPDATE idempotent_answers SET created_at = created_at - CAST(:interval AS interval)"
        connection.execute(text(statement), {"interval": interval})


def stored(portal: Portal) -> list[IdempotentAnswer]:
    with portal.database.sessions() as db:
        return list(db.scalars(select(IdempotentAnswer)))


def test_the_same_request_gets_the_same_answer_and_happens_once(lab: Client, case: Case) -> None:
    body = case.make(lab)
    first = case.post(lab, body)
    assert first.status_int == 200, first.body
    events = len(list_events(lab.portal, ""))
    for _ in range(2):
        again = case.post(lab, body)
        assert (again.status_int, again.content_type, again.body) == (200, "application/json", first.body)
    assert case.count(lab) == 1
    assert len(list_events(lab.portal, "")) == events


def test_without_a_key_each_request_happens(lab: Client) -> None:
    ids = {lab.post("/metadatasets", {"record": {}}).json["id"]["uuid"] for _ in range(2)}
    assert len(ids) == 2
    assert stored(lab.portal) == []


def test_an_announcement_given_again_can_be_used(lab: Client) -> None:
    body = {"name": "a.fq", "checksum": CHECKSUM}
    CASES[0].post(lab, body)
    announced = CASES[0].post(lab, body).json
    path = announced["urlToUpload"].removeprefix(lab.portal.settings.base_url)
    lab.portal.app.put(path, b"ACGT", headers=announced["requestHeaders"], status=204)
    assert lab.put(f"/files/{announced['id']['uuid']}", {"contentUploaded": True}).status_int == 200


def test_of_racing_requests_one_happens_and_all_get_its_answer(lab: Client, case: Case) -> None:
    body = case.make(lab)
    answers = race([partial(case.post, fork(lab), body) for _ in range(RACERS)])
    assert [answer.status_int for answer in answers] == [200] * RACERS, [answer.body for answer in answers]
    assert len({answer.body for answer in answers}) == 1
    assert case.count(lab) == 1


def test_the_key_with_another_body_is_refused(lab: Client, case: Case) -> None:
    body = case.make(lab)
    first = case.post(lab, body)
    assert_refused(case.post(lab, OTHER_BODIES[case.path]), 422, ("idempotency_key_reused", None))
    assert case.post(lab, body).body == first.body
    assert case.count(lab) == 1


def test_the_key_with_another_size_is_refused(lab: Client) -> None:
    def announce_size(size: int | None) -> Any:
        headers = {"Idempotency-Key": "a key"} | ({"DataMeta-File-Size": str(size)} if size is not None else {})
        return lab.post("/files", {"name": "a.fq", "checksum": CHECKSUM}, headers=headers)

    first = announce_size(4)
    assert first.status_int == 200, first.body
    for size in (None, 5, 44):
        assert_refused(announce_size(size), 422, ("idempotency_key_reused", None))
    assert announce_size(4).body == first.body
    assert CASES[0].count(lab) == 1


def test_keys_of_others_and_of_other_operations_are_others(portal: Portal, lab: Client) -> None:
    other = portal.add_user("Lab A")
    body = {"record": {"ID": "1"}}
    ids = {case_client.post("/metadatasets", body, headers={"Idempotency-Key": "a key"}).json["id"]["uuid"]
           for case_client in (lab, other)}  # fmt: skip
    assert len(ids) == 2
    assert CASES[0].post(lab, {"name": "a.fq", "checksum": CHECKSUM}).status_int == 200
    assert CASES[1].post(lab, body, key="A key").json["id"]["uuid"] not in ids


def test_another_api_key_of_the_same_user_gets_the_same_answer(lab: Client) -> None:
    made = lab.post("/keys", {"label": "second"})
    assert made.status_int == 200, made.body
    second = replace(lab, token=made.json["token"])
    body = {"record": {"ID": "1"}}
    assert CASES[1].post(lab, body).body == CASES[1].post(second, body).body


def test_after_a_refusal_the_key_is_free(portal: Portal, lab: Client) -> None:
    body = {"record": {"Later": "1"}}
    assert CASES[1].post(lab, body).status_int == 400
    assert stored(portal) == []
    assert CASES[1].post(lab, {"record": {"ID": "1"}}).status_int == 200
    assert CASES[1].post(lab, body, key="another").status_int == 400
    portal.add_user("Office", site_admin=True).add_field("Later")
    assert CASES[1].post(lab, body, key="another").status_int == 200


def test_after_24_hours_the_key_is_free(lab: Client, case: Case) -> None:
    body = case.make(lab)
    first = case.post(lab, body)
    age(lab.portal, "23 hours 59 minutes")
    assert case.post(lab, body).body == first.body
    age(lab.portal, "1 minute")
    other = case.make(lab)
    second = case.post(lab, other)
    assert second.status_int == 200
    assert second.body != first.body
    assert case.post(lab, other).body == second.body
    assert case.count(lab) == 2


def test_the_kept_answer_is_encrypted(portal: Portal, lab: Client) -> None:
    answer = CASES[0].post(lab, {"name": "a.fq", "checksum": CHECKSUM})
    [row] = stored(portal)
    assert row.answer is not None
    assert orjson.loads(open_vault(portal.settings).decrypt(row.answer) or b"") == answer.json
    token = answer.json["requestHeaders"]["Access-Token"]
    with portal.database.engine.connect() as connection:
        everything = str(connection.scalar(text("SELECT convert_from(answer, 'LATIN1') FROM idempotent_answers")))
    assert everything.startswith("gAAAA")
    assert token not in everything
    assert row.body_hash == hashlib.sha256(answer.request.body).digest()


def test_an_answer_that_cannot_be_read_any_more_is_not_made_again(portal: Portal, lab: Client, case: Case) -> None:
    body = case.make(lab)
    first = case.post(lab, body)
    for keys, status in (("n" * 32, 409), (f"{'n' * 32},{read_key(portal)}", 200)):
        changed = Portal(portal.database, replace(portal.settings, secret_key=keys), portal.storage)
        answer = case.post(replace(lab, portal=changed), body)
        assert answer.status_int == status
        if status == 200:
            assert answer.body == first.body
        else:
            assert_refused(answer, 409, ("answer_unreadable", None))
    assert case.count(lab) == 1


def read_key(portal: Portal) -> str:
    return (portal.settings.home / "secret.key").read_text()


@pytest.mark.parametrize("is_after", [False, True], ids=["before the answer is kept", "after"])
def test_a_failure_before_the_commit_leaves_nothing(
    lab: Client, case: Case, is_after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = case.make(lab)
    events = len(list_events(lab.portal, ""))
    keep_answer = idempotency.keep_answer

    def fail(*arguments: Any, **more: Any) -> None:
        if is_after:
            keep_answer(*arguments, **more)
        raise RuntimeError

    monkeypatch.setattr(idempotency, "keep_answer", fail)
    assert_refused(case.post(lab, body), 500, ("internal_error", None))
    assert case.count(lab) == 0
    assert stored(lab.portal) == []
    assert len(list_events(lab.portal, "")) == events
    monkeypatch.undo()
    assert case.post(lab, body).status_int == 200
    assert case.count(lab) == 1


def test_what_a_failed_announcement_leaves_is_swept(lab: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "keep_answer", lambda *_, **__: 1 // 0)
    assert CASES[0].post(lab, {"name": "a.fq", "checksum": CHECKSUM}).status_int == 500
    with lab.portal.database.engine.begin() as connection:
        assert connection.execute(text("SELECT state FROM files")).scalars().all() == ["new"]
        connection.execute(text("UPDATE files SET state_changed_at = now() - interval '11 minutes'"))
    sweep(lab.portal.database.sessions, lab.portal.storage)
    with lab.portal.database.engine.connect() as connection:
        assert connection.execute(text("SELECT state FROM files")).scalars().all() == []


def test_a_key_is_1_to_255_printable_ascii_characters(lab: Client) -> None:
    body = {"record": {"ID": "1"}}
    for key in ("k", "k" * 255, "".join(map(chr, range(32, 127))).strip(), "a key, with: signs"):
        answer = CASES[1].post(lab, body, key=key)
        assert answer.status_int == 200, answer.body
        assert CASES[1].post(lab, body, key=key).body == answer.body
    for key, code in (("", "invalid_text"), ("k" * 256, "too_long"), ("a\tb", "invalid_text"), ("é", "invalid_text")):
        answer = CASES[1].post(lab, body, key=key)
        assert_refused(answer, 400, (code, "Idempotency-Key"))


def test_a_key_is_nothing_to_who_is_unknown_or_asks_badly(portal: Portal, lab: Client, case: Case) -> None:
    assert case.post(portal.anonymous(), {}).status_int == 401
    assert case.post(lab, {}).status_int == 400
    assert stored(portal) == []


def test_a_repeated_request_takes_three_statements(lab: Client, case: Case) -> None:
    body = case.make(lab)
    case.post(lab, body)
    with counted(lab.portal) as statements:
        case.post(lab, body)
    # Who it is, the attempt to take the key, and the answer.
    assert len(statements) == 3
