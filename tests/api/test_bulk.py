"""Many things in one call: each is judged as if it came alone, and all are made or none, unless the good ones do."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import webtest
from sqlalchemy import text

from datameta.errors import UnavailableError
from datameta.logic.sweep import sweep
from datameta.storage import StorageUnavailableError
from tests.conftest import (
    API,
    Client,
    FaultyStorage,
    Portal,
    assert_refused,
    confirm,
    list_events,
    send,
    set_setting,
)

STAGE, ANNOUNCE = "/rpc/stage-metadatasets", "/rpc/announce-files"
MD5 = "f1f8f4bf413b16ad135722aa4591043e"
"""That of ``ACGT``."""


@pytest.fixture
def admin(portal: Portal) -> Client:
    return portal.add_user("Office", site_admin=True)


@pytest.fixture
def lab(portal: Portal, admin: Client) -> Client:
    admin.add_field("ID", isMandatory=True)
    admin.add_field("Digits", regExp="[0-9.]+")
    admin.add_field("Day", dateTimeFmt="%d.%m.%Y")
    return portal.add_user("Lab A")


def make_files(*names: str, **more: Any) -> dict[str, Any]:
    return {"files": [{"name": name, "checksum": MD5, **more} for name in names]}


def results(answer: webtest.TestResponse) -> list[dict[str, Any]]:
    assert answer.status_int == 200, answer.body
    found: list[dict[str, Any]] = answer.json["results"]
    return found


def found(result: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    """Return exception, code and field of the problems of one thing."""
    return [(each["exception"], each["error_code"], each.get("field")) for each in result["problems"]]


def count_rows(portal: Portal, table: str) -> int:
    with portal.database.engine.connect() as connection:
        return int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


# Staging.


def test_many_records_are_staged_as_one_is(lab: Client) -> None:
    records = [{"ID": "a", "Digits": 1.50, "Day": "02.01.2026"}, {"ID": "b"}, {"ID": "a", "Digits": None}]
    staged = results(lab.post(STAGE, {"records": records}))
    assert [result["problems"] for result in staged] == [[], [], []]
    for result, record in zip(staged, records, strict=True):
        alone, shown = lab.stage(**record), lab.get(f"/metadatasets/{result['id']['uuid']}").json
        assert shown["id"] == result["id"]
        assert {**shown, "id": None} == {**alone, "id": None}
    listed = [each["id"] for each in lab.get("/staged/metadatasets").json]
    assert listed[-3:] == [result["id"] for result in reversed(staged)]


def test_a_number_is_stored_as_it_was_written(lab: Client) -> None:
    body = b'{"records": [{"ID": "a", "Digits": 1.50}, {"ID": 12345678901234567890123}]}'
    headers = {"Authorization": f"Bearer {lab.token}", "Content-Type": "application/json"}
    staged = results(lab.portal.app.post(API + STAGE, body, headers=headers))
    shown = [lab.get(f"/metadatasets/{result['id']['uuid']}").json["record"] for result in staged]
    assert (shown[0]["Digits"], shown[1]["ID"]) == ("1.50", "12345678901234567890123")


def test_each_set_has_its_event(lab: Client) -> None:
    staged = results(lab.post(STAGE, {"records": [{"ID": "a"}, {"ID": "b"}]}))
    events = list_events(lab.portal, "metadataset.staged")
    assert [(each.entity_type, each.entity_site_id) for each in events] == [
        ("MetaDataSet", result["id"]["site"]) for result in staged
    ]
    assert {str(each.actor_uuid) for each in events} == {lab.uuid}


def test_of_records_with_a_problem_none_is_staged_and_each_is_named(lab: Client) -> None:
    refused = lab.post(STAGE, {"records": [{"ID": "a"}, {"Digits": "x"}, {"ID": "b", "Nonsense": ["x"]}]})
    expected = [
        ("mandatory_missing", "records/1/ID"),
        ("regex_mismatch", "records/1/Digits"),
        ("unknown_field", "records/2/Nonsense"),
    ]
    assert_refused(refused, 400, *expected)
    assert {problem["exception"] for problem in refused.json} == {"ValidationError"}
    assert lab.get("/staged/metadatasets").json == []
    assert list_events(lab.portal, "metadataset") == []


def test_the_good_ones_are_staged_if_that_is_asked_for(lab: Client) -> None:
    records = [{"Digits": "x"}, {"ID": "a"}, {"ID": "b", "Day": "2026-01-02"}, {"ID": "c"}]
    staged = results(lab.post(f"{STAGE}?only=good", {"records": records}))
    assert [result["id"] is not None for result in staged] == [False, True, False, True]
    assert [found(result) for result in staged] == [
        [("ValidationError", "mandatory_missing", "ID"), ("ValidationError", "regex_mismatch", "Digits")],
        [],
        [("ValidationError", "date_mismatch", "Day")],
        [],
    ]
    assert [each["record"]["ID"] for each in lab.get("/staged/metadatasets").json] == ["c", "a"]


def test_there_may_be_nothing_to_make(lab: Client) -> None:
    for query in ("", "?only=good"):
        assert results(lab.post(STAGE + query, {"records": []})) == []
        assert results(lab.post(ANNOUNCE + query, {"files": []})) == []
    assert [result["id"] for result in results(lab.post(f"{STAGE}?only=good", {"records": [{}]}))] == [None]
    none = {"files": [{"name": "", "checksum": ""}]}
    assert [result["upload"] for result in results(lab.post(f"{ANNOUNCE}?only=good", none))] == [None]
    assert list_events(lab.portal, "file") == []


def test_what_does_not_fit_the_specification_is_named_by_its_place(lab: Client) -> None:
    assert_refused(lab.post(STAGE, {"records": [{"ID": "a"}, {"ID": "x" * 10_001}]}), 400, ("too_long", "records/1/ID"))
    assert_refused(lab.post(STAGE, {"records": [{"ID": "a"}, []]}), 400, ("wrong_type", "records/1"))
    assert_refused(lab.post(f"{STAGE}?only=bad", {"records": []}), 400, ("invalid_value", "only"))
    files = {"files": [{"name": "a", "checksum": MD5}, {"name": "b", "size": -1}]}
    assert_refused(lab.post(ANNOUNCE, files), 400, ("missing", "files/1/checksum"), ("out_of_range", "files/1/size"))


@pytest.mark.parametrize(
    ("path", "name", "item"), [(STAGE, "records", {}), (ANNOUNCE, "files", make_files("a")["files"][0])]
)
def test_there_is_a_most_of_them(lab: Client, path: str, name: str, item: dict[str, Any]) -> None:
    assert_refused(lab.post(path, {name: [item] * 10_001}), 400, ("too_many", name))


def test_a_key_counts_for_what_is_to_be_made(lab: Client) -> None:
    body, headers = {"records": [{"ID": "a"}]}, {"Idempotency-Key": "a key"}
    first = lab.post(STAGE, body, headers=headers)
    assert lab.post(STAGE, body, headers=headers).body == first.body
    assert_refused(lab.post(f"{STAGE}?only=good", body, headers=headers), 422, ("idempotency_key_reused", None))


# Announcing.


def test_many_files_are_announced_as_one_is(lab: Client) -> None:
    announced = [result["upload"] for result in results(lab.post(ANNOUNCE, make_files(*"abc", size=4)))]
    assert [upload["name"] for upload in announced] == ["a", "b", "c"]
    alone = lab.post("/files", {"name": "d", "checksum": MD5}).json
    for upload in announced:
        assert upload.keys() == alone.keys()
        assert upload["requestHeaders"].keys() == alone["requestHeaders"].keys()
        assert upload["userId"] == alone["userId"]
        assert send(lab, upload, b"ACG").status_int == 409
        assert send(lab, upload).status_int == 204
        assert confirm(lab, upload).json["contentUploaded"] is True
    events = list_events(lab.portal, "file.announced")
    assert [each.after for each in events] == [{"name": name, "checksum": MD5} for name in "abcd"]
    assert [each.entity_site_id for each in events[:3]] == [upload["id"]["site"] for upload in announced]


def test_of_files_with_a_problem_none_is_announced_and_each_is_named(lab: Client) -> None:
    files = [*make_files("a")["files"], {"name": "", "checksum": "0"}]
    refused = lab.post(ANNOUNCE, {"files": files})
    assert {problem["field"] for problem in refused.json} == {"files/1/name", "files/1/checksum"}
    assert refused.status_int == 400
    assert count_rows(lab.portal, "files") == 0
    announced = results(lab.post(f"{ANNOUNCE}?only=good", {"files": files}))
    assert announced[0]["upload"]["name"] == "a"
    assert announced[1]["upload"] is None
    assert {field for *_, field in found(announced[1])} == {"name", "checksum"}


def test_room_is_given_in_turn(lab: Client) -> None:
    set_setting(lab.portal, "quota_user_bytes", "10")
    files = [{"name": str(size), "checksum": MD5, "size": size} for size in (6, 5, 0, 4, 1)]
    files.append({"name": "unknown", "checksum": MD5})
    refused = lab.post(ANNOUNCE, {"files": files})
    assert_refused(refused, 413, *(("quota_exceeded", f"files/{number}") for number in (1, 4, 5)))
    assert count_rows(lab.portal, "files") == 0
    announced = results(lab.post(f"{ANNOUNCE}?only=good", {"files": files}))
    assert [result["upload"] is not None for result in announced] == [True, False, True, True, False, False]
    assert found(announced[1]) == [("TooLargeError", "quota_exceeded", None)]
    assert "6 bytes of 10 bytes here, and this file has 5 bytes" in announced[1]["problems"][0]["message"]
    assert_refused(lab.post("/files", make_files("more")["files"][0]), 413, ("quota_exceeded", None))


class FailingStorage(FaultyStorage):
    """A store that answers a few times only."""

    left: int = 0
    lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        action = getattr(self.real, name)
        if name != self.method:
            return action

        def act(*arguments: Any, **more: Any) -> Any:
            with self.lock:
                self.left -= 1
                if self.left < 0:
                    raise StorageUnavailableError("no answer")
            return action(*arguments, **more)

        return act


def make_failing(portal: Portal, method: str, left: int) -> tuple[Portal, FailingStorage]:
    storage = FailingStorage(portal.storage, method)
    storage.left = left
    return Portal(portal.database, portal.settings, storage), storage


def list_uploads(portal: Portal) -> list[str]:
    return [each.upload for each in portal.storage.list_uploads()]


@pytest.mark.parametrize("left", [0, 3])
def test_where_the_store_does_not_answer_nothing_is_announced(portal: Portal, lab: Client, left: int) -> None:
    failing, _ = make_failing(portal, "begin_upload", left)
    who = Client(failing, lab.token, lab.uuid, lab.site_id, lab.email, lab.group)
    for query in ("", "?only=good"):
        assert_refused(who.post(ANNOUNCE + query, make_files(*"abcdef")), 503, ("unavailable", None))
    assert count_rows(portal, "files") == 0
    assert list_uploads(portal) == []
    assert list_events(portal, "file") == []


def test_what_cannot_be_taken_back_is_swept(portal: Portal, lab: Client) -> None:
    failing, storage = make_failing(portal, "begin_upload", 3)
    real_abort: Callable[..., None] = portal.storage.abort

    def fail(*_: str) -> None:
        raise StorageUnavailableError("no answer")

    portal.storage.abort = fail  # type: ignore[method-assign]
    who = Client(failing, lab.token, lab.uuid, lab.site_id, lab.email, lab.group)
    assert_refused(who.post(ANNOUNCE, make_files(*"abcdef")), 503, ("unavailable", None))
    assert lab.get("/staged/files").json == []
    assert count_rows(portal, "files") == 3
    portal.storage.abort = real_abort  # type: ignore[method-assign]
    with portal.database.engine.begin() as connection:
        connection.execute(text("UPDATE files SET state_changed_at = now() - interval '3 minutes'"))
    assert sweep(portal.database.sessions, portal.storage)["files removed"] == 3
    assert count_rows(portal, "files") == 0
    assert list_uploads(portal) == []
    assert isinstance(storage, FailingStorage)


def test_files_that_are_swept_while_the_store_is_slow_are_not_announced(
    portal: Portal, lab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, lock = portal.storage.begin_upload, threading.Lock()
    opened: list[str] = []

    def begin_slowly(key: str, checksum: str) -> str:
        with lock:
            opened.append(begin(key, checksum))
            if len(opened) == 3:
                with portal.database.engine.begin() as connection:
                    connection.execute(text("UPDATE files SET state_changed_at = now() - interval '11 minutes'"))
                sweep(portal.database.sessions, portal.storage)
        return opened[-1]

    monkeypatch.setattr(portal.storage, "begin_upload", begin_slowly)
    assert_refused(lab.post(ANNOUNCE, make_files(*"abc")), 503, (UnavailableError.code, None))
    assert count_rows(portal, "files") == 0
    assert list_uploads(portal) == []
    assert list_events(portal, "file.announced") == []
