"""Faults between the parts: connections that are cut, slow, or answered by nobody, each at a chosen moment.

One portal, whose way to the database and whose clients' and own way to the store lead through proxies.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from sqlalchemy import make_url

from tests.faults.clients import SAMPLE, Answer, SentFile
from tests.faults.history import CUT
from tests.faults.lab import CONTENT, Keeper, Lab, open_keeper
from tests.faults.proxy import CutError, Once, Proxy, Way, answer, cut_after, pass_all, run_proxy
from tests.faults.run import define_fields
from tests.faults.site import Postgres, Site, run_site
from tests.rgw import RGW

pytestmark = pytest.mark.faults

LARGE = CONTENT * 1000
COMPLETE = b"POST /"
"""How the portal's completion of an upload begins; it posts nothing else to the store but what begins one."""
COMMIT = b"COMMIT\0"
"""The end of a transaction; its beginning may say READ COMMITTED."""
STORE_FAILED = (
    b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n%s"
)
STORE_FAILED_LATE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
)
ERROR = b'<?xml version="1.0"?><Error><Code>InternalError</Code><Message>Try again.</Message></Error>'


@dataclass
class Net:
    """The three ways on which something can happen, and who can look past them."""

    site: Site
    to_portal: Proxy
    to_database: Proxy
    to_store: Proxy
    keeper: Keeper

    def heal(self) -> None:
        for proxy in (self.to_portal, self.to_database, self.to_store):
            proxy.rule = pass_all


