"""Upload sessions, on each store: parts in any order, resumed, put together, verified, and never torn."""

import hashlib
import os
import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

import pytest
import urllib3
from sqlalchemy import func, select, text, update

from datameta.database import Database
from datameta.jobs import tasks
from datameta.jobs.tasks import Site
from datameta.jobs.worker import do_due_jobs
from datameta.logic import confirmation, parts, uploads, verification
from datameta.logic.sweep import sweep
from datameta.models import File, FileState, UploadPart
from datameta.settings import Settings
from datameta.storage import StorageUnavailableError, open_storage
from datameta.vault import open_vault
from tests.conftest import (
    BASE_URL,
    Client,
    Crash,
    FaultyStorage,
    Portal,
    announce,
    assert_refused,
    confirm,
    do_before,
    list_events,
    read_pages,
    set_setting,
)
from tests.conftest import send as send_whole
from tests.storage.backends import make_s3, s3_settings, set_credentials
from tests.storage.conftest import aws_environment  # noqa: F401

MIB = 1024**2
PART = 5 * MIB
CONTENT = os.urandom(2 * PART + 3)


@pytest.fixture(autouse=True)
def smallest_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make parts as small as S3 takes them."""
    monkeypatch.setattr(parts, "SMALLEST_PART", PART)


@pytest.fixture(params=["local", "rgw-presigned", "rgw-gateway"])
def lab(request: pytest.FixtureRequest, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A user of a portal over each store, in each mode."""
    store, _, mode = request.param.partition("-")
    if store == "local":
        settings = Settings(home=tmp_path, base_url=BASE_URL, bcrypt_cost=4, verification_wait_seconds=0)
        return Portal(database, settings, open_storage(settings)).add_user()
    gateway = request.getfixturevalue("rgw")
    set_credentials(monkeypatch, gateway.access_key, gateway.secret_key)
    settings = s3_settings(
        tmp_path, gateway.endpoint, mode, base_url=BASE_URL, bcrypt_cost=4, verification_wait_seconds=0
    )
    return Portal(database, settings, make_s3(settings)).add_user()


@pytest.fixture
def local(portal: Portal) -> Client:
    """A user of a portal with local storage."""
    return portal.add_user()


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def cut(content: bytes) -> dict[int, bytes]:
    """Return the parts of a content by number."""
    return {number: content[start : start + PART] for number, start in enumerate(range(0, len(content) or 1, PART), 1)}


def open_session(user: Client, content: bytes = CONTENT, **more: Any) -> tuple[str, dict[str, Any]]:
    """Announce a file and open its session; return the path of the session, and the session."""
    file = announce(user, content, **more)
    path = f"/files/{file['id']['uuid']}/upload-session"
    answer = user.post(path, {"size": len(content)})
    assert answer.status_int == 200, answer.body
    return path, answer.json


def send(user: Client, url: dict[str, Any], data: bytes) -> int:
    """Send a part to its address; return the status."""
    if url["url"].startswith(BASE_URL):
        path = url["url"].removeprefix(BASE_URL)
        return user.portal.app.put(path, data, headers=url["requestHeaders"], expect_errors=True).status_int
    with urllib3.PoolManager(retries=False) as pool:
        return pool.request("PUT", url["url"], body=data, headers=url["requestHeaders"]).status


def take_urls(user: Client, path: str, pieces: dict[int, bytes]) -> dict[int, dict[str, Any]]:
    """Announce parts; return their addresses by number."""
    wanted = [{"number": number, "md5": md5(data)} for number, data in pieces.items()]
    answer = user.post(f"{path}/part-urls", {"parts": wanted})
    assert answer.status_int == 200, answer.body
    return {url["number"]: url for url in answer.json["parts"]}


def send_parts(user: Client, path: str, pieces: dict[int, bytes]) -> None:
    """Announce parts and send them."""
    urls = take_urls(user, path, pieces)
    for number, data in pieces.items():
        assert send(user, urls[number], data) in (200, 204)


def arrived(user: Client, path: str) -> list[int]:
    return [part["number"] for part in user.get(f"{path}/parts").json]


def complete(user: Client, path: str, **body: Any) -> Any:
    return user.post(f"{path}/complete", body)


def find_file(user: Client, path: str) -> File:
    with user.portal.database.sessions() as db:
        return db.scalars(select(File).where(File.uuid == path.split("/")[2])).one()


def change_file(user: Client, path: str, **values: Any) -> None:
    with user.portal.database.sessions.begin() as db:
        db.execute(update(File).where(File.uuid == path.split("/")[2]).values(**values))


def do_jobs(user: Client) -> None:
    portal = user.portal
    do_due_jobs(Site(portal.settings, portal.database, portal.storage, open_vault(portal.settings)))


