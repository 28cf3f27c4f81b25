"""Sample sheets: their bytes come and go as they are, and are never in memory as a whole."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePath
from tempfile import TemporaryFile
from typing import Any, BinaryIO

import orjson
from pyramid.request import Request
from pyramid.response import Response

from datameta.api import operation, serialize
from datameta.errors import Problem, ValidationError
from datameta.logic import sheets
from datameta.logic.appsettings import get_setting
from datameta.logic.file_names import make_disposition
from datameta.logic.records import is_plain_text
from datameta.logic.sheets import Sheet

CHUNK = 1 << 20
LONGEST_NAME = 255
TYPES = {
    "csv": "text/csv",
    "json": "application/json",
    "ods": "application/vnd.oasis.opendocument.spreadsheet",
    "xlsm": "application/vnd.ms-excel.sheet.macroEnabled.12",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


@operation("checkSheet", validated=False)
def check_sheet(request: Request) -> Any:
    rows = request.GET.get("rows", "false")
    if rows not in ("true", "false"):
        raise ValidationError(Problem("The values that are allowed are true and false.", "invalid_value", "rows"))
    if rows == "true":
        return _give(lambda output: _check_with_rows(request, output))
    with _receive(request) as sheet:
        return serialize.show_sheet_report(sheets.check_sheet(**_place(request), sheet=sheet))


@operation("stageSheet", validated=False)
def stage_sheet(request: Request) -> Any:
    only = request.GET.get("only")
    if only not in (None, "good"):
        raise ValidationError(Problem("The only value that is allowed is good.", "invalid_value", "only"))
    with _receive(request) as sheet:
        report, rows = sheets.stage_sheet(
            **_place(request),
            sheet=sheet,
            only_good=only == "good",
            site_id_format=request.portal_settings.id_metadatasets,
        )
    return serialize.show_staged_sheet(report, rows)


@operation("annotateSheet", validated=False)
def annotate_sheet(request: Request) -> Any:
    def write(output: BinaryIO) -> tuple[str, str]:
        with _receive(request) as sheet:
            kind = sheets.annotate_sheet(**_place(request), sheet=sheet, output=output)
        stem = PurePath(sheet.filename).stem
        return kind, f"{stem}.findings.csv" if kind == "csv" else f"{stem}.checked.{kind}"

    return _give(write)


@operation("getSheetTemplate")
def get_sheet_template(request: Request) -> Any:
    kind = request.openapi_validated.parameters.query.get("format", "xlsx")

    def write(output: BinaryIO) -> tuple[str, str]:
        site_name = get_setting(request.db, "site_name")
        sheets.make_template(request.db, site_name=site_name, file_format=kind, output=output)
        return kind, f"{site_name} samples.{kind}"

    # The check of the answer would read it as text.
    request.environ["pyramid_openapi3.validate_response"] = False
    return _give(write)


def _place(request: Request) -> dict[str, Any]:
    """Return what every operation on a sheet begins with."""
    return {"db": request.db, "actor": request.actor, "reader": request.sheet_reader}


@contextmanager
def _receive(request: Request) -> Iterator[Sheet]:
    """Store the body in a temporary file for as long as it is needed.

    Raises ``ValidationError`` for names that are none, and without a body.
    """
    names = {name: request.GET.get(name) for name in ("filename", "sheet")}
    problems = [
        Problem(f"The text has 1 to {LONGEST_NAME} characters, none of them NUL.", "invalid_text", name)
        for name, text in names.items()
        if text is not None and not (0 < len(text) <= LONGEST_NAME and is_plain_text(text))
    ]
    filename = names["filename"]
    if filename is None:
        problems.append(Problem("This parameter is missing: the name of the sheet's file.", "missing", "filename"))
    if problems or filename is None:
        raise ValidationError(problems)
    with TemporaryFile() as file:
        size = _copy(request.environ["wsgi.input"], file)
        if not size:
            raise ValidationError("The request has no body. Send the bytes of the sheet's file.", code="missing_body")
        file.seek(0)
        yield Sheet(file, filename, names["sheet"])


def _copy(source: BinaryIO, target: BinaryIO) -> int:
    size = 0
    while chunk := source.read(CHUNK):
        size += target.write(chunk)
    return size


def _check_with_rows(request: Request, output: BinaryIO) -> tuple[str, None]:
    """Write the report with its rows, which are never in memory as a whole."""
    with _receive(request) as sheet, TemporaryFile() as content:
        report = sheets.check_sheet(**_place(request), sheet=sheet, content=content)
        shown = {**serialize.show_sheet_report(report), "fields": sheets.list_fields(report), "content": []}
        output.write(orjson.dumps(shown).removesuffix(b"]}"))
        separator = b""
        for row in sheets.read_content(report, content):
            output.write(separator + orjson.dumps(serialize.show_sheet_row(row)))
            separator = b","
        output.write(b"]}")
    return "json", None


def _give(write: Callable[[BinaryIO], tuple[str, str | None]]) -> Response:
    """Return the file that ``write`` writes, saying of which kind it is and, if it has a name, how it is called."""
    output: BinaryIO = TemporaryFile()  # noqa: SIM115 - the server closes it with the answer
    try:
        kind, name = write(output)
    except BaseException:
        output.close()
        raise
    response = Response(app_iter=_read(output), content_type=TYPES[kind], charset=None)
    response.content_length = output.seek(0, 2)
    output.seek(0)
    if name is not None:
        response.headers["Content-Disposition"] = make_disposition(name)
    return response


def _read(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK):
            yield chunk
