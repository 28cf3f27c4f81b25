"""Logs: a line an event, with the request or job it belongs to, and nothing in it that opens a door.

No event is logged with a secret in the first place; what a library or a failure might still quote, ``scrub`` takes
out. Only this package logs in detail: at level ``debug`` libraries would write down whole requests.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

_facts: ContextVar[MutableMapping[str, Any] | None] = ContextVar("facts", default=None)

LEFT_OUT = "…"
_SECRETS = [
    # The query of an address: that of a signed one opens it.
    (re.compile(r"""(\bhttps?://[^\s"'<>?]*)\?[^\s"'<>]+"""), rf"\1?{LEFT_OUT}"),
    (re.compile(r"""(\b[a-z][a-z0-9+.-]*://)[^\s/"'@]+@""", re.IGNORECASE), rf"\1{LEFT_OUT}@"),
    (re.compile(r"(/(?:download|upload)/)[A-Za-z0-9]{16,}"), rf"\1{LEFT_OUT}"),
    (re.compile(r"((?:Bearer|Basic)\s+)[^\s\"',]+", re.IGNORECASE), rf"\1{LEFT_OUT}"),
    (re.compile(r"(X-Amz-[A-Za-z-]+=)[^\s&\"']+", re.IGNORECASE), rf"\1{LEFT_OUT}"),
    (
        re.compile(
            r"""((?:password|passwd|secret|token|cookie|authorization|signature|otp)["']?\s*[:=]\s*["']?)[^\s"',;&]+""",
            re.IGNORECASE,
        ),
        rf"\1{LEFT_OUT}",
    ),
    # Keys and tokens of the portal have 64 letters and digits; a SHA-256 has small ones only.
    (re.compile(r"\b(?![0-9a-f]{64}\b)[A-Za-z0-9]{64}\b"), LEFT_OUT),
]
_PLAIN = re.compile(r"[A-Za-z0-9._-]{0,63}")
"""What can't hold a secret: too short for a token, and without what stands before a value."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def scrub(text: str) -> str:
    """Return a text without what looks like a secret."""
    if _PLAIN.fullmatch(text):
        return text
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


@contextmanager
def about(**facts: Any) -> Iterator[None]:
    """Let every event that is logged meanwhile, by this thread or task, carry these facts."""
    token = _facts.set({**(_facts.get() or {}), **facts})
    try:
        yield
    finally:
        _facts.reset(token)


def note(**facts: Any) -> None:
    """Add facts that have become known to those of ``about``."""
    current = _facts.get()
    if current is not None:
        current.update(facts)


def get_operation() -> str:
    """Return the operation or job that is at work, or an empty text."""
    return str((_facts.get() or {}).get("operation", ""))


def configure(level: str, form: str = "plain", stream: TextIO | None = None) -> None:
    """Log to ``stream``, standard error, from a level on; ``form`` is plain, json, or auto (plain in a terminal)."""
    handler = LineHandler(stream or sys.stderr)
    is_plain = form == "plain" or (form == "auto" and handler.stream.isatty())
    handler.setFormatter(PlainFormatter() if is_plain else JsonFormatter())
    chosen = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(chosen, logging.INFO), handlers=[handler], force=True)
    logging.getLogger("datameta").setLevel(chosen)
    logging.getLogger("alembic.runtime.migration").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Say whether Alembic tells of a change of the schema, not of every look at it."""
    return not record.getMessage().startswith(("Context impl", "Will assume"))


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes each event by one call of the system, so that no thread waits while another writes.

    The system keeps such lines apart, in a pipe those of up to 4 KiB.
    """

    def createLock(self) -> None:  # noqa: N802
        """Have none."""
        self.lock = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one event."""
        try:
            line = self.format(record) + self.terminator
            try:
                descriptor = self.stream.fileno()
            except OSError:
                self.stream.write(line)
                return
            rest = line.encode("utf-8", "backslashreplace")
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except Exception:
            self.handleError(record)


class JsonFormatter(logging.Formatter):
    """Writes an event as one object of JSON, in ASCII: nothing that was sent can break or forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": _to_utc(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": scrub(record.getMessage()),
            **_collect(record),
        }
        if record.exc_info:
            line["exception"] = scrub(self.formatException(record.exc_info))
        return json.dumps(line, default=str)


class PlainFormatter(logging.Formatter):
    """Writes an event as a line for people; only a traceback has more lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        facts = "".join(f" {name}={value}" for name, value in _collect(record).items())
        text = _CONTROL.sub(lambda match: repr(match[0])[1:-1], scrub(record.getMessage()) + facts)
        line = f"{_to_utc(record)} {record.levelname} {record.name}: {text}"
        return f"{line}\n{scrub(self.formatException(record.exc_info))}" if record.exc_info else line


def _to_utc(record: logging.LogRecord) -> str:
    seconds = int(record.created)
    return f"{_write_second(seconds)}.{int((record.created - seconds) * 1000):03}Z"


@lru_cache(maxsize=4)
def _write_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _collect(record: logging.LogRecord) -> dict[str, Any]:
    """Return the facts of the request or job, and those of the event (``extra={"facts": …}``)."""
    facts = {**(_facts.get() or {}), **getattr(record, "facts", {})}
    return {name: scrub(value) if isinstance(value, str) else value for name, value in facts.items()}