def fetch(user: Client, path: str) -> bytes:
    url = user.get(path.replace("/files/", "/rpc/get-file-url/").removesuffix("/upload-session")).json["fileUrl"]
    if url.startswith(BASE_URL):
        return user.portal.app.get(url.removeprefix(BASE_URL)).body
    with urllib3.PoolManager(retries=False) as pool:
        return pool.request("GET", url).data


def test_parts_in_any_order_become_the_file(lab: Client) -> None:
    path, session = open_session(lab)
    assert (session["state"], session["partSize"], session["partCount"]) == ("open", PART, 3)
    pieces = cut(CONTENT)
    send_parts(lab, path, {3: pieces[3], 1: pieces[1]})
    assert arrived(lab, path) == [1, 3]
    send_parts(lab, path, {2: pieces[2]})
    answer = complete(lab, path)
    assert answer.status_int == 200, answer.body
    assert (answer.json["state"], answer.json["verifiedBytes"]) == ("verified", len(CONTENT))
    assert fetch(lab, path) == CONTENT
    assert lab.get(path.removesuffix("/upload-session")).json["contentUploaded"] is True
    assert find_file(lab, path).sha256 == hashlib.sha256(CONTENT).hexdigest()
    with lab.portal.database.sessions() as db:
        assert db.scalars(select(UploadPart)).all() == []
    assert complete(lab, path).json == answer.json
    assert_refused(lab.get(f"{path}/parts"), 409, ("session_over", None))
    assert_refused(complete(lab, path, checksum=md5(b"other")), 403, ("not_modifiable", None))


def test_the_old_addresses_of_parts_change_nothing_after_the_confirmation(lab: Client) -> None:
    path, _ = open_session(lab)
    pieces = cut(CONTENT)
    urls = take_urls(lab, path, pieces)
    send_parts(lab, path, pieces)
    assert complete(lab, path).status_int == 200
    assert send(lab, urls[1], pieces[1]) >= 400
    assert fetch(lab, path) == CONTENT


@pytest.mark.parametrize(("checksum", "status"), [(md5(CONTENT), 200), (md5(b"other"), 403)], ids=["same", "other"])
def test_a_completion_that_another_overtakes_tells_how_that_ended(
    local: Client, monkeypatch: pytest.MonkeyPatch, checksum: str, status: int
) -> None:
    path, _ = open_session(local)
    send_parts(local, path, cut(CONTENT))
    real = uploads.update_file

    def be_overtaken(*arguments: Any, **more: Any) -> Any:
        real(*arguments, **more | {"checksum": None})
        return real(*arguments, **more)

    monkeypatch.setattr(uploads, "update_file", be_overtaken)
    answer = complete(local, path, checksum=checksum)
    assert answer.status_int == status
    assert local.get(path).json["state"] == "verified"


def test_an_empty_file_has_one_empty_part(lab: Client) -> None:
    path, session = open_session(lab, b"")
    assert session["partCount"] == 1
    assert_refused(complete(lab, path), 400, ("no_data", "contentUploaded"))
    send_parts(lab, path, {1: b""})
    assert complete(lab, path).json["state"] == "verified"
    assert fetch(lab, path) == b""


def test_other_bytes_than_announced_are_refused_and_what_was_sent_stays(lab: Client) -> None:
    path, _ = open_session(lab)
    pieces = cut(CONTENT)
    send_parts(lab, path, pieces)
    urls = take_urls(lab, path, pieces)
    assert send(lab, urls[1], pieces[2]) == 400
    assert send(lab, urls[3], pieces[3] + b"x") in (400, 403, 413)
    assert send(lab, urls[3], b"") in (400, 403)
    assert complete(lab, path).json["state"] == "verified"
    assert fetch(lab, path) == CONTENT


def test_missing_parts_are_named(lab: Client) -> None:
    path, _ = open_session(lab)
    answer = complete(lab, path)
    assert_refused(answer, 400, ("no_data", "contentUploaded"))
    pieces = cut(CONTENT)
    send_parts(lab, path, {2: pieces[2]})
    answer = complete(lab, path)
    assert_refused(answer, 409, ("parts_missing", None))
    assert "1, 3." in answer.json[0]["message"]
    # Announced is not arrived, and what was announced anew has to arrive anew.
    take_urls(lab, path, pieces | {2: b"other"})
    assert arrived(lab, path) == []
    assert_refused(complete(lab, path), 400, ("no_data", "contentUploaded"))
    send_parts(lab, path, {1: pieces[1]})
    answer = complete(lab, path)
    assert "2-3." in answer.json[0]["message"]
    assert lab.get(path).json["state"] == "open"


def test_a_part_may_be_replaced_by_another(lab: Client) -> None:
    other = bytes(PART) + CONTENT[PART:]
    path, _ = open_session(lab)
    send_parts(lab, path, cut(other))
    send_parts(lab, path, {1: CONTENT[:PART]})
    assert complete(lab, path).json["state"] == "verified"
    assert fetch(lab, path) == CONTENT


