"""What may pass is tried again, what can not is told at once."""

import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from datameta.client.network import ClientError, Network, PassingError, RefusedError, StoppedError, UnfinishedError
from datameta.client.source import open_source


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """A network that gives up at once, and says what it waits for to nobody."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    network = Network(connections=1, patience=0, report=lambda message: None)
    yield network
    network.close()


@pytest.fixture
def forged(tmp_path: Path) -> Iterator[str]:
    """The address of a server whose certificate nobody knows."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, pytest.raises(ssl.SSLError):
            context.wrap_socket(connection, server_side=True)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_a_forged_certificate_is_final(impatient: Network, forged: str) -> None:
    with pytest.raises(ClientError, match="not who it says"):
        impatient.call("GET", forged, headers={})


@pytest.mark.parametrize("url", ["http://[::1", "mailto:a@example.org"])
def test_what_is_no_address_is_final(impatient: Network, url: str) -> None:
    with pytest.raises(ClientError, match="no address"):
        impatient.call("GET", url, headers={})


def test_patience_has_an_end(impatient: Network) -> None:
    tries = []

    def fail() -> None:
        tries.append(1)
        raise PassingError("no connection")

    with pytest.raises(UnfinishedError, match="gave up: no connection"):
        impatient.insist(fail)
    assert len(tries) == 1


def test_a_refusal_is_final(impatient: Network) -> None:
    def refuse() -> None:
        raise RefusedError("No.", 403)

    with pytest.raises(RefusedError):
        impatient.insist(refuse)


def test_who_is_stopped_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(connections=1, patience=3600, report=lambda message: network.stop())

    def fail() -> None:
        raise PassingError("busy", pause=3600)

    with pytest.raises(StoppedError):
        network.insist(fail)
    with pytest.raises(StoppedError):
        network.insist(fail)
    network.close()


def test_a_file_that_is_gone_or_cut_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    source = open_source(path)
    path.write_bytes(b"con")
    with pytest.raises(ClientError, match="changes"):
        list(source.read(0, 7))
    path.unlink()
    with pytest.raises(ClientError, match="can't be read"):
        source.check_unchanged()
