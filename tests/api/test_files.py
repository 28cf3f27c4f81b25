"""Files as the API shows them: announced, confirmed, changed, deleted; each step whole or not at all."""

import hashlib
import logging
import random
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from threading import Barrier, Event
from typing import Any

import pytest
import webtest
from sqlalchemy import text

from datameta.storage import Storage, StorageUnavailableError, StoredObject
from tests.conftest import (
    BASE_URL,
    Client,
    FaultyStorage,
    Portal,
    announce,
    assert_refused,
    codes,
    confirm,
    counted,
    do_before,
    send,
)

MD5 = hashlib.md5(b"ACGT").hexdigest()
SHA256 = hashlib.sha256(b"ACGT").hexdigest()
UNKNOWN = "DMF-00000000"


def path_of(file: dict[str, Any]) -> str:
    return f"/files/{file['id']['uuid']}"


def contents(storage: Storage) -> list[bytes]:
    """Return the content of every object in the store."""
    return [b"".join(storage.read(key)) for key in (entry.key for entry in storage.list_objects())]


def states(portal: Portal) -> list[str]:
    """Return the state of every file."""
    with portal.database.engine.connect() as connection:
        return list(connection.scalars(text("SELECT state FROM files ORDER BY id")))


def set_state(lab: Client, state: str) -> None:
    """Leave every file in the midst of a step."""
    with lab.portal.database.engine.begin() as connection:
        connection.execute(text("UPDATE files SET state = :state"), {"state": state})


def race(*actions: Callable[[], webtest.TestResponse]) -> list[webtest.TestResponse]:
    """Begin all actions at once and return their answers in order."""
    barrier = Barrier(len(actions))

    def run(action: Callable[[], webtest.TestResponse]) -> webtest.TestResponse:
        barrier.wait(30)
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(run, actions))


@pytest.fixture
def lab(portal: Portal) -> Client:
    return portal.add_user()


@pytest.fixture
def faulty(portal: Portal) -> FaultyStorage:
    """The store of ``shaky``, which a test breaks by naming a method."""
    return FaultyStorage(portal.storage, error=StorageUnavailableError("down"))


@pytest.fixture
def shaky(portal: Portal, faulty: FaultyStorage) -> Client:
    """A user of a portal whose store can fail."""
    return Portal(portal.database, portal.settings, faulty).add_user()  # type: ignore[arg-type]


# Announcing.


def test_an_announcement_says_how_to_send_the_bytes(lab: Client) -> None:
    answer = lab.post("/files", {"name": "a.fq", "checksum": MD5}).json
    assert answer.keys() == {"id", "name", "urlToUpload", "requestHeaders", "userId", "expires"}
    assert answer["id"].keys() == {"uuid", "site"}
    assert answer["urlToUpload"] == f"{BASE_URL}/api/v1/upload/{answer['id']['uuid']}"
    assert answer["requestHeaders"].keys() == {"Access-Token"}
    assert answer["userId"] == {"uuid": lab.uuid, "site": lab.site_id}
    read = lab.get(path_of(answer)).json
    assert read == {
        "id": answer["id"],
        "name": "a.fq",
        "contentUploaded": False,
        "checksum": MD5,
        "filesize": None,
        "userId": answer["userId"],
        "expires": answer["expires"],
    }


@pytest.mark.parametrize("name", ["x" * 255, '日本語 "x".fq', "😀" * 250, ".hidden"])
@pytest.mark.parametrize("checksum", [MD5, MD5.upper(), SHA256, SHA256.upper()])
def test_names_and_checksums_are_accepted(lab: Client, name: str, checksum: str) -> None:
    announced = lab.post("/files", {"name": name, "checksum": checksum}).json
    assert announced["name"] == name
    assert send(lab, announced).status_int == 204
    confirmed = confirm(lab, announced).json
    assert confirmed["name"] == name
    assert confirmed["checksum"].lower() == checksum.lower()
    assert (confirmed["contentUploaded"], confirmed["filesize"], confirmed["expires"]) == (True, 4, None)