def test_the_checksum_may_come_with_the_completion(lab: Client) -> None:
    path, _ = open_session(lab, CONTENT)
    lab.put(path.removesuffix("/upload-session"), {"checksum": md5(b"provisional")})
    send_parts(lab, path, cut(CONTENT))
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    answer = complete(lab, path, checksum=sha256.upper())
    assert (answer.json["state"], answer.json["checksum"]) == ("verified", sha256)


def test_a_wrong_checksum_can_be_corrected_without_sending_again(lab: Client) -> None:
    path, _ = open_session(lab)
    send_parts(lab, path, cut(CONTENT))
    answer = complete(lab, path, checksum=md5(b"other"))
    assert (answer.status_int, answer.json["state"]) == (200, "failed")
    file = path.removesuffix("/upload-session")
    assert_refused(lab.put(file, {"contentUploaded": True}), 409, ("checksum_mismatch", "checksum"))
    assert lab.get(file).json["contentUploaded"] is False
    assert_refused(complete(lab, path, checksum=md5(b"another")), 409, ("checksum_mismatch", "checksum"))
    assert complete(lab, path, checksum=md5(CONTENT)).json["state"] == "verified"
    assert fetch(lab, path) == CONTENT


def test_a_session_with_the_wrong_content_can_be_given_up(lab: Client) -> None:
    path, _ = open_session(lab)
    send_parts(lab, path, cut(bytes(len(CONTENT))))
    assert complete(lab, path).json["state"] == "failed"
    assert lab.delete(path).status_int == 204
    assert_refused(lab.get(path), 404, ("no_session", None))
    assert list(lab.portal.storage.list_objects()) == []
    lab.post(path, {"size": len(CONTENT)})
    send_parts(lab, path, cut(CONTENT))
    assert complete(lab, path).json["state"] == "verified"
    assert fetch(lab, path) == CONTENT


def test_a_given_up_session_leaves_an_announced_file(local: Client) -> None:
    path, _ = open_session(local, b"ACGT")
    file = path.removesuffix("/upload-session")
    assert_refused(local.post(f"{file}/upload-url"), 409, ("session_open", None))
    urls = take_urls(local, path, {1: b"ACGT"})
    assert local.delete(path).status_int == 204
    assert_refused(local.delete(path), 404, ("no_session", None))
    assert send(local, urls[1], b"ACGT") == 404
    fresh = local.post(f"{file}/upload-url").json
    assert send_whole(local, fresh).status_int == 204
    assert confirm(local, fresh).status_int == 200


def test_the_single_address_ends_when_a_session_is_opened(local: Client) -> None:
    file = announce(local)
    assert local.post(f"/files/{file['id']['uuid']}/upload-session", {"size": 4}).status_int == 200
    assert_refused(send_whole(local, file), 404, ("not_found", None))


def test_a_session_is_opened_once(local: Client) -> None:
    path, session = open_session(local)
    assert local.post(path, {"size": len(CONTENT)}).json == session
    assert_refused(local.post(path, {"size": 5}), 409, ("session_exists", None))
    other = announce(local, name="b.fq")
    assert_refused(local.get(f"/files/{other['id']['uuid']}/upload-session"), 404, ("no_session", None))
    assert_refused(
        local.post(f"/files/{other['id']['uuid']}/upload-session/part-urls", {"parts": []}), 404, ("no_session", None)
    )


