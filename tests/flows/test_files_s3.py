"""Files on S3: clients send to the store itself or through the portal, and confirmed content never changes."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from datameta.clock import utc_now
from datameta.database import Database
from datameta.logic.sweep import sweep
from datameta.storage import PresignedRequest
from tests.conftest import BASE_URL, Client, Crash, FaultyStorage, Portal, announce, codes, confirm, do_before
from tests.conftest import send as send_to_portal
from tests.storage.backends import RefusedError, make_s3, s3_settings, send_request, set_credentials
from tests.storage.conftest import aws_environment, moto  # noqa: F401

SHA256 = hashlib.sha256(b"ACGT").hexdigest()
NAME = '日本語 "x".fq'


@pytest.fixture(params=["moto-presigned", "moto-gateway", "rgw-presigned", "rgw-gateway"])
def lab(request: pytest.FixtureRequest, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A user of a portal over each store, in each mode."""
    store, _, mode = request.param.partition("-")
    if store == "moto":
        endpoint = request.getfixturevalue("moto")
    else:
        gateway = request.getfixturevalue("rgw")
        endpoint = gateway.endpoint
        set_credentials(monkeypatch, gateway.access_key, gateway.secret_key)
    settings = s3_settings(tmp_path, endpoint, mode, base_url=BASE_URL, bcrypt_cost=4)
    return Portal(database, settings, make_s3(settings)).add_user()


def send(user: Client, announced: dict[str, Any], content: bytes = b"ACGT") -> int:
    """Send bytes to where the announcement says, and return the status."""
    if announced["urlToUpload"].startswith(BASE_URL):
        return send_to_portal(user, announced, content).status_int
    try:
        return send_request(
            "PUT", PresignedRequest(announced["urlToUpload"], announced["requestHeaders"], utc_now()), content
        ).status
    except RefusedError as error:
        return error.status


def fetch(user: Client, file: dict[str, Any]) -> tuple[bytes, str]:
    """Return the bytes and the Content-Disposition that a download address gives."""
    url = user.get(f"/rpc/get-file-url/{file['id']['uuid']}", params={"expires": 5}).json["fileUrl"]
    if url.startswith(BASE_URL):
        answer = user.portal.app.get(url)
        return answer.body, answer.headers["Content-Disposition"]
    answer = send_request("GET", PresignedRequest(url, {}, utc_now()))
    return answer.data, answer.headers["Content-Disposition"]


def objects(user: Client) -> list[bytes]:
    storage = user.portal.storage
    return [b"".join(storage.read(key)) for key in [entry.key for entry in storage.list_objects()]]


def is_direct(user: Client) -> bool:
    return user.portal.storage.is_direct


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
@pytest.mark.parametrize("content", [b"ACGT", b""])
def test_a_file_is_announced_sent_confirmed_fetched_and_deleted(lab: Client, algorithm: str, content: bytes) -> None:
    file = announce(lab, content, name=NAME, algorithm=algorithm)
    assert file["urlToUpload"].startswith(BASE_URL) != is_direct(lab)
    assert "content-type" not in map(str.lower, file["requestHeaders"])
    assert codes(confirm(lab, file)) == {("no_data", "contentUploaded")}
    assert send(lab, file, content) in (200, 204)
    assert send(lab, file, content) in (200, 204)
    confirmed = confirm(lab, file)
    assert confirmed.status_int == 200
    assert confirmed.json["filesize"] == len(content)
    assert confirm(lab, file).status_int == 403
    body, disposition = fetch(lab, file)
    assert body == content
    assert disposition.endswith("filename*=UTF-8''%E6%97%A5%E6%9C%AC%E8%AA%9E%20%22x%22.fq")
    assert list(lab.portal.storage.list_uploads()) == []
    assert lab.delete(f"/files/{file['id']['uuid']}").status_int == 204
    assert lab.get(f"/files/{file['id']['uuid']}").status_int == 404
    # A backup may need it.
    assert objects(lab) == [content]


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_the_still_valid_upload_address_changes_nothing_after_the_confirmation(lab: Client, algorithm: str) -> None:
    file = announce(lab, algorithm=algorithm)
    renewed = lab.post(f"/files/{file['id']['uuid']}/upload-url").json
    send(lab, renewed)
    assert confirm(lab, file).status_int == 200
    for content in (b"other", b"ACGT", b""):
        send(lab, file, content)
        send(lab, renewed, content)
        assert fetch(lab, file)[0] == b"ACGT"
        assert objects(lab) == [b"ACGT"]
    # A store that takes the bytes all the same keeps them apart, and the sweeper removes them.
    assert confirm(lab, file).status_int == 403
    assert fetch(lab, file)[0] == b"ACGT"


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_other_bytes_are_never_confirmed(lab: Client, algorithm: str) -> None:
    file = announce(lab, algorithm=algorithm)
    was_taken = send(lab, file, b"other") < 400
    answer = confirm(lab, file)
    assert codes(answer) == {("checksum_mismatch", "checksum") if was_taken else ("no_data", "contentUploaded")}
    assert objects(lab) == []
    assert send(lab, file) < 400
    assert confirm(lab, file).status_int == 200


