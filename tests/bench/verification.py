"""The verification of a large content by a job: how fast, beside hashing alone, and in how much memory. Needs Linux.

It runs in a process of its own, as in a worker. The local store lies in memory where the machine has
``/dev/shm``, since many a disk is slower than the hashing; of the Ceph gateway, all daemons share the
machine's cores with the job, and its figure has no limit.
"""

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import boto3
from botocore.config import Config

from datameta.logic.verification import hash_content
from datameta.settings import Settings
from datameta.storage import open_storage
from tests.bench.memory import SHARED_MEMORY
from tests.bench.report import ROUNDS, Figure, measure_seconds
from tests.rgw import missing_programs, run_rgw

SIZE = 1 << 30
PART = 64 << 20
KEY = "files/7d6f1f3a-4f0c-4a53-9d1c-6e2c6f1d2a77"
BUCKET = "bench"
LIMIT_MIB = 64
LEAST_OF_HASHING = 0.8


def measure() -> Iterator[Figure]:
    """Measure the verification from each store."""
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None) as folder:
        yield from _measure_store(Settings(home=Path(folder)), "local", least_ratio=LEAST_OF_HASHING)
    if message := missing_programs():
        print(f"Not measured: {message}", file=sys.stderr)
        return
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        gateway = stack.enter_context(run_rgw(Path(folder)))
        os.environ.update(AWS_ACCESS_KEY_ID=gateway.access_key, AWS_SECRET_ACCESS_KEY=gateway.secret_key)
        settings = Settings(home=Path(folder), storage="s3", s3_bucket=BUCKET, s3_endpoint=gateway.endpoint)
        client = boto3.client("s3", "us-east-1", endpoint_url=gateway.endpoint, config=Config(proxies={}))
        client.create_bucket(Bucket=BUCKET)
        yield from _measure_store(settings, "Ceph gateway, same cores", least_ratio=0)


def _measure_store(settings: Settings, store: str, *, least_ratio: float) -> Iterator[Figure]:
    storage = open_storage(settings)
    piece = os.urandom(PART)
    md5 = hashlib.md5(piece).hexdigest()
    upload = storage.begin_parts(KEY)
    for number in range(1, SIZE // PART + 1):
        storage.write_part(KEY, upload, number, [piece], md5=md5, size=PART)
    storage.complete_parts(KEY, upload, [md5] * (SIZE // PART))
    described = {"home": str(settings.home), "endpoint": settings.s3_endpoint, "bucket": settings.s3_bucket}
    command = [sys.executable, "-m", "tests.bench.verification", json.dumps(described)]
    done = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    speed, bare = (SIZE / 1e6 / done[name] for name in ("verifying", "hashing"))
    yield Figure(f"verification of 1 GiB, beside hashing alone ({store})", speed, "MB/s", bare=bare,
                 least_ratio=least_ratio)  # fmt: skip
    yield Figure(f"growth of the job's memory by 1 GiB ({store})", done["growth"], "MiB", below=LIMIT_MIB)


def _verify(described: dict[str, str]) -> dict[str, float]:
    """Verify the content and hash as much, in turns; return the median seconds of each and the growth in MiB."""
    kind = "s3" if described["bucket"] else "local"
    settings = Settings(home=Path(described["home"]), storage=kind, s3_bucket=described["bucket"],
                        s3_endpoint=described["endpoint"])  # fmt: skip
    storage = open_storage(settings)
    storage.size(KEY)
    before = _read_peak()
    seconds: dict[str, list[float]] = {"verifying": [], "hashing": []}
    for _ in range(ROUNDS):
        seconds["verifying"].append(measure_seconds(lambda: hash_content(storage, KEY, lambda done: None)))
        seconds["hashing"].append(measure_seconds(_hash_as_much))
    return {name: statistics.median(each) for name, each in seconds.items()} | {"growth": _read_peak() - before}


def _hash_as_much() -> None:
    md5, sha256, chunk = hashlib.md5(), hashlib.sha256(), bytes(1 << 20)
    for _ in range(SIZE // len(chunk)):
        md5.update(chunk)
        sha256.update(chunk)


def _read_peak() -> float:
    """Return the most memory this process has had, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    print(json.dumps(_verify(json.loads(sys.argv[1]))))
