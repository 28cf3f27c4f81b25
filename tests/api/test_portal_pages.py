"""How the browser application is served: one page for all its addresses, files that never change, a strict policy."""

from pathlib import Path

import pytest
from webob import Request, Response

from datameta.settings import Settings
from datameta.storage import open_storage
from datameta.web import portal as pages
from tests.conftest import Portal, assert_refused


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build of two files, the smaller one not compressed."""
    folder = tmp_path / "built"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>DataMeta</title>", "utf-8")
    (folder / "icon.svg").write_text("<svg/>", "utf-8")
    for name, content in {"a-1.js": b"plain", "a-1.js.br": b"brotli", "a-1.js.gz": b"gzip", "b-2.css": b"css"}.items():
        (folder / "assets" / name).write_bytes(content)
    monkeypatch.setattr(pages, "BUILT", folder)
    pages._read_page.cache_clear()
    pages._list_files.cache_clear()
    return folder


def fetch(portal: Portal, path: str, **headers: str) -> Response:
    """Ask as a browser does; what comes packed stays so."""
    answer = Request.blank(path, headers=headers).get_response(portal.app.app)
    # Reading it closes the file.
    assert (answer.status_int, bool(answer.body)) == (200, True)
    return answer


def test_every_address_but_the_api_is_the_page(portal: Portal, built: Path) -> None:
    for path in ("/", "/submit", "/data/submissions/DMS-1", "/apiary", "/assets"):
        page = fetch(portal, path)
        assert page.text == (built / "index.html").read_text("utf-8")
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert page.headers["Cache-Control"] == "no-cache"
        assert page.headers["Content-Security-Policy"] == (
            "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; style-src 'self'; "
            "img-src 'self' data: blob:; font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'"
        )
        assert page.headers["X-Content-Type-Options"] == "nosniff"
    for path in ("/api/nothing", "/api/v1/nothing"):
        assert_refused(portal.app.get(path, status="*"), 404, ("unknown_address", None))


def test_the_files_are_kept_for_ever_and_sent_as_the_browser_likes(portal: Portal, built: Path) -> None:
    for accepted, content, encoding in (
        ("", b"plain", None),
        ("gzip", b"gzip", "gzip"),
        ("gzip, br", b"brotli", "br"),
        ("br;q=0", b"plain", None),
    ):
        file = fetch(portal, "/assets/a-1.js", **{"Accept-Encoding": accepted})
        assert (file.body, file.headers.get("Content-Encoding")) == (content, encoding)
        assert file.headers["Content-Type"].split(";")[0] == "text/javascript"
        assert file.headers["Cache-Control"] == "max-age=31536000"
        assert file.headers["Vary"] == "Accept-Encoding"
    assert fetch(portal, "/assets/b-2.css", **{"Accept-Encoding": "br"}).body == b"css"
    assert fetch(portal, "/icon.svg").content_type == "image/svg+xml"


@pytest.mark.parametrize("name", ["nothing.js", "..%2Findex.html", "%2e%2e", "a-1.js%00", "%2Fetc%2Fpasswd"])
def test_nothing_else_is_there(portal: Portal, built: Path, name: str) -> None:
    assert_refused(portal.app.get(f"/assets/{name}", status="*"), 404, ("unknown_address", None))


def test_a_portal_whose_application_was_not_built_says_how(portal: Portal, built: Path) -> None:
    (built / "index.html").unlink()
    assert_refused(portal.app.get("/", status="*"), 503, ("not_built", None))


def test_the_policy_names_the_store_that_bytes_go_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    settings = Settings(
        home=tmp_path, base_url="https://portal.test", storage="s3", s3_bucket="b", s3_endpoint="https://s3.test:7480"
    )
    origin = pages.find_origin(open_storage(settings))
    assert origin == "https://s3.test:7480"
    assert "connect-src 'self' https://s3.test:7480; " in pages.make_policy(origin)
