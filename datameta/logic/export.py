"""The sets that a search finds, as a table: a row for each, a column for each field that is asked for.

The rule this module guards: the table says what the search says, to whom it says it, and takes the same memory
whatever its size. All that can be refused is refused before the first byte. The database sorts once: the ids of what
is found wait in a temporary file, and the rows are read by them.
"""

from array import array
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Literal

from sqlalchemy.orm import Session, sessionmaker

from datameta.authz import Actor
from datameta.clock import as_utc
from datameta.errors import Problem, ValidationError
from datameta.logic import records, search
from datameta.logic.fields import Field
from datameta.logic.metadatasets import PAGE_SIZE, MetaDataSetRow
from datameta.logic.search import Filters
from datameta.sheets.streamed import write_csv, write_xlsx

HEADINGS = ("Metadataset", "Submission", "Submitted", "Group", "User")
TITLE = "Metadatasets"
ID = "q"
"""The kind of number that a row id is."""


@dataclass(frozen=True)
class Export:
    """The fields that are columns, and a temporary file with the row ids of the sets."""

    columns: Sequence[Field]
    ids: BinaryIO


def begin_export(db: Session, actor: Actor, filters: Filters, *, sort: str, columns: Sequence[str] | None) -> Export:
    """Return what ``write_export`` writes; without ``columns``, all fields whose values the actor may see.

    Raises ``ValidationError`` as ``search.prepare_search``, and for columns.
    """
    prepared = search.prepare_search(db, actor, filters, sort=sort)
    problems: list[Problem] = []
    if columns is None:
        chosen = [field for field in prepared.fields if search.may_view_field(actor, field)]
    else:
        found = [
            search.find_visible_field(actor, prepared.fields, name, parameter="column", problems=problems)
            for name in columns
        ]
        chosen = [field for field in found if field is not None]
    if problems:
        raise ValidationError(problems)
    with ExitStack() as stack:
        ids = stack.enter_context(TemporaryFile())
        for some in search.list_ids(db, prepared):
            array(ID, some).tofile(ids)
        # From here on, whoever reads the file closes it.
        stack.pop_all()
    return Export(chosen, ids)


def write_export(
    sessions: sessionmaker[Session], export: Export, *, file_format: Literal["csv", "xlsx"]
) -> Iterator[bytes]:
    """Yield the table as a file, page after page, each read in a transaction of its own."""
    headings = [*HEADINGS, *(field.name for field in export.columns)]
    rows = (_make_row(row, export.columns) for page in _read_pages(sessions, export.ids) for row in page)
    return write_csv(headings, rows) if file_format == "csv" else write_xlsx(headings, rows, title=TITLE)


def _read_pages(sessions: sessionmaker[Session], ids: BinaryIO) -> Iterator[list[MetaDataSetRow]]:
    with ids:
        ids.seek(0)
        while some := ids.read(PAGE_SIZE * array(ID).itemsize):
            with sessions() as db:
                rows = search.read_rows(db, array(ID, some))
            yield rows


def _make_row(row: MetaDataSetRow, columns: Sequence[Field]) -> list[str]:
    answers: dict[int, dict[str, Any]] = {
        execution["service"]: execution["record"] for execution in row.executions or ()
    }
    cells = [
        row.site_id,
        row.submission_site_id,
        as_utc(row.submitted_at).isoformat(timespec="seconds"),
        row.group_name,
        row.user_name,
    ]
    for field in columns:
        stored = row.record if field.service_id is None else answers.get(field.service_id, {})
        cells.append(records.show_value(field, stored.get(field.key)) or "")
    return cells
