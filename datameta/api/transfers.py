"""Bytes through the portal itself: in by PUT or by a form, out with ranges. Never a whole file in memory."""

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header
from pyramid.request import Request
from pyramid.response import Response

from datameta.api import no_content, operation
from datameta.api.errors import RangeError, UnsupportedTypeError
from datameta.errors import NotFoundError, Problem, ValidationError
from datameta.logic import files, uploads
from datameta.logic.file_names import make_disposition
from datameta.metrics import TRANSFERRED_BYTES

CHUNK = 1 << 20


@operation("uploadFile", validated=False)
def upload_file(request: Request) -> Any:
    return _receive(request, _read_chunks(request.environ["wsgi.input"], request.content_length))


@operation("uploadFileForm", validated=False)
def upload_file_form(request: Request) -> Any:
    kind, options = parse_options_header(request.environ.get("CONTENT_TYPE", ""))
    if kind != "multipart/form-data":
        raise UnsupportedTypeError("Send the file as multipart/form-data, or PUT its bytes.")
    if not options.get("boundary"):
        raise _malformed_form()
    return _receive(request, _read_form_file(request.environ["wsgi.input"], options["boundary"]))


@operation("uploadPart", validated=False)
def upload_part(request: Request) -> Any:
    uploads.receive_part(
        request.database.sessions,
        storage=request.storage,
        file_id=request.matchdict["id"],
        number=_parse_number(request.matchdict["number"]),
        token=request.headers.get("Access-Token", ""),
        chunks=_count(_read_chunks(request.environ["wsgi.input"], request.content_length), "in"),
    )
    return no_content(request)


@operation("downloadFile", validated=False)
def download_file(request: Request) -> Any:
    file = files.find_download(request.db, token=request.matchdict["token"])
    assert file.size is not None
    span = _parse_range(request.headers.get("Range"), file.size)
    start, stop = span or (0, file.size)
    chunks = files.read_content(request.storage, file, start, stop)
    response = Response(app_iter=_count(chunks, "out"), content_type="application/octet-stream", charset=None)
    response.content_length = stop - start
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Content-Disposition"] = make_disposition(file.name)
    if span is not None:
        response.status_int = 206
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.size}"
    return response


def _receive(request: Request, chunks: Iterator[bytes]) -> Response:
    files.receive_upload(
        request.database.sessions,
        storage=request.storage,
        settings=request.portal_settings,
        file_id=request.matchdict["id"],
        token=request.headers.get("Access-Token", ""),
        chunks=_count(chunks, "in"),
    )
    return no_content(request)


def _count(chunks: Iterator[bytes], direction: str) -> Iterator[bytes]:
    """Yield the chunks, and count what has gone through the portal."""
    counter = TRANSFERRED_BYTES.labels(direction)
    for chunk in chunks:
        counter.inc(len(chunk))
        yield chunk


def _parse_number(text: str) -> int:
    """Return the number of a part.

    Raises ``NotFoundError`` for what is none.
    """
    if not re.fullmatch("[0-9]{1,5}", text):
        raise NotFoundError("There is no part with this number.")
    return int(text)


def _read_chunks(body: BinaryIO, length: int | None) -> Iterator[bytes]:
    """Yield the body.

    Raises ``ValidationError`` if it ends before the ``length`` that was declared.
    """
    received = 0
    while chunk := body.read(CHUNK):
        received += len(chunk)
        yield chunk
    if received < (length or 0):
        raise ValidationError("The transfer ended too early; send the file again.", code="incomplete_transfer")


def _read_form_file(body: BinaryIO, boundary: str) -> Iterator[bytes]:
    """Yield the content of the form's part ``file``.

    Raises ``ValidationError`` for a form without it, or one that ends too early.
    """
    found = False
    is_file = False
    try:
        with PushMultipartParser(boundary) as parser:
            while not parser.closed:
                for event in parser.parse(body.read(CHUNK)):
                    if isinstance(event, MultipartSegment):
                        is_file = event.name == "file" and not found
                        found = found or is_file
                    elif event and is_file:
                        yield bytes(event)
    except MultipartError:
        raise _malformed_form() from None
    if not found:
        message = "The form has no part named 'file'."
        raise ValidationError(Problem(message, "no_file_part", field="file"))


def _malformed_form() -> ValidationError:
    return ValidationError("The form is malformed or ends too early.", code="malformed_form")


def _parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the one range (start, exclusive stop) that is asked for, or None for the whole.

    What is no single byte range counts as not sent, as RFC 9110 allows. Raises ``RangeError``.
    """
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", (header or "").strip())
    if match is None or match[0] == "bytes=-":
        return None
    if match[1] == "":
        start, stop = max(0, size - int(match[2])), size
    else:
        start, stop = int(match[1]), size if match[2] == "" else min(size, int(match[2]) + 1)
        if match[2] != "" and int(match[2]) < start:
            return None
    if start >= stop:
        raise RangeError(size)
    return start, stop
