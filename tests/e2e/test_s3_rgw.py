"""A portal on a real Ceph store: clients send to the store itself, and can't change what was confirmed."""

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config

from tests.client.conftest import PART_BYTES
from tests.e2e.conftest import RECORD, Api, Served, curl, run_datameta, run_main_job, send, serve_cleanly
from tests.e2e.test_resume import OVERHEAD_BYTES, finish, hash_download, make_file, uploading, wait_for_bytes
from tests.faults.proxy import run_proxy
from tests.rgw import RGW

RIGHT, WRONG = b"ACGT" * 1000, b"TGCA" * 1000


@dataclass(frozen=True)
class Store:
    """A bucket, seen past the portal, and the settings for a portal on it."""

    client: Any
    bucket: str
    settings: dict[str, str]

    def list_keys(self, file: Any) -> list[str]:
        """Return the keys of all objects that hold bytes of a file."""
        entries = self.client.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        return [entry["Key"] for entry in entries if file["id"]["uuid"] in entry["Key"]]


@pytest.fixture(scope="session")
def store(rgw: RGW) -> Store:
    """A bucket."""
    return make_store(rgw)


def make_store(rgw: RGW) -> Store:
    """Make a bucket."""
    config = Config(signature_version="s3v4", request_checksum_calculation="when_required", proxies={})
    client = boto3.client(
        "s3",
        endpoint_url=rgw.endpoint,
        region_name="us-east-1",
        aws_access_key_id=rgw.access_key,
        aws_secret_access_key=rgw.secret_key,
        config=config,
    )
    bucket = f"bucket-{uuid.uuid4()}"
    client.create_bucket(Bucket=bucket)
    settings = {
        "AWS_ACCESS_KEY_ID": rgw.access_key,
        "AWS_SECRET_ACCESS_KEY": rgw.secret_key,
        "DATAMETA_STORAGE": "s3",
        "DATAMETA_S3_ENDPOINT": rgw.endpoint,
        "DATAMETA_S3_BUCKET": bucket,
    }
    return Store(client, bucket, settings)


@contextmanager
def serve_store(store: Store, factory: pytest.TempPathFactory, mode: str) -> Iterator[Served]:
    """Run a demo portal on the store."""
    folder = factory.mktemp(mode)
    settings = store.settings | {"DATAMETA_UPLOAD_MODE": mode}
    with serve_cleanly(folder / "home", folder, "--demo", variables=settings) as served:
        yield served