@pytest.mark.parametrize("name", ["", "x" * 256, "😀" * 251, "a/b", "..", " a", "a\n", "a\0b", "a\u202eb", 5, None])
def test_a_wrong_name_is_refused(lab: Client, name: Any) -> None:
    announced = announce(lab)
    for answer in (lab.post("/files", {"name": name, "checksum": MD5}), lab.put(path_of(announced), {"name": name})):
        assert answer.status_int == 400
        assert [problem["field"] for problem in answer.json] == ["name"]
    assert lab.get(path_of(announced)).json["name"] == "a.fq"
    assert states(lab.portal) == ["announced"]


@pytest.mark.parametrize("checksum", ["", "0" * 31, "0" * 40, "g" * 32, MD5 + "\n", "0" * 200, 5, None])
def test_a_wrong_checksum_is_refused(lab: Client, checksum: Any) -> None:
    announced = announce(lab)
    answers = [lab.post("/files", {"name": "a", "checksum": checksum}), confirm(lab, announced, checksum=checksum)]
    for answer in answers:
        assert answer.status_int == 400
        assert [problem["field"] for problem in answer.json] == ["checksum"]
    assert lab.get(path_of(announced)).json["checksum"] == MD5
    assert states(lab.portal) == ["announced"]


def test_all_problems_are_told_at_once(lab: Client) -> None:
    both = {"name": "a/b", "checksum": "x"}
    expected = [("invalid_name", "name"), ("invalid_checksum", "checksum")]
    assert_refused(lab.post("/files", both), 400, *expected)
    assert_refused(lab.put(path_of(announce(lab)), both), 400, *expected)
    assert_refused(lab.post("/files", {}), 400, ("missing", "name"), ("missing", "checksum"))


def announce_size(user: Client, size: str) -> Any:
    return user.post("/files", {"name": "a.fq", "checksum": MD5}, headers={"DataMeta-File-Size": size})


def test_a_size_may_be_announced(lab: Client) -> None:
    for size in ("0", "4", str(5 * 1024**4)):
        assert announce_size(lab, size).status_int == 200


@pytest.mark.parametrize("size", ["", "-1", "many", "1.5", "4 bytes", "0x4", str(5 * 1024**4 + 1), "9" * 5000])
def test_a_wrong_size_is_refused(lab: Client, size: str) -> None:
    answer = announce_size(lab, size)
    assert answer.status_int == 400
    assert {field for _, field in codes(answer)} == {"DataMeta-File-Size"}
    assert lab.get("/staged/files").json == []


def test_an_upload_has_just_the_announced_size(lab: Client) -> None:
    file = announce_size(lab, "4").json
    assert send(lab, file).status_int == 204
    assert_refused(send(lab, file, b"ACG"), 409, ("size_mismatch", None))
    assert_refused(send(lab, file, b""), 409, ("size_mismatch", None))
    assert_refused(send(lab, file, b"ACGTA"), 413, ("too_large", None))
    assert confirm(lab, file).json["filesize"] == 4


def test_a_name_may_be_announced_again(lab: Client) -> None:
    assert announce(lab)["id"] != announce(lab)["id"]


# Reading.


def test_a_file_is_known_by_either_id(lab: Client) -> None:
    file = announce(lab)
    for file_id in (file["id"]["uuid"], file["id"]["uuid"].upper(), file["id"]["site"]):
        assert lab.get(f"/files/{file_id}").json["id"] == file["id"]
        assert lab.put(f"/files/{file_id}", {"name": "b"}).json["id"] == file["id"]
    assert lab.delete(f"/files/{file['id']['site']}").status_int == 204


def test_a_staged_file_is_its_owners_alone(lab: Client) -> None:
    file = announce(lab)
    others = [lab.portal.add_user(), lab.portal.add_user(site_admin=True, site_read=True, group_admin=True)]
    for other in others:
        assert_refused(other.get(path_of(file)), 403, ("forbidden", None))
        assert_refused(confirm(other, file), 403, ("forbidden", None))
        assert_refused(other.put(path_of(file), {"name": "/"}), 403, ("forbidden", None))
        assert_refused(other.delete(path_of(file)), 403, ("forbidden", None))
    assert lab.get(path_of(file)).status_int == 200


def test_an_unknown_file_is_not_found(lab: Client) -> None:
    for file_id in (UNKNOWN, "3f0e9a3b-0000-4000-8000-000000000000", "x"):
        for answer in (
            lab.get(f"/files/{file_id}"),
            lab.put(f"/files/{file_id}", {"name": "/"}),
            lab.delete(f"/files/{file_id}"),
        ):
            assert_refused(answer, 404, ("not_found", None))