@pytest.fixture(scope="module")
def net(postgres: Postgres, rgw: RGW, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    folder, database = tmp_path_factory.mktemp("net"), postgres.add_database()
    store = urlsplit(rgw.endpoint)
    with (
        run_proxy(database.socket) as to_database,
        run_proxy((str(store.hostname), int(store.port or 0))) as to_store,
    ):
        url = make_url(database.url).set(host="127.0.0.1", port=to_database.port, query={})
        variables = {
            "DATAMETA_DATABASE_URL": url.render_as_string(hide_password=False),
            "DATAMETA_S3_ENDPOINT": f"http://{to_store.netloc}",
        }
        with (
            run_site(folder, postgres=database, rgw=rgw, variables=variables) as site,
            run_proxy(("127.0.0.1", site.port)) as to_portal,
            open_keeper(site) as keeper,
        ):
            define_fields(site)
            yield Net(site, to_portal, to_database, to_store, keeper)


@pytest.fixture
def lab(net: Net) -> Iterator[Lab]:
    """A lab, after whose test all is as it should be."""
    lab = Lab(net.site)
    lab.client.address = f"http://{net.to_portal.netloc}"
    yield lab
    net.heal()
    net.keeper.sweep()
    assert net.keeper.find_wrong() == []


@pytest.fixture
def server(net: Net) -> Iterator[Postgres]:
    """The database's server, which runs again after the test."""
    yield net.site.postgres
    net.site.postgres.start()


def assert_confirmed(lab: Lab, file: SentFile) -> None:
    assert lab.read_state(file) == "confirmed"
    assert lab.download(file) == file.content


def assert_unavailable(answer: Answer) -> None:
    assert (answer.status, answer.json()[0]["error_code"]) == (503, "unavailable")


# F4


def test_a_lost_answer_to_an_announcement(net: Net, lab: Lab) -> None:
    body, key = {"name": lab.name_file(), "checksum": "0" * 32}, {"Idempotency_Key": lab.name_file()}
    net.to_portal.rule = cut_after(0, Way.DOWN)
    assert lab.call("POST", "/files", body, **key).status == CUT
    net.heal()
    [first] = lab.get("/staged/files")
    assert lab.call("POST", "/files", body, **key).json()["id"] == first["id"]
    assert lab.call("POST", "/files", body).json()["id"] != first["id"]
    assert len(lab.get("/staged/files")) == 2


# F5


def test_a_transfer_that_breaks_off_leaves_nothing(net: Net, lab: Lab) -> None:
    file = lab.announce(LARGE)
    net.to_store.rule = cut_after(len(LARGE) // 2, Way.UP)
    assert lab.send(file).status == CUT
    net.heal()
    refusal = lab.confirm(file)
    assert (refusal.status, refusal.json()[0]["error_code"]) == (400, "no_data")
    assert lab.send(file).is_good
    assert lab.confirm(file).is_good
    assert_confirmed(lab, file)


# F10


def test_a_transfer_that_a_confirmation_overtakes_changes_nothing(net: Net, lab: Lab) -> None:
    file = lab.announce_and_send(LARGE)
    half, go_on = threading.Event(), threading.Event()

    def stop_at_half(way: Way, piece: bytes, before: int) -> None:
        if way is Way.UP and before + len(piece) > len(LARGE) // 2 and not half.is_set():
            half.set()
            assert go_on.wait(60)

    net.to_store.rule = stop_at_half
    answers: list[Answer] = []
    sending = threading.Thread(target=lambda: answers.append(lab.send(file)))
    sending.start()
    assert half.wait(60)
    assert lab.confirm(file).is_good
    go_on.set()
    sending.join()
    assert answers[0].status == 404
    assert_confirmed(lab, file)


# F20


def test_a_database_that_stops_before_the_confirmation_is_written(net: Net, lab: Lab, server: Postgres) -> None:
    file = lab.announce_and_send()
    # What the store has completed is answered by then, and not yet written.
    net.to_store.rule = Once(b"CompleteMultipartUploadResult", Way.DOWN, server.stop_at_once)
    assert_unavailable(lab.confirm(file))
    server.start()
    assert lab.read_state(file) == "confirming"
    assert net.keeper.sweep()["files confirmed"] == 1
    assert_confirmed(lab, file)


# F21


@pytest.mark.parametrize("is_committed", [False, True])
def test_a_commit_whose_outcome_is_not_known(net: Net, lab: Lab, is_committed: bool) -> None:
    file = lab.announce_and_send()

    def end() -> None:
        if not is_committed:
            raise CutError
        # What comes back says that it is done.
        net.to_database.rule = cut_after(0, Way.DOWN)

    at_commit = Once(COMMIT, Way.UP, end)

    def arm() -> None:
        net.to_database.rule = at_commit

    net.to_store.rule = Once(b"CompleteMultipartUploadResult", Way.DOWN, arm)
    assert_unavailable(lab.confirm(file))
    assert at_commit.met == 1
    net.heal()
    assert lab.read_state(file) == ("confirmed" if is_committed else "confirming")
    assert lab.confirm(file).status == (403 if is_committed else 200)
    assert_confirmed(lab, file)


# F22


def test_a_store_that_is_down_when_a_file_is_confirmed(net: Net, lab: Lab, rgw: RGW) -> None:
    file = lab.announce_and_send()
    rgw.kill()
    try:
        assert_unavailable(lab.confirm(file))
    finally:
        rgw.start()
    assert lab.read_state(file) == "confirming"
    assert lab.confirm(file).is_good
    assert_confirmed(lab, file)


def test_a_store_that_holds_still_when_a_file_is_confirmed(net: Net, lab: Lab, rgw: RGW) -> None:
    file = lab.announce_and_send()
    rgw.freeze()
    try:
        assert_unavailable(lab.confirm(file))
    finally:
        rgw.thaw()
    assert lab.confirm(file).status in (200, 403)
    assert_confirmed(lab, file)


# F23


@pytest.mark.parametrize("pattern", [STORE_FAILED, STORE_FAILED_LATE])
def test_a_store_that_fails_once_is_asked_again(net: Net, lab: Lab, pattern: bytes) -> None:
    file = lab.announce_and_send()
    failing = Once(COMPLETE, Way.UP, lambda: answer(pattern % (len(ERROR), ERROR)))
    net.to_store.rule = failing
    assert lab.confirm(file).status == 200
    assert failing.met == 1
    assert_confirmed(lab, file)


@pytest.mark.parametrize("pattern", [STORE_FAILED, STORE_FAILED_LATE])
def test_a_store_that_goes_on_failing_is_unavailable(net: Net, lab: Lab, pattern: bytes) -> None:
    file = lab.announce_and_send()
    net.to_store.rule = Once(COMPLETE, Way.UP, lambda: answer(pattern % (len(ERROR), ERROR)), times=1000)
    assert_unavailable(lab.confirm(file))
    net.heal()
    assert lab.read_state(file) == "confirming"
    assert net.keeper.sweep()["files confirmed"] == 1
    assert_confirmed(lab, file)


# F34


def test_a_lost_answer_to_a_submission(net: Net, lab: Lab) -> None:
    submission, key = lab.prepare_submission(), {"Idempotency_Key": lab.name_file()}
    net.to_portal.rule = cut_after(0, Way.DOWN)
    assert lab.call("POST", "/submissions", submission, **key).status == CUT
    net.heal()
    [metadataset] = submission["metadatasetIds"]
    made = lab.get(f"/metadatasets/{metadataset}")["submissionId"]
    again = lab.call("POST", "/submissions", submission, **key)
    assert (again.status, again.json()["id"]) == (200, made)
    refusal = lab.call("POST", "/submissions", submission)
    assert refusal.status == 400
    assert {problem["error_code"] for problem in refusal.json()} >= {"already_submitted"}


# F36


def test_a_deadlock_changes_nothing(net: Net, lab: Lab) -> None:
    submission = lab.prepare_submission()
    [metadataset], [file] = submission["metadatasetIds"], submission["fileIds"]
    with net.site.postgres.connect() as other:
        # The other one does not look for a deadlock itself, so it is always the portal that gives way.
        other.execute("SET deadlock_timeout = '1h'")
        other.execute("SELECT FROM files WHERE uuid = %s FOR UPDATE", [file])
        with answer_later(lambda: lab.call("POST", "/submissions", submission)) as answers:
            wait_until_it_waits(net)
            other.execute("SELECT FROM metadatasets WHERE uuid = %s FOR UPDATE", [metadataset])
        assert_unavailable(answers[0])
    assert lab.get(f"/metadatasets/{metadataset}")["submissionId"] is None
    assert lab.call("POST", "/submissions", submission).status == 200


# F37


def test_a_submission_waits_for_a_change_of_a_field(net: Net, lab: Lab) -> None:
    submission = lab.prepare_submission()
    with net.site.postgres.connect() as other:
        other.execute("UPDATE metadata SET reg_exp = 'nothing like it' WHERE name = %s", [SAMPLE])
        with answer_later(lambda: lab.call("POST", "/submissions", submission)) as answers:
            wait_until_it_waits(net)
            other.commit()
        net.site.postgres.execute(f"UPDATE metadata SET reg_exp = NULL WHERE name = '{SAMPLE}'")
    assert answers[0].status == 400
    assert {problem["field"] for problem in answers[0].json()} == {SAMPLE}
    assert lab.call("POST", "/submissions", submission).status == 200


@contextmanager
def answer_later(action: Callable[[], Answer]) -> Iterator[list[Answer]]:
    """Do something while the block runs; its answer is in the list after it."""
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(action()))
    thread.start()
    yield answers
    thread.join()


def wait_until_it_waits(net: Net) -> None:
    """Wait until a request waits for a lock."""
    query = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    deadline = time.monotonic() + 30
    while not net.site.postgres.execute(query):
        assert time.monotonic() < deadline
        time.sleep(0.05)
