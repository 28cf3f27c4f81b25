"""The sets that a search finds, as a table: a row for each, a column for each field that is asked for.

The rule this module guards: the table says what the search says, to whom it says it, and takes the same memory whatever
its size. All that can be refused is refused before the first byte.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

from sqlalchemy.orm import Session, sessionmaker

from datameta.authz import Actor
from datameta.clock import as_utc
from datameta.errors import Problem, ValidationError
from datameta.logic import records, search
from datameta.logic.fields import Field
from datameta.logic.metadatasets import PAGE_SIZE, MetaDataSetRow
from datameta.logic.search import Filters, Search
from datameta.sheets.streamed import write_csv, write_xlsx

HEADINGS = ("Metadataset", "Submission", "Submitted", "Group", "User")
TITLE = "Metadatasets"


@dataclass(frozen=True)
class Export:
    """A search, the fields that are its columns, its first rows, and where the next begin."""

    search: Search
    columns: Sequence[Field]
    rows: Sequence[MetaDataSetRow]
    cursor: str | None


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
    return Export(prepared, chosen, *search.read_page(db, prepared, limit=PAGE_SIZE))


def write_export(
    sessions: sessionmaker[Session], export: Export, *, file_format: Literal["csv", "xlsx"]
) -> Iterator[bytes]:
    """Yield the table as a file, page after page, each read in a transaction of its own."""
    pages = chain([export.rows], search.stream_pages(sessions, export.search, cursor=export.cursor))
    headings = [*HEADINGS, *(field.name for field in export.columns)]
    rows = (_make_row(row, export.columns) for page in pages for row in page)
    return write_csv(headings, rows) if file_format == "csv" else write_xlsx(headings, rows, title=TITLE)


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