@pytest.mark.parametrize("state", ["new", "deleting"])
def test_a_file_half_made_or_half_gone_is_not_found(lab: Client, state: str) -> None:
    file = announce(lab)
    set_state(lab, state)
    answers = [lab.get(path_of(file)), confirm(lab, file), lab.delete(path_of(file)), send(lab, file)]
    for answer in [*answers, lab.get(f"/rpc/get-file-url/{file['id']['uuid']}")]:
        assert_refused(answer, 404, ("not_found", None))


# Confirming and changing.


def test_nothing_sent_is_nothing_to_confirm(lab: Client) -> None:
    for content in (b"ACGT", b""):
        file = announce(lab, content)
        assert_refused(confirm(lab, file), 400, ("no_data", "contentUploaded"))
        assert lab.get(path_of(file)).json["contentUploaded"] is False


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_other_bytes_can_be_replaced_by_the_right_ones(lab: Client, algorithm: str) -> None:
    file = announce(lab, algorithm=algorithm)
    send(lab, file, b"other")
    answer = confirm(lab, file)
    assert_refused(answer, 409, ("checksum_mismatch", "checksum"))
    assert answer.json[0]["entity"] == file["id"]
    assert lab.get(path_of(file)).json["contentUploaded"] is False
    send(lab, file)
    assert confirm(lab, file).status_int == 200
    assert contents(lab.portal.storage) == [b"ACGT"]


def test_a_file_is_confirmed_once(lab: Client) -> None:
    file = announce(lab)
    send(lab, file)
    confirmed = confirm(lab, file).json
    changes = [{"contentUploaded": True}, {"contentUploaded": False}, {"name": "b"}, {"checksum": MD5}, {}]
    for change in changes:
        answer = lab.put(path_of(file), change)
        assert_refused(answer, 403, ("not_modifiable", None))
        assert answer.json[0]["exception"] == "ResourceNotModifiableError"
    assert lab.get(path_of(file)).json == confirmed


def test_name_and_checksum_change_until_the_confirmation(lab: Client) -> None:
    file = announce(lab, b"old")
    send(lab, file)
    changed = lab.put(path_of(file), {"name": "b.fq", "checksum": MD5.upper(), "contentUploaded": False}).json
    assert (changed["name"], changed["checksum"], changed["contentUploaded"]) == ("b.fq", MD5, False)
    assert lab.put(path_of(file), {}).json == changed
    assert lab.get(path_of(file)).json == changed
    confirmed = confirm(lab, file, name="c.fq").json
    assert (confirmed["name"], confirmed["checksum"]) == ("c.fq", MD5)


def test_a_checksum_is_corrected_and_confirmed_at_once(lab: Client) -> None:
    file = announce(lab, b"wrong")
    send(lab, file)
    assert confirm(lab, file, checksum=MD5).json["checksum"] == MD5


@pytest.mark.parametrize("content", [None, b"other"])
def test_a_failed_confirmation_changes_nothing(lab: Client, content: bytes | None) -> None:
    file = announce(lab)
    if content is not None:
        send(lab, file, content)
    before = lab.get(path_of(file)).json
    answer = confirm(lab, file, name="b.fq", checksum=hashlib.md5(b"third").hexdigest())
    assert answer.status_int == (400 if content is None else 409)
    assert lab.get(path_of(file)).json == before
    send(lab, file)
    assert confirm(lab, file).json["name"] == "a.fq"


@pytest.mark.parametrize(("former", "latter"), [("md5", "sha256"), ("sha256", "md5")])
def test_a_checksum_of_the_other_kind_begins_the_upload_anew(lab: Client, former: str, latter: str) -> None:
    file = announce(lab, algorithm=former)
    send(lab, file)
    checksum = {"md5": MD5, "sha256": SHA256}[latter]
    assert_refused(confirm(lab, file, checksum=checksum), 400, ("no_data", "checksum"))
    assert lab.get(path_of(file)).json["checksum"] != checksum
    assert lab.put(path_of(file), {"name": "b.fq", "checksum": checksum}).json["checksum"] == checksum
    assert_refused(confirm(lab, file), 400, ("no_data", "contentUploaded"))
    assert send(lab, file).status_int == 204
    assert confirm(lab, file).json["name"] == "b.fq"
    assert list(lab.portal.storage.list_uploads()) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [({"contentUploaded": "true"}, "contentUploaded"), ({"contentUploaded": None}, "contentUploaded"), ({"x": 1}, "x")],
)
def test_a_change_fits_the_specification(lab: Client, body: dict[str, Any], field: str) -> None:
    answer = lab.put(path_of(announce(lab)), body)
    assert answer.status_int == 400
    assert [problem["field"] for problem in answer.json] == [field]