@pytest.fixture(scope="session")
def presigned(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A portal whose clients send to the store."""
    with serve_store(store, tmp_path_factory, "presigned") as served:
        yield served


@pytest.fixture(scope="session")
def gateway(store: Store, presigned: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A portal that passes bytes on to the store, which is the other portal's: it came first."""
    with serve_store(store, tmp_path_factory, "gateway") as served:
        yield served


@pytest.fixture
def lab(presigned: Served) -> Api:
    """Return the lab of the portal whose clients send to the store."""
    return presigned.open_lab()


def name_file() -> str:
    """Return a file name nobody has used."""
    return f"{uuid.uuid4()}.fastq"


def test_the_main_job_with_uploads_straight_to_the_store(presigned: Served, store: Store) -> None:
    lab, bot = presigned.open_lab(), presigned.open_bot()
    endpoint = store.settings["DATAMETA_S3_ENDPOINT"]
    assert lab.announce(name_file(), RIGHT)["urlToUpload"].startswith(f"{endpoint}/{store.bucket}/files/")
    seen = run_main_job(lab, bot, "P1")
    assert seen["record"]["Accession"] == "ACC-P1"
    assert lab.find_url({"id": seen["fileIds"]["FileR1"]}).startswith(endpoint)
    assert lab.fetch({"id": seen["fileIds"]["FileR1"]}) == b"@P1_R1.fastq"
    assert bot.fetch({"id": seen["fileIds"]["Report"]}) == b"all is well"


def test_the_main_job_with_uploads_through_the_portal(gateway: Served, store: Store) -> None:
    lab, bot = gateway.open_lab(), gateway.open_bot()
    announced = lab.announce(name_file(), RIGHT)
    assert announced["urlToUpload"] == f"{gateway.address}/api/v1/upload/{announced['id']['uuid']}"
    seen = run_main_job(lab, bot, "G1")
    assert seen["record"]["Accession"] == "ACC-G1"
    assert lab.find_url({"id": seen["fileIds"]["FileR1"]}).startswith(gateway.address)
    assert lab.fetch({"id": seen["fileIds"]["FileR1"]}) == b"@G1_R1.fastq"
    assert bot.fetch({"id": seen["fileIds"]["Report"]}) == b"all is well"
    assert store.list_keys({"id": seen["fileIds"]["Report"]})


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_wrong_bytes_through_the_portal_are_not_confirmed_and_right_ones_are(gateway: Served, algorithm: str) -> None:
    lab = gateway.open_lab()
    announced = lab.announce(name_file(), RIGHT, algorithm)
    assert send(announced, WRONG) == (204, b"")
    assert lab.confirm(announced, status=409)[0]["error_code"] == "checksum_mismatch"
    assert send(announced, RIGHT) == (204, b"")
    assert lab.fetch(lab.confirm(announced)) == RIGHT
    assert send(announced, WRONG)[0] == 409
    assert lab.fetch(announced) == RIGHT


def test_the_store_refuses_other_bytes_than_announced(lab: Api) -> None:
    announced = lab.announce(name_file(), RIGHT)
    status, answer = send(announced, WRONG)
    assert status == 400
    assert b"<Code>BadDigest</Code>" in answer
    assert lab.confirm(announced, status=400)[0]["error_code"] == "no_data"
    assert send(announced, RIGHT)[0] == 200
    assert lab.confirm(announced)["filesize"] == len(RIGHT)


def test_the_store_refuses_bytes_without_or_with_another_content_md5(lab: Api) -> None:
    announced = lab.announce(name_file(), RIGHT)
    other = lab.announce(name_file(), WRONG)["requestHeaders"]
    assert send(announced, RIGHT, {})[0] == 403
    assert send(announced, WRONG, other)[0] == 403


def test_a_sha256_file_is_judged_at_the_confirmation(lab: Api) -> None:
    announced = lab.announce(name_file(), RIGHT, "sha256")
    assert lab.confirm(announced, status=400)[0]["error_code"] == "no_data"
    assert send(announced, WRONG)[0] == 200
    assert lab.confirm(announced, status=409)[0]["error_code"] == "checksum_mismatch"
    assert send(announced, RIGHT)[0] == 200
    assert lab.confirm(announced)["contentUploaded"] is True
    assert lab.fetch(announced) == RIGHT


def replay(upload: Any, download_url: str) -> bytes:
    """Send other bytes, and the same ones, to an address used before; return what is then downloaded."""
    send(upload, RIGHT)
    send(upload, WRONG)
    status, content = curl(download_url)
    assert status == 200
    return content


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_an_upload_address_that_is_still_valid_changes_nothing_after_the_confirmation(lab: Api, algorithm: str) -> None:
    file = lab.announce(name_file(), RIGHT, algorithm)
    send(file, RIGHT)
    confirmed = lab.confirm(file)
    assert replay(file, lab.find_url(file)) == RIGHT
    assert lab.call("GET", f"/files/{file['id']['site']}") == confirmed
    assert hashlib.new(algorithm, lab.fetch(file)).hexdigest() == confirmed["checksum"]


def test_an_upload_address_ends_with_the_confirmation(lab: Api) -> None:
    file = lab.announce(name_file(), RIGHT)
    send(file, RIGHT)
    lab.confirm(file)
    status, answer = send(file, RIGHT)
    assert status == 404
    assert b"<Code>NoSuchUpload</Code>" in answer


def test_the_same_replay_does_change_what_a_plain_presigned_put_wrote(store: Store) -> None:
    target = {"Bucket": store.bucket, "Key": "unprotected"}
    upload = {"urlToUpload": store.client.generate_presigned_url("put_object", target), "requestHeaders": {}}
    assert send(upload, RIGHT)[0] == 200
    assert replay(upload, store.client.generate_presigned_url("get_object", target)) == WRONG


@pytest.mark.parametrize("mode", ["presigned", "gateway"])
def test_a_download_has_the_announced_name_and_serves_ranges(mode: str, request: pytest.FixtureRequest) -> None:
    lab = request.getfixturevalue(mode).open_lab()
    file = lab.upload(f"Größe \"1\" {uuid.uuid4()}.fastq", RIGHT)  # fmt: skip
    status, answer = curl("-i", "-H", "Range: bytes=2-5", lab.find_url(file))
    head, _, content = answer.partition(b"\r\n\r\n")
    assert (status, content) == (206, RIGHT[2:6])
    headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert headers[b"content-range"] == b"bytes 2-5/%d" % len(RIGHT)
    assert b"filename*=utf-8''gr%c3%b6%c3%9fe%20%221%22%20" in headers[b"content-disposition"]


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_deleting_a_file_keeps_its_content_alone(lab: Api, store: Store, algorithm: str) -> None:
    file = lab.announce(name_file(), RIGHT, algorithm)
    send(file, RIGHT)
    lab.confirm(file)
    content = store.list_keys(file)
    assert content
    # Of a SHA-256 file the store takes this, and nobody wants it.
    send(file, WRONG)
    lab.call("DELETE", f"/files/{file['id']['site']}", status=204)
    assert store.list_keys(file) == [key for key in content if key.startswith("files/")]
    assert lab.request("GET", f"/rpc/get-file-url/{file['id']['site']}").status_code == 404


def test_the_uploader_and_the_downloader_meet_the_store_itself(rgw: RGW, tmp_path: Path) -> None:
    endpoint = urlsplit(rgw.endpoint)
    size = 5 * PART_BYTES + 7
    expected = make_file(tmp_path / "large.fastq", size)
    (tmp_path / "small.fastq").write_bytes(RIGHT)
    with run_proxy((endpoint.hostname or "", endpoint.port or 80)) as proxy:
        settings = make_store(rgw).settings | {"DATAMETA_S3_PUBLIC_ENDPOINT": f"http://{proxy.netloc}"}
        with serve_cleanly(tmp_path / "home", tmp_path, "--demo", variables=settings) as served:
            lab = served.open_lab()
            small = finish(tmp_path / "small.fastq", lab)
            assert small["state"] == "confirmed"
            before = proxy.bytes_up
            with uploading(tmp_path / "large.fastq", lab, "--jobs", "1") as process:
                wait_for_bytes(process, proxy, before + size // 2)
            large = finish(tmp_path / "large.fastq", lab)
            assert (large["state"], large["size"]) == ("confirmed", size)
            # All went past the portal, and at most the part that was under way did so twice.
            assert size <= proxy.bytes_up - before <= size + PART_BYTES + 2 * OVERHEAD_BYTES
            assert hash_download(lab, large) == expected
            assert finish(tmp_path / "large.fastq", lab)["state"] == "already_there"

            record = RECORD | {"Lab-ID": "S3", "FileR1": "small.fastq", "FileR2": "large.fastq"}
            staged = lab.call("POST", "/metadatasets", {"record": record})
            files = [small["id"]["site"], large["id"]["site"]]
            body = {"metadatasetIds": [staged["id"]["site"]], "fileIds": files}
            submission = lab.call("POST", "/submissions", body)["id"]["site"]
            before = proxy.bytes_down
            access = {"DATAMETA_URL": lab.address, "DATAMETA_TOKEN": lab.token}
            fetched = run_datameta("download", submission, "--to", str(tmp_path / "to"), variables=access)
            assert fetched.returncode == 0, fetched.stderr
            assert proxy.bytes_down - before >= size
    assert (tmp_path / "to" / "small.fastq").read_bytes() == RIGHT
    with (tmp_path / "to" / "large.fastq").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == expected


def test_storage_check_finds_the_store_fit(presigned: Served, store: Store) -> None:
    done = run_datameta("storage", "check", "--home", str(presigned.home), variables=store.settings)
    assert done.returncode == 0, done.stdout + done.stderr
    marks = {line.split()[0] for line in done.stdout.splitlines()}
    assert marks <= {"ok", "note"}
    assert "ok    a part with other bytes is refused" in done.stdout


def test_storage_check_says_that_a_bucket_is_missing(presigned: Served, store: Store) -> None:
    settings = store.settings | {"DATAMETA_S3_BUCKET": "there-is-none"}
    done = run_datameta("storage", "check", "--home", str(presigned.home), variables=settings)
    assert done.returncode == 1
    assert "FAIL" in done.stdout
    assert "Traceback" not in done.stderr


def test_sweep_runs_beside_the_portal_and_takes_nothing_that_is_in_use(presigned: Served, store: Store) -> None:
    lab = presigned.open_lab()
    file, announced = lab.upload(name_file(), RIGHT), lab.announce(name_file(), RIGHT)
    done = run_datameta("sweep", "--home", str(presigned.home), variables=store.settings)
    assert done.returncode == 0, done.stderr
    assert lab.fetch(file) == RIGHT
    assert send(announced, RIGHT)[0] == 200
    assert lab.fetch(lab.confirm(announced)) == RIGHT


@pytest.mark.parametrize("command", ["serve", "worker", "sweep"])
def test_nothing_works_on_a_store_that_keeps_no_promise(presigned: Served, store: Store, command: str) -> None:
    settings = store.settings | {"DATAMETA_S3_BUCKET": "there-is-none"}
    done = run_datameta(command, "--home", str(presigned.home), variables=settings)
    assert done.returncode == 1
    assert "The store does not keep what the portal promises: " in done.stderr
    assert "Traceback" not in done.stderr


def test_an_admin_may_do_without_the_check(presigned: Served, store: Store) -> None:
    settings = store.settings | {"DATAMETA_S3_BUCKET": "there-is-none"}
    for check in ("warn", "off"):
        variables = settings | {"DATAMETA_STORAGE_CHECK": check}
        done = run_datameta("worker", "--once", "--home", str(presigned.home), variables=variables)
        assert done.returncode == 0, done.stderr
        assert ("The store fails the check" in done.stderr) == (check == "warn")