def test_another_checksum_needs_another_address(lab: Client) -> None:
    file = announce(lab, b"wrong")
    path = f"/files/{file['id']['uuid']}"
    send(lab, file, b"wrong")
    checksum = hashlib.md5(b"ACGT").hexdigest()
    assert lab.put(path, {"checksum": checksum}).json["checksum"] == checksum
    file = lab.post(f"{path}/upload-url").json
    assert send(lab, file) < 400
    assert confirm(lab, file).json["checksum"] == checksum
    assert fetch(lab, file)[0] == b"ACGT"


@pytest.mark.parametrize(("former", "latter"), [("md5", "sha256"), ("sha256", "md5")])
def test_a_checksum_of_the_other_kind_begins_the_upload_anew(lab: Client, former: str, latter: str) -> None:
    old = announce(lab, algorithm=former)
    path = f"/files/{old['id']['uuid']}"
    send(lab, old)
    checksum = hashlib.new(latter, b"ACGT").hexdigest()
    assert codes(confirm(lab, old, checksum=checksum)) == {("no_data", "checksum")}
    assert lab.put(path, {"checksum": checksum}).json["checksum"] == checksum
    assert codes(confirm(lab, old)) == {("no_data", "contentUploaded")}
    file = lab.post(f"{path}/upload-url").json
    if is_direct(lab):
        send(lab, old, b"other")
        assert codes(confirm(lab, old)) == {("no_data", "contentUploaded")}
    assert send(lab, file) < 400
    assert confirm(lab, file).status_int == 200
    send(lab, old, b"other")
    assert fetch(lab, file)[0] == b"ACGT"


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_racing_confirmations_take_effect_once(lab: Client, algorithm: str) -> None:
    for _ in range(3):
        file = announce(lab, algorithm=algorithm)
        send(lab, file)
        with ThreadPoolExecutor(6) as pool:
            statuses = [each.status_int for each in pool.map(lambda _: confirm(lab, file), range(6))]  # noqa: B023
        assert set(statuses) <= {200, 403}
        assert 200 in statuses
    assert objects(lab) == [b"ACGT"] * 3


def test_a_confirmation_that_another_overtakes_is_refused(lab: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    file = announce(lab, algorithm="sha256")
    send(lab, file)
    do_before(monkeypatch, lab.portal.storage, "complete", lambda: confirm(lab, file))
    answer = confirm(lab, file)
    assert (answer.status_int, codes(answer)) == (403, {("not_modifiable", None)})
    assert fetch(lab, file)[0] == b"ACGT"


def test_a_change_of_checksum_made_twice_keeps_the_bytes_sent_between(
    lab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = announce(lab)
    path = f"/files/{file['id']['uuid']}"

    def change_and_send() -> None:
        assert lab.put(path, {"checksum": SHA256}).status_int == 200
        assert send(lab, lab.post(f"{path}/upload-url").json) < 400

    do_before(monkeypatch, lab.portal.storage, "begin_upload", change_and_send)
    assert lab.put(path, {"checksum": SHA256}).status_int == 200
    assert confirm(lab, file).status_int == 200


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_deletion_and_a_confirmation_leave_nothing_torn(lab: Client, algorithm: str) -> None:
    for _ in range(5):
        file = announce(lab, algorithm=algorithm)
        send(lab, file)
        with ThreadPoolExecutor(2) as pool:
            confirmed = pool.submit(confirm, lab, file)
            deleted = pool.submit(lab.delete, f"/files/{file['id']['uuid']}")
        assert deleted.result().status_int == 204
        assert confirmed.result().status_int in (200, 404)
    assert objects(lab) == []


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
@pytest.mark.parametrize("is_after", [False, True])
def test_a_crash_in_a_confirmation_ends_in_a_confirmed_file(lab: Client, algorithm: str, is_after: bool) -> None:
    file = announce(lab, algorithm=algorithm)
    send(lab, file)
    storage = lab.portal.storage
    faulty = FaultyStorage(storage, "complete", is_after=is_after)
    with pytest.raises(Crash):
        confirm(Client(**vars(lab) | {"portal": Portal(lab.portal.database, lab.portal.settings, faulty)}), file)  # type: ignore[arg-type]
    with lab.portal.database.engine.begin() as connection:
        connection.execute(text("UPDATE files SET state_changed_at = now() - interval '3 minutes'"))
    assert sweep(lab.portal.database.sessions, storage)["files confirmed"] == 1
    assert fetch(lab, file)[0] == b"ACGT"


def test_an_upload_that_the_store_has_ended_says_so(lab: Client) -> None:
    file = announce(lab)
    send(lab, file)
    [upload] = lab.portal.storage.list_uploads()
    lab.portal.storage.abort(upload.key, upload.upload)
    assert codes(confirm(lab, file)) == {("upload_expired", None)}
    assert lab.get(f"/files/{file['id']['uuid']}").json["contentUploaded"] is False
    assert send(lab, file) >= 400
    assert lab.delete(f"/files/{file['id']['uuid']}").status_int == 204


def test_a_confirmation_leaves_nothing_of_the_upload_and_asks_no_more_than_it_needs(
    lab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    aborted: list[tuple[str, str]] = []
    abort = lab.portal.storage.abort
    monkeypatch.setattr(lab.portal.storage, "abort", lambda *upload: (aborted.append(upload), abort(*upload)))
    file = announce(lab)
    send(lab, file)
    assert confirm(lab, file).status_int == 200
    assert aborted == []
    assert list(lab.portal.storage.list_uploads()) == []
