"""Many rows in one statement: they are sent as one JSON text, which the database takes apart.

So there is one parameter, however many rows. A statement for each row, or thousands of parameters, would take
longer than all the rest.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import orjson
from sqlalchemy import Text, bindparam, cast, column, func, literal, select
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.orm import Session

from datameta.database import Prepared
from datameta.models.base import Base


def make_rows(model: type[Base], rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return rows as a table expression; all have the same columns of ``model``, and there is one at least."""
    return _take_apart(model, rows[0], literal(_to_text(rows), Text))


def insert_rows(
    db: Session,
    model: type[Base],
    rows: Sequence[Mapping[str, Any]],
    *,
    common: Mapping[str, Any] | None = None,
    unless_taken: str | None = None,
    returning: Sequence[str] = (),
) -> Sequence[Any]:
    """Insert rows, each with the ``common`` values beside its own; return these columns of what was inserted.

    There is one row at least, and all have the same columns. A row whose value of the column ``unless_taken``
    exists is left out.
    """
    constants = common or {}
    statement = _prepare_insert(model, tuple(rows[0]), tuple(constants), unless_taken, tuple(returning))
    return statement.all(db.connection(), rows_sent=_to_text(rows), **constants)


@cache
def _prepare_insert(
    model: type[Base], names: tuple[str, ...], common: tuple[str, ...], unless_taken: str | None, returning: Any
) -> Prepared:
    columns = model.__table__.columns
    constants = [bindparam(name, type_=columns[name].type) for name in common]
    sent = _take_apart(model, names, bindparam("rows_sent", type_=Text()))
    # Defaults are the database's: one of ours would be made once, for all rows.
    statement = insert(model).from_select([*common, *names], select(*constants, *sent.columns), include_defaults=False)
    if unless_taken is not None:
        statement = statement.on_conflict_do_nothing(index_elements=[unless_taken])
    return Prepared(statement.returning(*(columns[name] for name in returning)) if returning else statement)


def _take_apart(model: type[Base], names: Iterable[str], sent: Any) -> Any:
    columns = [column(name, model.__table__.columns[name].type) for name in names]
    table = func.jsonb_to_recordset(cast(sent, JSONB)).table_valued(*columns, name="sent")
    return table.render_derived(with_types=True)


def _to_text(rows: Sequence[Mapping[str, Any]]) -> str:
    return orjson.dumps(rows, default=_to_json).decode()


def _to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    if isinstance(value, float):
        # A number that remembers how it was written.
        return float(value)
    raise TypeError(f"{type(value).__name__} is not sent as JSON")
