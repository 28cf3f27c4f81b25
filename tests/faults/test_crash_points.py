"""Wherever a process can end, one sweep brings back a whole state, without hands.

Each test lets a served portal lose its process at a named place, in the middle of a request. The client's connection
is cut. Then three hours pass, the sweeper runs once, and what it leaves is what section 4 of the failure model says.
"""

import hashlib
from collections.abc import Iterator

import pytest

from tests.faults.clients import Answer, SentFile
from tests.faults.history import CUT
from tests.faults.lab import CONTENT, CRASH_FILE, Keeper, Lab, crash_variables, open_keeper
from tests.faults.run import define_fields
from tests.faults.site import Postgres, Site, run_site

pytestmark = pytest.mark.faults

RANGE = 64 * 1024**2


@pytest.fixture(scope="module", params=["local", "rgw"])
def site(
    request: pytest.FixtureRequest, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A served portal of each kind."""
    folder = tmp_path_factory.mktemp(request.param)
    rgw = request.getfixturevalue("rgw") if request.param == "rgw" else None
    with run_site(folder, postgres=postgres.add_database(), rgw=rgw, variables=crash_variables(folder)) as site:
        define_fields(site)
        yield site


@pytest.fixture(scope="module")
def keeper(site: Site) -> Iterator[Keeper]:
    with open_keeper(site) as keeper:
        yield keeper


@pytest.fixture
def lab(site: Site, keeper: Keeper) -> Iterator[Lab]:
    """A lab, after whose test all is as it should be."""
    yield Lab(site)
    (site.folder / CRASH_FILE).unlink(missing_ok=True)
    keeper.sweep()
    assert keeper.find_wrong() == []


def assert_crash(lab: Lab, answer: Answer) -> None:
    assert (answer.status, lab.has_crashed()) == (CUT, True)


def assert_confirmed(lab: Lab, file: SentFile) -> None:
    assert lab.read_state(file) == "confirmed"
    assert lab.download(file) == file.content


# An announcement.


def test_announced_but_the_store_does_not_know(lab: Lab, keeper: Keeper) -> None:
    name = lab.name_file()
    lab.crash_at("announce.after_row")
    assert_crash(lab, lab.call("POST", "/files", {"name": name, "checksum": "0" * 32}))
    assert lab.read_state(name) == "new"
    keeper.sweep()
    assert lab.read_state(name) is None
    assert lab.announce(name=name).name == name


def test_the_store_knows_an_upload_that_no_row_names(lab: Lab, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    name = lab.name_file()
    body, key = {"name": name, "checksum": hashlib.md5(CONTENT).hexdigest()}, {"Idempotency_Key": lab.name_file()}
    before = {upload.key for upload in keeper.storage.list_uploads()}
    lab.crash_at("announce.after_create")
    assert_crash(lab, lab.call("POST", "/files", body, **key))
    assert lab.read_state(name) == "new"
    [orphan] = {upload.key for upload in keeper.storage.list_uploads()} - before
    keeper.sweep()
    assert lab.read_state(name) is None
    # The client's second try is its first.
    file = lab.to_file(lab.call("POST", "/files", body, **key))
    assert lab.to_file(lab.call("POST", "/files", body, **key)).id == file.id
    keeper.sweep_store(monkeypatch)
    assert orphan not in {upload.key for upload in keeper.storage.list_uploads()}
    lab.send(file)
    assert lab.confirm(file).is_good


# A confirmation.


@pytest.mark.parametrize("point", ["confirm.after_intent", "confirm.after_complete", "confirm.before_commit"])
@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_a_confirmation_is_finished(lab: Lab, keeper: Keeper, point: str, algorithm: str) -> None:
    file = lab.announce_and_send(algorithm=algorithm)
    lab.crash_at(point)
    assert_crash(lab, lab.confirm(file))
    assert lab.read_state(file) == "confirming"
    keeper.sweep()
    keeper.do_jobs()
    assert_confirmed(lab, file)


@pytest.mark.parametrize("point", ["confirm.after_intent", "confirm.after_complete", "confirm.before_commit"])
def test_the_client_itself_may_finish_its_confirmation(lab: Lab, point: str) -> None:
    file = lab.announce_and_send()
    lab.crash_at(point)
    assert_crash(lab, lab.confirm(file))
    assert lab.confirm(file).status == 200
    assert_confirmed(lab, file)


def test_a_confirmation_of_nothing_is_undone(lab: Lab, keeper: Keeper) -> None:
    file = lab.announce()
    lab.crash_at("confirm.after_intent")
    assert_crash(lab, lab.confirm(file))
    keeper.sweep()
    assert lab.read_state(file) == "announced"
    assert lab.send(file).is_good
    assert lab.confirm(file).status == 200


# A verification. The local store proves what it takes in one piece, so only content in parts has to be read there.


def send_parts(lab: Lab, content: bytes, algorithm: str = "sha256") -> SentFile:
    """Send content in a session, and everything but complete it."""
    file = lab.announce(content, algorithm)
    path = f"/files/{file.id}/upload-session"
    size = lab.call("POST", path, {"size": len(content)}).json()["partSize"]
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    md5s = [hashlib.md5(piece).hexdigest() for piece in pieces]
    body = {"parts": [{"number": number, "md5": md5} for number, md5 in enumerate(md5s, 1)]}
    for part, piece in zip(lab.call("POST", f"{path}/part-urls", body).json()["parts"], pieces, strict=True):
        assert lab.client.send_part(file, part, piece).is_good
    return file


@pytest.mark.parametrize("point", ["verify.before_commit", "verify.at_range"])
def test_a_verification_begins_anew(lab: Lab, keeper: Keeper, point: str) -> None:
    # Just as much as is read by the request itself; the first range is as long.
    file = send_parts(lab, bytes(RANGE))
    lab.crash_at(point)
    assert_crash(lab, lab.call("POST", f"/files/{file.id}/upload-session/complete", {}))
    assert lab.read_state(file) == "verifying"
    keeper.sweep()
    keeper.do_jobs()
    assert_confirmed(lab, file)


def test_a_worker_that_dies_in_a_verification_is_replaced(lab: Lab, keeper: Keeper) -> None:
    file = send_parts(lab, bytes(RANGE + 1))
    answer = lab.call("POST", f"/files/{file.id}/upload-session/complete", {})
    assert answer.json()["state"] == "verifying"
    lab.crash_at("verify.at_range")
    assert lab.site.run("worker", "--once").returncode == 137
    assert lab.read_state(file) == "verifying"
    keeper.sweep()
    keeper.do_jobs()
    assert_confirmed(lab, file)


# A deletion.


@pytest.mark.parametrize("point", ["delete.after_intent", "delete.after_bytes"])
@pytest.mark.parametrize("is_confirmed", [False, True])
def test_a_deletion_is_finished(lab: Lab, keeper: Keeper, point: str, is_confirmed: bool) -> None:
    file = lab.upload() if is_confirmed else lab.announce_and_send()
    lab.crash_at(point)
    assert_crash(lab, lab.call("DELETE", f"/files/{file.id}"))
    assert lab.read_state(file) == "deleting"
    assert lab.call("GET", f"/files/{file.id}").status == 404
    keeper.sweep()
    assert lab.read_state(file) is None
    # Confirmed content is kept for backups.
    assert (file.id in " ".join(entry.key for entry in keeper.storage.list_objects())) == is_confirmed
    assert file.id not in " ".join(upload.key for upload in keeper.storage.list_uploads())


# A submission.


def test_a_submission_is_absent_before_its_commit(lab: Lab) -> None:
    submission = lab.prepare_submission()
    lab.crash_at("submit.before_commit")
    assert_crash(lab, lab.call("POST", "/submissions", submission))
    assert lab.get(f"/metadatasets/{submission['metadatasetIds'][0]}")["submissionId"] is None
    assert lab.call("POST", "/submissions", submission).status == 200


def test_a_submission_is_whole_after_its_commit(lab: Lab) -> None:
    submission, key = lab.prepare_submission(), {"Idempotency_Key": lab.name_file()}
    lab.crash_at("submit.after_commit")
    assert_crash(lab, lab.call("POST", "/submissions", submission, **key))
    read = lab.get(f"/metadatasets/{submission['metadatasetIds'][0]}")
    assert {file["uuid"] for file in read["fileIds"].values()} == set(submission["fileIds"])
    answer = lab.call("POST", "/submissions", submission, **key)
    assert (answer.status, answer.json()["id"]) == (200, read["submissionId"])
    assert lab.call("POST", "/submissions", submission).status == 400


# An upload session.


def test_parts_were_begun_that_no_row_names(lab: Lab, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    file = lab.announce()
    path, size = f"/files/{file.id}/upload-session", {"size": len(CONTENT)}
    lab.crash_at("session.after_begin")
    assert_crash(lab, lab.call("POST", path, size))
    assert lab.call("GET", path).status == 404
    assert count_uploads(keeper, file) == 2
    assert lab.send(file).is_good
    keeper.sweep_store(monkeypatch)
    assert count_uploads(keeper, file) == 1
    assert lab.confirm(file).status == 200


def test_a_session_that_was_opened_is_open(lab: Lab, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    file = lab.announce()
    path, size = f"/files/{file.id}/upload-session", {"size": len(CONTENT)}
    lab.crash_at("session.after_commit")
    assert_crash(lab, lab.call("POST", path, size))
    assert lab.get(path)["state"] == "open"
    keeper.sweep_store(monkeypatch)
    assert count_uploads(keeper, file) == 1
    assert lab.call("POST", path, size).json() == lab.get(path)


def test_a_session_that_was_given_up_is_gone(lab: Lab, keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    file = send_parts(lab, CONTENT)
    path = f"/files/{file.id}/upload-session"
    lab.crash_at("session.after_abort")
    assert_crash(lab, lab.call("DELETE", path))
    assert lab.call("GET", path).status == 404
    keeper.sweep_store(monkeypatch)
    assert count_uploads(keeper, file) <= 1
    again = lab.to_file(lab.call("POST", f"/files/{file.id}/upload-url"))
    assert lab.send(again).is_good
    assert lab.confirm(again).status == 200


def test_a_part_that_was_taken_is_there(lab: Lab) -> None:
    file = lab.announce()
    path = f"/files/{file.id}/upload-session"
    lab.call("POST", path, {"size": len(CONTENT)})
    md5 = hashlib.md5(CONTENT).hexdigest()
    [part] = lab.call("POST", f"{path}/part-urls", {"parts": [{"number": 1, "md5": md5}]}).json()["parts"]
    if lab.site.rgw is None:
        lab.crash_at("part.after_write")
        assert_crash(lab, lab.client.send_part(file, part, CONTENT))
    else:
        # No process of the portal is on the way to this store.
        assert part["url"].startswith(lab.site.rgw.endpoint)
        assert lab.client.send_part(file, part, CONTENT).is_good
    assert lab.get(f"{path}/parts") == [{"number": 1, "size": len(CONTENT), "md5": md5}]
    assert lab.confirm(file).status == 200
    assert_confirmed(lab, file)


def count_uploads(keeper: Keeper, file: SentFile) -> int:
    return sum(file.id in upload.key for upload in keeper.storage.list_uploads())


# The sweeper itself.


def test_a_sweep_that_dies_is_finished_by_the_next(lab: Lab, keeper: Keeper) -> None:
    name = lab.name_file()
    lab.crash_at("announce.after_row")
    assert_crash(lab, lab.call("POST", "/files", {"name": name, "checksum": "0" * 32}))
    lab.site.postgres.execute("UPDATE files SET state_changed_at = now() - interval '1 hour' WHERE state = 'new'")
    lab.crash_at("sweep.after_mark")
    assert lab.site.run("sweep").returncode == 137
    assert lab.read_state(name) == "deleting"
    keeper.sweep()
    assert lab.read_state(name) is None