def test_nothing_changes_while_a_confirmation_runs(lab: Client) -> None:
    file = announce(lab)
    send(lab, file)
    set_state(lab, "confirming")
    for change in ({"name": "b"}, {"checksum": SHA256}, {"name": "b", "contentUploaded": True}):
        assert_refused(lab.put(path_of(file), change), 409, ("confirmation_running", None))
    read = lab.get(path_of(file)).json
    assert (read["name"], read["contentUploaded"]) == ("a.fq", False)
    assert confirm(lab, file).status_int == 200


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_of_racing_confirmations_one_takes_effect(
    lab: Client, algorithm: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "datameta.logic.confirmation")
    for number in range(5):
        content = b"%d" % number
        file = announce(lab, content, algorithm=algorithm)
        send(lab, file, content)
        answers = race(*[lambda: confirm(lab, file)] * 8)  # noqa: B023
        assert {answer.status_int for answer in answers} <= {200, 403}
        assert 200 in {answer.status_int for answer in answers}
        assert sum("confirmed," in line and file["id"]["uuid"] in line for line in caplog.messages) == 1
    assert sorted(contents(lab.portal.storage)) == [b"0", b"1", b"2", b"3", b"4"]


def test_racing_confirmations_of_other_bytes_all_fail(lab: Client) -> None:
    file = announce(lab)
    send(lab, file, b"other")
    before = lab.get(path_of(file)).json
    for _ in range(5):
        answers = race(
            *[lambda: confirm(lab, file)] * 3,
            lambda: confirm(lab, file, name="b"),
            lambda: confirm(lab, file, checksum="0" * 32),
        )
        assert {answer.status_int for answer in answers} == {409}
        assert lab.get(path_of(file)).json == before
    send(lab, file)
    assert confirm(lab, file).status_int == 200


