"""A file of 2 GiB sent in parts by the uploader to a store: what the portal costs that issues the addresses.

Bare limit: the same tool, sending the same file to the same store by a multipart upload of its own. The store is a
Ceph gateway whose daemons share the machine's cores with the tool and the portal; the two take turns.
"""

import base64
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from datameta.client.api import Portal, UploadSession
from datameta.client.network import Network
from datameta.client.parts import PartRequest, PartSender, Pool, Receiver
from datameta.client.progress import Display
from datameta.client.source import Source, open_source
from tests.bench.portal import running_portal
from tests.bench.report import Figure, measure_seconds
from tests.rgw import missing_programs, run_rgw

SIZE = 2 << 30
PART = 16 << 20
JOBS = 4
BUCKET = "bench"
LEAST = 0.95
TURNS = 3


class BareUpload:
    """A multipart upload to a store, with nobody between."""

    def __init__(self, client: Any, key: str) -> None:
        self._client = client
        self._upload: dict[str, str] = {"Bucket": BUCKET, "Key": key}

    def open(self, size: int) -> int:
        self._upload["UploadId"] = self._client.create_multipart_upload(**self._upload)["UploadId"]
        return PART

    def list_parts(self) -> dict[int, str]:
        return {}

    def request_parts(self, md5s: Mapping[int, str]) -> dict[int, PartRequest]:
        return {number: self._presign(number, md5) for number, md5 in md5s.items()}

    def complete(self, checksum: str, md5s: Mapping[int, str]) -> None:
        parts = [{"PartNumber": number, "ETag": md5} for number, md5 in sorted(md5s.items())]
        self._client.complete_multipart_upload(**self._upload, MultipartUpload={"Parts": parts})

    def _presign(self, number: int, md5: str) -> PartRequest:
        content_md5 = base64.b64encode(bytes.fromhex(md5)).decode()
        wanted = {**self._upload, "PartNumber": number, "ContentMD5": content_md5}
        return PartRequest(self._client.generate_presigned_url("upload_part", wanted), {"Content-MD5": content_md5})


def measure() -> Iterator[Figure]:
    """Measure the uploader with and without a portal."""
    if message := missing_programs():
        print(f"Not measured: {message}", file=sys.stderr)
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gateway = stack.enter_context(run_rgw(folder))
        credentials = {"aws_access_key_id": gateway.access_key, "aws_secret_access_key": gateway.secret_key}
        config = Config(signature_version="s3v4", request_checksum_calculation="when_required", proxies={})
        client = boto3.client("s3", "us-east-1", endpoint_url=gateway.endpoint, config=config, **credentials)
        client.create_bucket(Bucket=BUCKET)
        portal = stack.enter_context(
            running_portal(
                AWS_ACCESS_KEY_ID=gateway.access_key,
                AWS_SECRET_ACCESS_KEY=gateway.secret_key,
                DATAMETA_STORAGE="s3",
                DATAMETA_S3_ENDPOINT=gateway.endpoint,
                DATAMETA_S3_BUCKET=BUCKET,
            )
        )
        path = folder / "reads.fastq.gz"
        with path.open("wb") as file:
            file.truncate(SIZE)
        source = open_source(path)
        network = Network(connections=JOBS + 1, patience=0, report=print)
        stack.callback(network.close)
        lab = Portal(portal.address, portal.lab_token, network)
        seconds: dict[str, list[float]] = {"portal": [], "bare": []}
        for number in range(TURNS):
            bare_upload = BareUpload(client, f"bare-{number}")
            seconds["bare"].append(measure_seconds(partial(_send, source, bare_upload, network)))
            _empty(client, folder)
            seconds["portal"].append(measure_seconds(partial(_hand_in, source, lab, network)))
            _empty(client, folder)
        speed, bare = (SIZE / 1e6 / statistics.median(seconds[way]) for way in ("portal", "bare"))
    yield Figure(f"2 GiB in parts by {JOBS} jobs, beside no portal (Ceph gateway)", speed, "MB/s", bare=bare,
                 least_ratio=LEAST)  # fmt: skip


def _hand_in(source: Source, lab: Portal, network: Network) -> None:
    announced = lab.announce_file(source.name, "0" * 32, source.size)
    _send(source, UploadSession(lab, announced["id"]["uuid"]), network)


def _send(source: Source, receiver: Receiver, network: Network) -> None:
    with Pool(JOBS) as pool:
        PartSender(source, receiver, network, pool, Display().add(source.name, source.size), 0).send()


def _empty(client: Any, folder: Path) -> None:
    """Make the store, which has 4 GiB of memory, forget what was sent."""
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
        client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    collect = ["radosgw-admin", "-c", str(folder / "ceph.conf"), "gc", "process", "--include-all"]
    subprocess.run(collect, check=True, capture_output=True)
