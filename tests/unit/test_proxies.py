"""Who really asks: an address is believed from trusted proxies only, and read from the right."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from datameta.proxies import find_client, parse_address, trust_proxies

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("192.0.2.9"))


@pytest.mark.parametrize(
    ("peer", "header", "client"),
    [
        # Nobody whom the site trusts says so.
        ("198.51.100.1", "203.0.113.5", "198.51.100.1"),
        ("192.0.2.8", "203.0.113.5", "192.0.2.8"),
        # One proxy.
        ("10.0.0.1", "203.0.113.5", "203.0.113.5"),
        ("192.0.2.9", "203.0.113.5", "203.0.113.5"),
        ("fd00::1", "2001:db8::5", "2001:db8::5"),
        ("10.0.0.1", "", "10.0.0.1"),
        # What the client has written itself stands left.
        ("10.0.0.1", "127.0.0.1, 203.0.113.5", "203.0.113.5"),
        ("10.0.0.1", "10.0.0.2, 203.0.113.5", "203.0.113.5"),
        ("10.0.0.1", "<script>, 203.0.113.5", "203.0.113.5"),
        # Several proxies.
        ("10.0.0.1", "198.51.100.7, 203.0.113.5, 10.0.0.3,10.0.0.2", "203.0.113.5"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        # What is no address is nobody's.
        ("10.0.0.1", "203.0.113.5, unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.5, unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "203.0.113.5,", "10.0.0.1"),
        # With a port, or an older address in the newer kind.
        ("10.0.0.1", "203.0.113.5:4711", "203.0.113.5"),
        ("10.0.0.1", "[2001:db8::5]:4711", "2001:db8::5"),
        ("10.0.0.1", "[2001:db8::5]", "2001:db8::5"),
        ("10.0.0.1", "::ffff:203.0.113.5", "203.0.113.5"),
    ],
)
def test_the_first_from_the_right_that_is_no_trusted_proxy_is_the_client(peer: str, header: str, client: str) -> None:
    assert str(find_client(ip_address(peer), header, TRUSTED)) == client


@pytest.mark.parametrize("text", ["", "localhost", "1.2.3", "fe80::1%" + "x" * 1000, "[fe80::1%eth0]:1", "1.2.3.4:x:y"])
def test_what_is_no_address_is_none(text: str) -> None:
    assert parse_address(text) is None


def test_a_peer_on_a_dual_stack_socket_is_known_by_its_older_address() -> None:
    assert parse_address("::ffff:10.0.0.1") == ip_address("10.0.0.1")


def see(trusted: Any = TRUSTED, **environ: str) -> dict[str, Any]:
    """Return the request as the application sees it."""
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.update(environ)
        return [b"answer"]

    sent = {"wsgi.url_scheme": "http", **environ}
    assert list(trust_proxies(app, trusted)(sent, None)) == [b"answer"]
    return seen


HEADERS = {
    "HTTP_X_FORWARDED_FOR": "203.0.113.5",
    "HTTP_X_FORWARDED_PROTO": "https",
    "HTTP_X_FORWARDED_HOST": "evil.example.org",
    "HTTP_X_FORWARDED_PORT": "1",
    "HTTP_X_FORWARDED_BY": "x",
    "HTTP_FORWARDED": "for=198.51.100.99",
}


def test_a_trusted_proxy_tells_address_and_scheme_and_nothing_else() -> None:
    seen = see(REMOTE_ADDR="10.0.0.1", **HEADERS)
    assert seen == {"wsgi.url_scheme": "https", "REMOTE_ADDR": "203.0.113.5"}


@pytest.mark.parametrize("peer", ["198.51.100.1", "localhost", ""])
def test_from_anybody_else_nothing_is_believed(peer: str) -> None:
    assert see(REMOTE_ADDR=peer, **HEADERS) == {"wsgi.url_scheme": "http", "REMOTE_ADDR": peer}


def test_without_trusted_proxies_nothing_is_believed() -> None:
    assert see((), REMOTE_ADDR="10.0.0.1", **HEADERS) == {"wsgi.url_scheme": "http", "REMOTE_ADDR": "10.0.0.1"}


@pytest.mark.parametrize("scheme", ["ftp", "https, http", "HTTPS", ""])
def test_a_scheme_is_one_that_there_is(scheme: str) -> None:
    seen = see(REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_PROTO=scheme)
    assert seen["wsgi.url_scheme"] == "http"