def test_overlapping_confirmations_that_fail_leave_what_was_announced(
    lab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = announce(lab)
    send(lab, file, b"other")
    before = lab.get(path_of(file)).json
    complete, calls, first_is_done = lab.portal.storage.complete, count(), Event()
    others: list[Future[webtest.TestResponse]] = []

    def overlap(key: str, upload: str, checksum: str) -> StoredObject:
        number = next(calls)
        if number == 0:
            # While one changes the name, a second confirms and fails, and a third begins and fails last.
            assert confirm(lab, file).status_int == 409
            others.append(pool.submit(confirm, lab, file, checksum="0" * 32))
            assert third_has_begun.wait(30)
        elif number == 2:
            third_has_begun.set()
            assert first_is_done.wait(30)
        return complete(key, upload, checksum)

    third_has_begun = Event()
    monkeypatch.setattr(lab.portal.storage, "complete", overlap)
    with ThreadPoolExecutor(1) as pool:
        assert confirm(lab, file, name="b").status_int == 409
        first_is_done.set()
        assert others[0].result(30).status_int == 409
    assert lab.get(path_of(file)).json == before


def test_who_was_overtaken_by_a_confirmation_under_another_name_is_told(
    lab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = announce(lab)
    send(lab, file)

    def overtake() -> None:
        # As if another confirmation, begun before, had just failed.
        with lab.portal.database.engine.begin() as connection:
            connection.execute(text("UPDATE files SET state = 'announced', name = 'a.fq', former = NULL"))
        assert confirm(lab, file).status_int == 200

    do_before(monkeypatch, lab.portal.storage, "complete", overtake)
    assert_refused(confirm(lab, file, name="b"), 403, ("not_modifiable", None))
    assert lab.get(path_of(file)).json["name"] == "a.fq"


# Deleting.


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_deleted_file_leaves_no_row_and_no_bytes_but_those_of_backups(lab: Client, steps: int) -> None:
    file = announce(lab)
    for step in (send, confirm)[:steps]:
        step(lab, file)
    answer = lab.delete(path_of(file))
    assert (answer.status_int, answer.body) == (204, b"")
    assert_refused(lab.delete(path_of(file)), 404, ("not_found", None))
    assert_refused(lab.get(path_of(file)), 404, ("not_found", None))
    assert states(lab.portal) == []
    left = {path.name for path in (lab.portal.settings.home / "storage").rglob("*") if path.is_file()}
    # What says whose store it is stays, and what was confirmed.
    assert left == ({"site-id", f"{MD5}-{SHA256}"} if steps == 2 else {"site-id"})


def test_bytes_that_are_gone_already_do_not_stop_a_deletion(lab: Client) -> None:
    file = lab.upload("a", b"ACGT")
    lab.portal.storage.delete(f"files/{file['id']['uuid']}")
    assert lab.delete(path_of(file)).status_int == 204
    assert states(lab.portal) == []


def submit_file(lab: Client) -> dict[str, Any]:
    """Return a submitted file."""
    lab.portal.add_user(site_admin=True).add_field("F", isFile=True)
    file = lab.upload("a", b"ACGT")
    assert lab.submit([lab.stage(F="a")], [file]).status_int == 200
    return file


def test_a_submitted_file_stays(lab: Client) -> None:
    file = submit_file(lab)
    for answer in (
        lab.delete(path_of(file)),
        lab.put(path_of(file), {"name": "b"}),
        lab.post("/rpc/delete-files", {"fileIds": [file["id"]["site"]]}),
    ):
        assert_refused(answer, 403, ("not_modifiable", None))
        assert answer.json[0]["exception"] == "ResourceNotModifiableError"
    assert contents(lab.portal.storage) == [b"ACGT"]


def test_files_are_deleted_together(lab: Client) -> None:
    files = [announce(lab), lab.upload("b", b"TT")]
    ids = [files[0]["id"]["site"], files[0]["id"]["uuid"], files[1]["id"]["uuid"].upper(), files[1]["id"]["uuid"]]
    assert lab.post("/rpc/delete-files", {"fileIds": ids}).status_int == 204
    assert states(lab.portal) == []
    # A backup may need what was confirmed.
    assert contents(lab.portal.storage) == [b"TT"]
    assert lab.post("/rpc/delete-files", {"fileIds": []}).status_int == 204


def test_files_are_deleted_all_or_none(lab: Client) -> None:
    other = lab.portal.add_user()
    foreign, foreign2 = announce(other), announce(other)
    submitted = submit_file(lab)
    mine = lab.upload("b", b"TT")

    def delete(*ids: str) -> webtest.TestResponse:
        return lab.post("/rpc/delete-files", {"fileIds": [mine["id"]["uuid"], *ids]})

    answer = delete(UNKNOWN, foreign["id"]["uuid"], "x", UNKNOWN)
    assert_refused(answer, 404, ("not_found", None))
    assert [problem["entity"]["site"] for problem in answer.json] == [UNKNOWN, "x"]
    answer = delete(foreign["id"]["uuid"], foreign2["id"]["site"], submitted["id"]["site"])
    assert_refused(answer, 403, ("forbidden", None))
    assert [problem["entity"] for problem in answer.json] == [foreign["id"], foreign2["id"]]
    answer = delete(submitted["id"]["site"])
    assert_refused(answer, 403, ("not_modifiable", None))
    assert [problem["entity"] for problem in answer.json] == [submitted["id"]]
    assert states(lab.portal).count("confirmed") == 2
    assert lab.get(f"/rpc/get-file-url/{mine['id']['uuid']}").status_int == 200


def test_a_deletion_and_a_confirmation_leave_nothing_torn(lab: Client) -> None:
    kept = 0
    for number in range(40):
        file = announce(lab, algorithm=random.choice(["md5", "sha256"]))
        send(lab, file)
        confirmed, deleted = race(lambda: confirm(lab, file), lambda: lab.delete(path_of(file)))  # noqa: B023
        assert (confirmed.status_int, deleted.status_int) in ((200, 204), (404, 204)), (number, confirmed.body)
        assert_refused(lab.get(path_of(file)), 404, ("not_found", None))
        kept += confirmed.status_int == 200
    assert states(lab.portal) == []
    assert len(contents(lab.portal.storage)) == kept
    assert list(lab.portal.storage.list_uploads()) == []


def test_racing_deletions_all_end_well(lab: Client) -> None:
    for _ in range(5):
        files = [announce(lab) for _ in range(4)]
        ids = [file["id"]["uuid"] for file in files]
        orders = [ids, ids[::-1], ids[2:] + ids[:2], ids]
        answers = race(*[lambda order=order: lab.post("/rpc/delete-files", {"fileIds": order}) for order in orders])
        assert {answer.status_int for answer in answers} <= {204, 404}
        assert states(lab.portal) == []


def test_a_deletion_and_a_submission_do_not_both_succeed(lab: Client) -> None:
    lab.portal.add_user(site_admin=True).add_field("F", isFile=True)
    for number in range(1, 11):
        file, staged = lab.upload("a", b"ACGT"), lab.stage(F="a")
        deleted, submitted = race(lambda: lab.delete(path_of(file)), lambda: lab.submit([staged], [file]))  # noqa: B023
        assert (deleted.status_int, submitted.status_int) in ((204, 400), (403, 200))
        assert len(contents(lab.portal.storage)) == number


# What happens between two steps.


def test_a_confirmation_that_a_deletion_overtakes_finds_nothing(lab: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    file = announce(lab)
    send(lab, file)
    do_before(monkeypatch, lab.portal.storage, "complete", lambda: lab.delete(path_of(file)))
    assert_refused(confirm(lab, file), 404, ("not_found", None))


def test_a_failed_confirmation_leaves_alone_what_was_changed_after_it(
    lab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = announce(lab)
    send(lab, file, b"other")

    def go_on() -> None:
        assert confirm(lab, file).status_int == 409
        assert lab.put(path_of(file), {"name": "c"}).status_int == 200

    do_before(monkeypatch, lab.portal.storage, "complete", go_on)
    assert_refused(confirm(lab, file, name="b"), 409, ("checksum_mismatch", "checksum"))
    assert lab.get(path_of(file)).json["name"] == "c"


def test_a_confirmation_overtakes_a_change_of_checksum(lab: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    file = announce(lab)
    send(lab, file)
    do_before(monkeypatch, lab.portal.storage, "begin_upload", lambda: confirm(lab, file))
    assert_refused(lab.put(path_of(file), {"checksum": SHA256}), 403, ("not_modifiable", None))
    assert lab.get(path_of(file)).json["checksum"] == MD5


def test_a_running_confirmation_overtakes_a_change_of_checksum(lab: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    file = announce(lab)
    send(lab, file)
    do_before(monkeypatch, lab.portal.storage, "begin_upload", lambda: set_state(lab, "confirming"))
    assert_refused(lab.put(path_of(file), {"checksum": SHA256}), 409, ("confirmation_running", None))
    assert confirm(lab, file).json["checksum"] == MD5


@pytest.mark.parametrize(
    ("state", "status", "code"), [("confirming", 409, "confirmation_running"), ("announced", 404, "upload_expired")]
)
def test_bytes_for_an_upload_that_was_closed_are_refused(
    lab: Client, monkeypatch: pytest.MonkeyPatch, state: str, status: int, code: str
) -> None:
    file = announce(lab)
    storage = lab.portal.storage
    [upload] = storage.list_uploads()
    do_before(monkeypatch, storage, "write", lambda: storage.abort(upload.key, upload.upload))
    set_state(lab, state)
    assert_refused(send(lab, file), status, (code, None))


# A store that does not answer.


def assert_unavailable(response: webtest.TestResponse) -> None:
    assert_refused(response, 503, ("unavailable", None))
    assert response.headers["Retry-After"]


def test_a_silent_store_takes_no_announcement(shaky: Client, faulty: FaultyStorage) -> None:
    faulty.method = "begin_upload"
    assert_unavailable(shaky.post("/files", {"name": "a", "checksum": MD5}))
    assert states(shaky.portal) == []


def test_an_upload_without_an_address_is_not_announced(shaky: Client, faulty: FaultyStorage) -> None:
    class Direct(FaultyStorage):
        is_direct = True

    storage = Direct(faulty, "presign_upload", faulty.error)  # type: ignore[arg-type]
    portal = Portal(shaky.portal.database, shaky.portal.settings, storage)  # type: ignore[arg-type]
    assert_unavailable(replace(shaky, portal=portal).post("/files", {"name": "a", "checksum": MD5}))
    assert states(portal) == []
    assert list(portal.storage.list_uploads()) == []


@pytest.mark.parametrize("is_after", [False, True])
def test_a_silent_store_takes_no_bytes(shaky: Client, faulty: FaultyStorage, is_after: bool) -> None:
    file = announce(shaky)
    faulty.method, faulty.is_after = "write", is_after
    assert_unavailable(send(shaky, file))
    faulty.method = ""
    assert send(shaky, file).status_int == 204
    assert confirm(shaky, file).status_int == 200


@pytest.mark.parametrize("is_after", [False, True])
def test_a_confirmation_outlives_a_silent_store(shaky: Client, faulty: FaultyStorage, is_after: bool) -> None:
    file = announce(shaky, b"old")
    send(shaky, file)
    faulty.method, faulty.is_after = "complete", is_after
    assert_unavailable(confirm(shaky, file, checksum=MD5, name="b"))
    assert states(shaky.portal) == ["confirming"]
    assert shaky.get(path_of(file)).json["contentUploaded"] is False
    faulty.method = ""
    confirmed = confirm(shaky, file).json
    assert (confirmed["name"], confirmed["filesize"]) == ("b", 4)


def test_cleaning_up_can_wait(shaky: Client, faulty: FaultyStorage) -> None:
    file = announce(shaky)
    send(shaky, file)
    faulty.method = "abort"
    assert confirm(shaky, file).status_int == 200


@pytest.mark.parametrize("method", ["abort", "delete"])
def test_a_deletion_outlives_a_silent_store(shaky: Client, faulty: FaultyStorage, method: str) -> None:
    file = shaky.upload("a", b"ACGT")
    with shaky.portal.database.engine.begin() as connection:
        # What was never confirmed goes at once.
        connection.execute(text("UPDATE files SET state = 'failed', confirmed_at = NULL"))
    faulty.method = method
    assert shaky.delete(path_of(file)).status_int == 204
    assert_refused(shaky.get(path_of(file)), 404, ("not_found", None))
    assert states(shaky.portal) == ["deleting"]


def test_a_checksum_of_the_other_kind_needs_the_store(shaky: Client, faulty: FaultyStorage) -> None:
    file = announce(shaky)
    send(shaky, file)
    before = shaky.get(path_of(file)).json
    faulty.method = "begin_upload"
    assert_unavailable(shaky.put(path_of(file), {"name": "b", "checksum": SHA256}))
    assert shaky.get(path_of(file)).json == before
    faulty.method = "abort"
    assert shaky.put(path_of(file), {"checksum": SHA256}).status_int == 200
    send(shaky, file)
    assert confirm(shaky, file).status_int == 200


# Numbers.


def test_every_step_takes_a_few_statements(lab: Client) -> None:
    # The first use of a key in a day is noted.
    lab.get("/rpc/whoami")
    with counted(lab.portal) as sent:
        file = announce(lab)
    assert len(sent) <= 5
    with counted(lab.portal) as sent:
        send(lab, file)
    assert len(sent) <= 3
    with counted(lab.portal) as sent:
        confirm(lab, file)
    assert len(sent) <= 8
    with counted(lab.portal) as sent:
        lab.get(path_of(file))
    assert len(sent) <= 2


def test_files_are_marked_for_deletion_in_one_statement(lab: Client) -> None:
    ids = [announce(lab)["id"]["uuid"] for _ in range(50)]
    with counted(lab.portal) as sent:
        assert lab.post("/rpc/delete-files", {"fileIds": ids}).status_int == 204
    assert sum(statement.startswith("UPDATE") for statement in sent) == 1
    assert sum(statement.startswith("SELECT") for statement in sent) <= 3


def test_an_announcement_whose_row_was_swept_meanwhile_is_none(lab: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def sweep_away() -> None:
        with lab.portal.database.sessions.begin() as db:
            db.execute(text("DELETE FROM files"))

    do_before(monkeypatch, lab.portal.storage, "begin_upload", sweep_away)
    answer = lab.post("/files", {"name": "a.fq", "checksum": "0" * 32})
    assert_refused(answer, 503, ("unavailable", None))
    assert list(lab.portal.storage.list_uploads()) == []
