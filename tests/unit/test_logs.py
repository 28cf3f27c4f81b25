"""What is logged is a line, has its request, and holds nothing that opens a door."""

import io
import json
import logging
from collections.abc import Iterator
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datameta import logs

log = logging.getLogger("datameta.test")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Yield where events are logged to; what was before is put back."""
    root, own = logging.getLogger(), logging.getLogger("datameta")
    former = root.handlers[:], root.level, own.level
    for handler in former[0]:
        root.removeHandler(handler)
    yield io.StringIO()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    for handler in former[0]:
        root.addHandler(handler)
    root.setLevel(former[1])
    own.setLevel(former[2])


def read(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_an_object_of_json_with_what_it_is_about(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    with logs.about(request_id="r1"):
        logs.note(operation="getSite")
        log.warning("file %s is gone", "f1", extra={"facts": {"ms": 3}})
        with logs.about(job_id=7):
            log.info("inside")
    log.info("after")
    first, second, third = read(stream)
    assert str(first.pop("time")).endswith("Z")
    assert first == {
        "level": "warning",
        "logger": "datameta.test",
        "message": "file f1 is gone",
        "request_id": "r1",
        "operation": "getSite",
        "ms": 3,
    }
    assert (second["request_id"], second["job_id"]) == ("r1", 7)
    assert "request_id" not in third


def test_a_note_outside_of_a_request_is_nothing() -> None:
    logs.note(operation="nothing")
    assert logs.get_operation() == ""


def test_threads_do_not_share_their_facts(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    with logs.about(request_id="r1"):
        thread = Thread(target=lambda: log.info("elsewhere"))
        thread.start()
        thread.join()
    assert "request_id" not in read(stream)[0]


def test_a_failure_is_one_line_of_json(stream: io.StringIO) -> None:
    logs.configure("info", "json", stream)
    try:
        raise RuntimeError("password=hunter2 at\nnight")
    except RuntimeError:
        log.exception("it failed")
    [line] = read(stream)
    assert "RuntimeError" in str(line["exception"])
    assert "hunter2" not in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "plain"])
def test_what_was_sent_forges_no_line(stream: io.StringIO, form: str) -> None:
    logs.configure("info", form, stream)
    with logs.about(request_id="x\r\ny"):
        log.info("name %s", "a\nERROR root: forged\x1b[31m\u2028\ud800")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()


def test_a_plain_line_is_for_people(stream: io.StringIO) -> None:
    logs.configure("info", "auto", stream)
    assert not stream.isatty()
    log.info("in a file")
    assert read(stream)
    stream.isatty = lambda: True  # type: ignore[method-assign]
    logs.configure("info", "auto", stream)
    with logs.about(request_id="r1"):
        log.info("ready")
    assert stream.getvalue().splitlines()[-1].endswith("Z INFO datameta.test: ready request_id=r1")


def test_only_the_portal_logs_in_detail(stream: io.StringIO) -> None:
    logs.configure("debug", "json", stream)
    logging.getLogger("botocore.auth").debug("the canonical request")
    log.debug("ours")
    assert [line["message"] for line in read(stream)] == ["ours"]
    logs.configure("error", "json", stream)
    log.warning("not now")
    logging.getLogger("botocore").warning("nor this")
    assert len(read(stream)) == 1


TOKEN = "w8vBtmH4pFb8KJjqfkErYtWrhFc1hYIDc79Qwn38sUeHmGkkW2UuxhAxWQoqIjEv"
SIGNED = "https://s3.example.org/b/files/1?X-Amz-Credential=AKIA1&X-Amz-Signature=0f0f0f0f0f0f"


@pytest.mark.parametrize(
    ("text", "secret", "kept"),
    [
        (f"Authorization: Bearer {TOKEN}", TOKEN, "Authorization"),
        (f"the key {TOKEN} was sent", TOKEN, "the key … was sent"),
        (f"GET {SIGNED} failed", "0f0f0f", "https://s3.example.org/b/files/1?… failed"),
        ("query X-Amz-Signature=0f0f0f0f&x=1", "0f0f", "x=1"),
        ("{'Cookie': 'datameta=abcdef; x=1'}", "abcdef", "Cookie"),
        ("set-cookie: datameta=abcdef", "abcdef", "set-cookie"),
        ("postgresql+psycopg://lab:topsecret@db/x", "topsecret", "@db/x"),
        ('{"password": "hunter2"}', "hunter2", '"password"'),
        ("smtp_password=hunter2 host=x", "hunter2", "host=x"),
        ("Access-Token: a1b2c3d4", "a1b2c3d4", "Access-Token"),
        (f"/api/v1/download/{TOKEN}", TOKEN, "/api/v1/download/…"),
        ("otp=123456", "123456", "otp"),
    ],
)
def test_what_looks_like_a_secret_is_left_out(text: str, secret: str, kept: str) -> None:
    assert secret not in logs.scrub(text)
    assert kept in logs.scrub(text)


@pytest.mark.parametrize(
    "text",
    [
        "file 6f0c1b9e-1111-4222-8333-444455556666 confirmed, 5 bytes at files/6f0c1b9e-1111-4222-8333-444455556666",
        "sha256 " + "0f" * 32,
        "no mail server is set (datameta.smtp_host): a mail was written to var/mail/x.eml",
        "refused a request of 127.0.0.1: too_large",
    ],
)
def test_what_opens_nothing_is_kept(text: str) -> None:
    assert logs.scrub(text) == text


@given(st.from_regex(logs._PLAIN, fullmatch=True))
def test_a_text_that_is_not_looked_through_holds_nothing_that_would_be_taken_out(text: str) -> None:
    assert not [pattern for pattern, _ in logs._SECRETS if pattern.search(text)]
