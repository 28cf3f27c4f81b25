"""Every store the portal can use, and the servers behind them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer

from tests.storage.backends import Backend, make_backend, set_credentials


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """Run moto and return its address."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        # Small parts, quick tests; the Ceph gateway asks for 5 MiB as all do.
        patch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", 1)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave nothing of the machine's own AWS and proxy configuration."""
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    set_credentials(monkeypatch, "testing", "testing")


@pytest.fixture(params=["local", "moto-gateway", "moto-presigned", "moto-opaque", "rgw-gateway", "rgw-presigned"])
def backend(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Return each store in each mode."""
    return make_backend(request.param, tmp_path, request, monkeypatch)


@pytest.fixture(params=["moto-presigned", "rgw-presigned"])
def direct(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Return each store to which clients send bytes themselves."""
    return make_backend(request.param, tmp_path, request, monkeypatch)


@pytest.fixture
def real(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Return the Ceph gateway in presigned mode."""
    return make_backend("rgw-presigned", tmp_path, request, monkeypatch)


@pytest.fixture
def imitated(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Return moto in presigned mode."""
    return make_backend("moto-presigned", tmp_path, request, monkeypatch)


@pytest.fixture
def opaque(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Return moto, with ETags that are no MD5."""
    return make_backend("moto-opaque", tmp_path, request, monkeypatch)


@pytest.fixture(params=["md5", "sha256"])
def algorithm(request: pytest.FixtureRequest) -> str:
    """Return each algorithm of announced checksums."""
    name: str = request.param
    return name
