"""What protects browsers and the portal itself, whatever is asked for."""

import logging
from dataclasses import replace

import pytest

from datameta.headers import ONLY_TLS, SECURITY_HEADERS, make_headers
from tests.conftest import API, Portal

ADDRESSES = [
    "/", "/submit", "/icon.svg", "/assets/none.js", "/health/live", "/health/ready", "/metrics",
    "/api", API, f"{API}/", f"{API}/openapi.yaml", f"{API}/explorer/explorer.js", f"{API}/site", f"{API}/rpc/whoami",
    f"{API}/nothing", f"{API}/download/x",
]  # fmt: skip


@pytest.fixture
def secure(portal: Portal) -> Portal:
    """A portal that is reached over TLS."""
    return Portal(portal.database, replace(portal.settings, base_url="https://data.example.org"), portal.storage)


@pytest.mark.parametrize("address", ADDRESSES)
def test_every_answer_has_the_security_headers(secure: Portal, address: str) -> None:
    answer = secure.app.get(address, expect_errors=True)
    for name in SECURITY_HEADERS:
        assert name in answer.headers, (address, name)
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
    policy = dict(part.partition(" ")[::2] for part in answer.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    if answer.content_type == "text/html":
        assert {"base-uri", "frame-ancestors", "form-action"} <= policy.keys()
        assert "unsafe-inline" not in str(policy)
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_without_tls_browsers_are_not_told_to_keep_to_it(portal: Portal) -> None:
    assert "Strict-Transport-Security" not in portal.app.get("/health/live").headers
    assert make_headers("http://x") == SECURITY_HEADERS
    assert make_headers("https://x") == SECURITY_HEADERS | ONLY_TLS


@pytest.mark.parametrize("method", ["TRACE", "PATCH", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("address", ["/", "/assets/x.js", "/health/live", "/metrics", f"{API}/site", f"{API}/"])
def test_other_methods_are_refused_and_nothing_is_sent_back(portal: Portal, method: str, address: str) -> None:
    answer = portal.app.request(address, method=method, headers={"X-Mine": "m1n3"}, expect_errors=True)
    assert answer.status_int in (404, 405)
    assert b"m1n3" not in answer.body


@pytest.mark.parametrize(
    "address",
    ["/assets/", "/assets/../index.html", "/assets/%2e%2e/index.html", "/assets//etc/passwd", "/assets/..%2f.env"],
)
def test_no_folder_is_listed_and_none_is_left(portal: Portal, address: str) -> None:
    answer = portal.app.get(address, expect_errors=True)
    assert answer.status_int == 404
    assert answer.content_type == "application/json"


@pytest.mark.parametrize("address", ["/.git/config", "/.env", "/openapi.yaml", "/setup.py"])
def test_no_file_of_the_source_is_served(portal: Portal, address: str) -> None:
    page = portal.app.get("/")
    # Any address that is not the API's is the browser application's, which says itself that there is nothing.
    assert portal.app.get(address).body == page.body


@pytest.mark.parametrize("header", ["X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Client-IP"])
def test_what_says_to_be_from_elsewhere_is_not_believed(
    portal: Portal, caplog: pytest.LogCaptureFixture, header: str
) -> None:
    said = "for=203.0.113.9" if header == "Forwarded" else "203.0.113.9"
    with caplog.at_level(logging.INFO):
        portal.app.get(f"{API}/site", headers={header: said}, extra_environ={"REMOTE_ADDR": "192.0.2.1"})
    [record] = [record for record in caplog.records if record.name == "datameta.access"]
    assert record.facts["ip"] == "192.0.2.1"