def test_two_who_open_a_session_at_once_get_the_same(local: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    file = announce(local, CONTENT)
    path = f"/files/{file['id']['uuid']}/upload-session"
    others: list[Any] = []
    storage = local.portal.storage
    do_before(monkeypatch, storage, "begin_parts", lambda: others.append(local.post(path, {"size": len(CONTENT)}).json))
    assert local.post(path, {"size": len(CONTENT)}).json == others[0]
    assert [upload.upload for upload in storage.list_uploads()] == [find_file(local, path).upload]


def test_a_size_that_was_announced_holds(local: Client) -> None:
    checksum = md5(b"ACGT")
    headers = {"DataMeta-File-Size": "4"}
    file = local.post("/files", {"name": "a.fq", "checksum": checksum}, headers=headers).json
    path = f"/files/{file['id']['uuid']}/upload-session"
    assert_refused(local.post(path, {"size": 5}), 409, ("size_mismatch", None))
    assert_refused(send_whole(local, file, b"ACGTA"), 413, ("too_large", None))
    assert send_whole(local, file).status_int == 204
    assert confirm(local, file).status_int == 200
    assert_refused(local.post(path, {"size": 4}), 403, ("not_modifiable", None))
    refused = local.post("/files", {"name": "b.fq", "checksum": checksum}, headers={"DataMeta-File-Size": "many"})
    assert refused.status_int == 400


def test_only_the_owner_has_to_do_with_a_session(local: Client) -> None:
    path, _ = open_session(local)
    other = local.portal.add_user(site_admin=True, site_read=True)
    answers = [
        other.get(path),
        other.post(path, {"size": len(CONTENT)}),
        other.delete(path),
        other.get(f"{path}/parts"),
        other.post(f"{path}/part-urls", {"parts": []}),
        complete(other, path),
    ]
    assert {answer.status_int for answer in answers} == {403}
    for word in ("get", "delete"):
        assert local.request(word, "/files/DMF-0/upload-session").status_int == 404


def test_what_is_no_part_is_refused(local: Client) -> None:
    path, _ = open_session(local)
    digest = md5(b"")
    body = {"parts": [{"number": number, "md5": digest} for number in (1, 1, 4, 10_000)]}
    answer = local.post(f"{path}/part-urls", body)
    assert_refused(answer, 400, ("unknown_part", "parts"), ("duplicate_part", "parts"))
    for part in ({"number": 0, "md5": digest}, {"number": 1, "md5": "x"}):
        assert local.post(f"{path}/part-urls", {"parts": [part]}).status_int == 400
    assert local.post(f"{path}/part-urls", {"parts": []}).json["parts"] == []
    urls = take_urls(local, path, {1: b""})
    place = urls[1]["url"].removeprefix(BASE_URL)
    headers = urls[1]["requestHeaders"]
    for wrong in (
        place.replace("/1", "/2"),
        place[:-1] + "x",
        place.replace("/upload/", "/upload/%00"),
        place + "0000",
    ):
        assert local.portal.app.put(wrong, b"", headers=headers, expect_errors=True).status_int == 404
    assert local.portal.app.put(place, b"", headers={"Access-Token": "x"}, expect_errors=True).status_int == 404


def test_parts_are_listed_in_pages(local: Client) -> None:
    path, _ = open_session(local)
    assert local.get(f"{path}/parts").json == []
    send_parts(local, path, cut(CONTENT))
    pages = read_pages(local, f"{path}/parts", limit=2)
    assert [[part["number"] for part in page] for page in pages] == [[1, 2], [3]]
    assert pages[1] == [[{"number": 3, "size": 3, "md5": md5(CONTENT[-3:])}]][0]
    assert_refused(local.get(f"{path}/parts", params={"cursor": "x"}), 400, ("invalid_cursor", "cursor"))


def test_an_expired_session_takes_nothing_more(local: Client) -> None:
    path, _ = open_session(local)
    urls = take_urls(local, path, {3: CONTENT[-3:]})
    change_file(local, path, upload_expires_at=func.now() - timedelta(hours=2))
    assert_refused(local.post(f"{path}/part-urls", {"parts": []}), 410, ("expired", None))
    assert_refused(local.post(path, {"size": len(CONTENT)}), 410, ("expired", None))
    assert send(local, urls[3], CONTENT[-3:]) == 404
    sweep(local.portal.database.sessions, local.portal.storage)
    assert local.get(path).status_int == 404
    with local.portal.database.sessions() as db:
        assert db.scalars(select(UploadPart)).all() == []
    assert list(local.portal.storage.list_uploads()) == []


def test_an_upload_that_the_store_dropped_is_over(lab: Client) -> None:
    path, _ = open_session(lab)
    send_parts(lab, path, {3: CONTENT[-3:]})
    urls = take_urls(lab, path, {3: CONTENT[-3:]})
    file = find_file(lab, path)
    lab.portal.storage.abort(file.upload_key, file.upload or "")
    assert_refused(lab.get(f"{path}/parts"), 409, ("session_over", None))
    assert send(lab, urls[3], CONTENT[-3:]) in (404, 409)
    assert_refused(complete(lab, path), 409, ("upload_expired", None))
    assert lab.delete(path).status_int == 204


def test_large_content_is_verified_by_a_job(lab: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmation, "INLINE_BYTES", 0)
    monkeypatch.setattr(verification, "RANGE_BYTES", PART)
    path, _ = open_session(lab)
    file = path.removesuffix("/upload-session")
    send_parts(lab, path, cut(CONTENT))
    assert complete(lab, path).json["state"] == "verifying"
    assert_refused(lab.put(file, {"contentUploaded": True}), 409, ("verification_in_progress", None))
    assert_refused(lab.put(file, {"name": "b.fq"}), 409, ("verification_in_progress", None))
    assert_refused(lab.delete(path), 409, ("verification_in_progress", None))
    assert_refused(lab.get(f"{path}/parts"), 409, ("verification_in_progress", None))
    assert_refused(lab.post(f"{path}/part-urls", {"parts": []}), 409, ("verification_in_progress", None))
    assert_refused(lab.get(file.replace("files", "rpc/get-file-url")), 400, ("not_confirmed", None))
    assert_refused(lab.submit([], [{"id": {"uuid": file.split("/")[2]}}]), 400,
                   ("not_confirmed", "fileIds"), ("file_not_referenced", "fileIds"))  # fmt: skip
    assert complete(lab, path).json["state"] == "verifying"
    do_jobs(lab)
    assert lab.get(path).json["state"] == "verified"
    assert fetch(lab, path) == CONTENT
    [event] = list_events(lab.portal, "file.confirmed")
    assert event.after["name"] == "a.fq"


def test_a_verification_goes_on_with_one_worker_at_a_time(local: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmation, "INLINE_BYTES", 0)
    path, _ = open_session(local)
    send_parts(local, path, cut(CONTENT))
    complete(local, path)
    lease = {"lease": func.gen_random_uuid(), "verified_bytes": 7}
    change_file(local, path, **lease, lease_until=func.now() + timedelta(minutes=1))
    do_jobs(local)
    assert (local.get(path).json["state"], local.get(path).json["verifiedBytes"]) == ("verifying", 7)
    # Its worker may have died: the job comes again, and finds out.
    with local.portal.database.sessions.begin() as db:
        [waits] = db.scalars(text("SELECT scheduled_at - now() FROM procrastinate_jobs WHERE status = 'todo'"))
        assert waits < timedelta(minutes=1)
        db.execute(text("DELETE FROM procrastinate_jobs"))
    # If nobody does, the next sweep brings another.
    old = func.now() - timedelta(minutes=3)
    change_file(local, path, **lease, lease_until=old, state_changed_at=old)
    sweep(local.portal.database.sessions, local.portal.storage)
    do_jobs(local)
    assert local.get(path).json["state"] == "verified"


@pytest.mark.parametrize("change", [{"state": FileState.DELETING}, {"lease": func.gen_random_uuid()}])
def test_a_verification_stops_when_the_file_is_no_longer_its_own(
    local: Client, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    monkeypatch.setattr(confirmation, "INLINE_BYTES", 0)
    path, _ = open_session(local)
    send_parts(local, path, cut(CONTENT))
    complete(local, path)
    file = find_file(local, path)
    sessions, storage = local.portal.database.sessions, local.portal.storage
    do_before(monkeypatch, storage, "read", lambda: change_file(local, path, **change))
    verification.verify_file(sessions, storage, file_id=file.id)
    assert find_file(local, path).sha256 is None
    monkeypatch.setattr(verification, "RANGE_BYTES", PART)
    change_file(local, path, state=FileState.VERIFYING, lease_until=None)
    do_before(monkeypatch, storage, "read", lambda: change_file(local, path, **change))
    verification.verify_file(sessions, storage, file_id=file.id)
    assert find_file(local, path).sha256 is None
    assert not verification.is_held(sessions, file_id=0)
    assert list_events(local.portal, "file.confirmed") == []


def test_a_store_that_fails_while_it_is_read_is_asked_again(local: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "FIRST_WAIT", 0)
    path, _ = open_session(local)
    send_parts(local, path, cut(CONTENT))
    storage = local.portal.storage
    real, calls = storage.read, []

    def break_off(key: str, start: int = 0, stop: int | None = None) -> Any:
        calls.append(start)
        for chunk in real(key, start, stop):
            yield chunk
            if len(calls) <= 3:
                raise StorageUnavailableError("broken")

    monkeypatch.setattr(storage, "read", break_off)
    assert complete(local, path).json["state"] == "verified"
    assert calls == [0, MIB, 2 * MIB, 3 * MIB]


def test_a_store_that_stays_silent_leaves_the_file_to_be_verified(
    local: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "FIRST_WAIT", 0)
    path, _ = open_session(local)
    send_parts(local, path, cut(CONTENT))
    storage = local.portal.storage

    def refuse(*arguments: Any) -> Any:
        raise StorageUnavailableError("silent")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "read", refuse)
        assert complete(local, path).status_int == 503
        assert local.get(path).json["state"] == "verifying"
        assert find_file(local, path).lease is None
        # The job is stored again, and waits for the store.
        change_file(local, path, state_changed_at=func.now() - timedelta(minutes=3))
        sweep(local.portal.database.sessions, storage)
        do_jobs(local)
    with local.portal.database.sessions.begin() as db:
        [status] = db.scalars(text("SELECT status::text FROM procrastinate_jobs WHERE task_name = 'verify_file'"))
        assert status == "todo"
        db.execute(text("UPDATE procrastinate_jobs SET scheduled_at = now()"))
    do_jobs(local)
    assert local.get(path).json["state"] == "verified"


def test_content_that_vanishes_before_it_was_verified_fails(local: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = open_session(local)
    send_parts(local, path, cut(CONTENT))
    storage = local.portal.storage
    key = find_file(local, path).upload_key
    do_before(monkeypatch, storage, "read", lambda: storage.delete(key))
    assert complete(local, path).json["state"] == "failed"
    assert find_file(local, path).problem == "content_missing"
    assert_refused(complete(local, path), 409, ("checksum_mismatch", "checksum"))


def test_content_that_cannot_be_read_fails_and_is_read_again_when_asked(
    local: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "FIRST_WAIT", 0)
    monkeypatch.setattr(tasks, "READ_JOBS", 1)
    monkeypatch.setattr(confirmation, "INLINE_BYTES", 0)
    path, _ = open_session(local)
    send_parts(local, path, cut(CONTENT))
    complete(local, path)

    def refuse(*arguments: Any) -> Any:
        raise StorageUnavailableError("Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(local.portal.storage, "read", refuse)
        do_jobs(local)
    assert (local.get(path).json["state"], find_file(local, path).problem) == ("failed", "content_unreadable")
    assert complete(local, path).json["state"] == "verifying"
    do_jobs(local)
    assert local.get(path).json["state"] == "verified"


def test_what_has_failed_is_read_again_before_it_is_confirmed(local: Client) -> None:
    path, _ = open_session(local)
    send_parts(local, path, cut(CONTENT))
    assert complete(local, path, checksum="0" * 32).json["state"] == "failed"
    local.portal.storage.delete(find_file(local, path).storage_key or "")
    assert complete(local, path, checksum=hashlib.md5(CONTENT).hexdigest()).json["state"] == "failed"
    assert find_file(local, path).problem == "content_missing"


def test_a_deletion_ends_a_verification(local: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmation, "INLINE_BYTES", 0)
    path, _ = open_session(local)
    send_parts(local, path, cut(CONTENT))
    complete(local, path)
    assert local.delete(path.removesuffix("/upload-session")).status_int == 204
    do_jobs(local)
    assert list(local.portal.storage.list_objects()) == []


def test_a_confirmation_waits_for_the_verification(local: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmation, "INLINE_BYTES", 0)
    monkeypatch.setattr(confirmation, "POLL_SECONDS", 0)
    path, _ = open_session(local)
    file = path.removesuffix("/upload-session")
    send_parts(local, path, cut(CONTENT))
    patient = replace(local, portal=Portal(local.portal.database, replace(local.portal.settings,
                                           verification_wait_seconds=300), local.portal.storage))  # fmt: skip
    real, waited = confirmation.time.sleep, []

    def work(seconds: float) -> None:
        waited.append(seconds)
        real(0)
        do_jobs(local)

    monkeypatch.setattr(confirmation.time, "sleep", work)
    assert patient.put(file, {"contentUploaded": True}).json["contentUploaded"] is True
    assert waited


def test_only_few_may_wait_at_once(local: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confirmation, "INLINE_BYTES", 0)
    monkeypatch.setattr(confirmation, "WAITING", BoundedSemaphore(1))
    monkeypatch.setattr(confirmation, "BRIEF_SECONDS", 0)
    path, _ = open_session(local)
    send_parts(local, path, cut(CONTENT))
    settings = replace(local.portal.settings, verification_wait_seconds=300)
    patient = replace(local, portal=Portal(local.portal.database, settings, local.portal.storage))
    with confirmation.WAITING:
        answer = patient.put(path.removesuffix("/upload-session"), {"contentUploaded": True})
    assert_refused(answer, 409, ("verification_in_progress", None))


@pytest.mark.parametrize(
    ("values", "status", "code"),
    [
        ({"state": FileState.DELETING}, 404, "not_found"),
        ({"state": FileState.ANNOUNCED}, 409, "checksum_mismatch"),
    ],
)
def test_who_waits_hears_how_it_ended(
    local: Client, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], status: int, code: str
) -> None:
    monkeypatch.setattr(confirmation, "INLINE_BYTES", 0)
    path, _ = open_session(local)
    send_parts(local, path, cut(CONTENT))
    patient = replace(local, portal=Portal(local.portal.database, replace(local.portal.settings,
                                           verification_wait_seconds=300), local.portal.storage))  # fmt: skip
    monkeypatch.setattr(confirmation.time, "sleep", lambda seconds: change_file(local, path, **values))
    answer = patient.put(path.removesuffix("/upload-session"), {"contentUploaded": True})
    assert (answer.status_int, answer.json[0]["error_code"]) == (status, code)


def test_a_verification_whose_reader_has_died_is_taken_over_by_the_next_confirmation(
    local: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = open_session(local)
    send_parts(local, path, cut(CONTENT))

    def die() -> None:
        raise Crash

    do_before(monkeypatch, local.portal.storage, "read", die)
    with monkeypatch.context() as patch:
        patch.setattr(verification, "_give_lease_back", lambda *arguments: None)
        with pytest.raises(Crash):
            complete(local, path)
    assert complete(local, path).json["state"] == "verifying"
    change_file(local, path, lease_until=func.now() - timedelta(seconds=1))
    assert complete(local, path).json["state"] == "verified"


@pytest.mark.parametrize("is_after", [False, True])
def test_a_crash_in_a_completion_ends_in_a_verified_file(lab: Client, is_after: bool) -> None:
    path, _ = open_session(lab)
    send_parts(lab, path, cut(CONTENT))
    portal = lab.portal
    broken = Portal(
        portal.database, portal.settings, FaultyStorage(portal.storage, "complete_parts", is_after=is_after)
    )
    with pytest.raises(Crash):
        complete(replace(lab, portal=broken), path)
    assert lab.get(path).json["state"] == "completing"
    change_file(lab, path, state_changed_at=func.now() - timedelta(minutes=3))
    sweep(portal.database.sessions, portal.storage)
    assert lab.get(path).json["state"] == "verified"
    assert fetch(lab, path) == CONTENT


@pytest.mark.parametrize(("quota", "who"), [("quota_user_bytes", "You have"), ("quota_group_bytes", "Your group has")])
def test_a_full_quota_refuses_the_announcement(local: Client, quota: str, who: str) -> None:
    def announce_size(user: Client, size: int | None) -> Any:
        headers = {} if size is None else {"DataMeta-File-Size": str(size)}
        return user.post("/files", {"name": "a.fq", "checksum": md5(b"")}, headers=headers)

    set_setting(local.portal, quota, "10")
    assert announce_size(local, 4).status_int == 200
    local.upload("b.fq", b"ACGT")
    path, _ = open_session(local, b"A", name="c.fq")
    answer = announce_size(local, 2)
    assert_refused(answer, 413, ("quota_exceeded", None))
    assert answer.json[0]["message"].startswith(f"{who} 9 bytes of 10 bytes here, and this file has 2 bytes.")
    other = announce(local, name="d.fq")
    assert_refused(
        local.post(f"/files/{other['id']['uuid']}/upload-session", {"size": 2}), 413, ("quota_exceeded", None)
    )
    assert announce_size(local, None).status_int == 200
    assert announce_size(local, 1).status_int == 200
    assert_refused(announce_size(local, None), 413, ("quota_exceeded", None))
    colleague = announce_size(local.portal.add_user(), 1)
    assert colleague.status_int == (200 if quota == "quota_user_bytes" else 413)
    assert announce_size(local.portal.add_user("Lab B"), 1).status_int == 200
    local.delete(path.removesuffix("/upload-session"))
    assert announce_size(local, 1).status_int == 200


def test_a_full_quota_takes_the_session_of_a_file_that_it_took(local: Client) -> None:
    set_setting(local.portal, "quota_user_bytes", "10")
    answer = local.post("/files", {"name": "a", "checksum": md5(b"")}, headers={"DataMeta-File-Size": "10"})
    path = f"/files/{answer.json['id']['uuid']}/upload-session"
    assert local.post(path, {"size": 10}).status_int == 200
    # Lowered later, it still takes nothing back.
    other = local.post("/files", {"name": "b", "checksum": md5(b"")}, headers={"DataMeta-File-Size": "0"}).json
    set_setting(local.portal, "quota_user_bytes", "5")
    assert local.post(f"/files/{other['id']['uuid']}/upload-session", {"size": 0}).status_int == 200


def test_sizes_read_as_people_write_them() -> None:
    from datameta.logic.quotas import format_size

    sizes = (0, 999, 1500, 12_345_678, 5 * 10**12, 10**18)
    assert [format_size(size) for size in sizes] == ["0 bytes", "999 bytes", "1.5 kB", "12.3 MB", "5 TB", "1e+03 PB"]


@pytest.mark.parametrize(
    ("size", "part_size"), [(0, 16), (16, 16), (32_000, 16), (32_001, 17), (200_000, 100), (5 * 1024**2, 2622)]
)
def test_parts_grow_with_the_file(monkeypatch: pytest.MonkeyPatch, size: int, part_size: int) -> None:
    monkeypatch.setattr(parts, "SMALLEST_PART", 16 * MIB)
    assert parts.choose_part_size(size * MIB) == part_size * MIB
    assert -(-size // part_size) <= 10_000


def test_numbers_are_written_as_runs() -> None:
    assert parts.format_numbers([1, 3, 4, 5, 9]) == "1, 3-5, 9"


def test_a_confirmation_that_stalled_takes_nothing_of_a_later_session(
    lab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store fixes the single upload at the very moment in which a session has taken its place."""
    file = announce(lab, CONTENT)
    path = f"/files/{file['id']['uuid']}/upload-session"
    single = {"url": file["urlToUpload"], "requestHeaders": file["requestHeaders"]}
    assert send(lab, single, CONTENT) in (200, 204)
    storage = lab.portal.storage
    real = storage.complete

    def stall(*arguments: Any) -> Any:
        stored = real(*arguments)
        # A second attempt has ended meanwhile, and the owner opened a session.
        change_file(lab, path, state=FileState.ANNOUNCED)
        assert lab.post(path, {"size": len(CONTENT)}).status_int == 200
        return stored

    monkeypatch.setattr(storage, "complete", stall)
    assert_refused(confirm(lab, file), 409, ("upload_replaced", None))
    assert list(storage.list_objects()) == []
    send_parts(lab, path, cut(CONTENT))
    assert complete(lab, path).json["state"] == "verified"
    assert fetch(lab, path) == CONTENT


def test_a_change_of_checksum_that_a_session_overtook_is_refused(
    local: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = announce(local)
    path = f"/files/{file['id']['uuid']}"
    do_before(
        monkeypatch, local.portal.storage, "begin_upload", lambda: local.post(f"{path}/upload-session", {"size": 4})
    )
    assert_refused(local.put(path, {"checksum": "0" * 64}), 409, ("upload_replaced", None))
    assert local.get(f"{path}/upload-session").json["checksum"] == md5(b"ACGT")


def test_a_refused_confirmation_leaves_a_later_session_alone(local: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    file = announce(local, CONTENT)
    path = f"/files/{file['id']['uuid']}/upload-session"

    def open_meanwhile() -> None:
        change_file(local, path, state=FileState.ANNOUNCED)
        assert local.post(path, {"size": len(CONTENT)}).status_int == 200

    do_before(monkeypatch, local.portal.storage, "complete", open_meanwhile)
    assert_refused(confirm(local, file), 409, ("upload_replaced", None))
    assert local.get(path).json["state"] == "open"


@pytest.mark.parametrize(
    ("state", "code"),
    [(FileState.VERIFYING, "verification_in_progress"), (FileState.FAILED, "checksum_mismatch")],
)
def test_a_refused_completion_undoes_nothing_of_one_that_succeeded(
    local: Client, monkeypatch: pytest.MonkeyPatch, state: FileState, code: str
) -> None:
    path, _ = open_session(local)
    done = {"state": state, "storage_key": "files/x", "size": 1}
    do_before(monkeypatch, local.portal.storage, "list_parts", lambda: change_file(local, path, **done))
    answer = complete(local, path)
    assert (answer.status_int, answer.json[0]["error_code"]) == (409, code)
    assert find_file(local, path).state == state


def test_a_completion_after_one_that_failed_tells_that(local: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = open_session(local)
    send_parts(local, path, cut(CONTENT))
    storage = local.portal.storage
    real = storage.complete_parts

    def be_overtaken(*arguments: Any) -> Any:
        stored = real(*arguments)
        change_file(local, path, state=FileState.FAILED, storage_key=stored.key, size=stored.size)
        return stored

    monkeypatch.setattr(storage, "complete_parts", be_overtaken)
    assert complete(local, path).json["state"] == "failed"


def test_a_file_that_is_going_or_being_confirmed_has_no_session(local: Client) -> None:
    path, _ = open_session(local)
    change_file(local, path, state=FileState.DELETING)
    assert local.get(path).status_int == 404
    other = announce(local, name="b.fq")
    path = f"/files/{other['id']['uuid']}/upload-session"
    change_file(local, path, state=FileState.CONFIRMING)
    assert_refused(local.post(path, {"size": 4}), 409, ("confirmation_running", None))


def test_a_verification_that_stops_leaves_no_reader(local: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "READ_AHEAD", 1)
    monkeypatch.setattr(verification, "RANGE_BYTES", MIB)
    path, _ = open_session(local)
    send_parts(local, path, cut(CONTENT))
    assert complete(local, path).json["state"] == "verified"

    def stop(done: int) -> None:
        raise verification.LeaseLostError

    with pytest.raises(verification.LeaseLostError):
        verification.hash_content(local.portal.storage, find_file(local, path).storage_key or "", stop)
    assert "read-ahead" not in {thread.name for thread in threading.enumerate()}


def test_a_single_upload_that_a_job_finds_wrong_is_announced_again(
    local: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a store that proves nothing."""
    monkeypatch.setattr(confirmation, "INLINE_BYTES", 0)
    file = announce(local)
    path = f"/files/{file['id']['uuid']}"
    send_whole(local, file)
    storage = local.portal.storage
    real = storage.complete
    monkeypatch.setattr(storage, "complete", lambda *arguments: replace(real(*arguments), md5=None, sha256=None))
    settings = replace(local.portal.settings, verification_wait_seconds=0)
    hasty = replace(local, portal=Portal(local.portal.database, settings, storage))
    assert_refused(hasty.put(path, {"contentUploaded": True}), 409, ("verification_in_progress", None))
    change_file(local, f"{path}/", checksum="0" * 32)
    do_jobs(local)
    assert find_file(local, f"{path}/").state == FileState.ANNOUNCED
    assert list(storage.list_objects()) == []
    [event] = list_events(local.portal, "file.refused")
    assert event.after["reason"] == "checksum_mismatch"
