"""Many rows in one statement: they are sent as one JSON text, which the database takes apart.

So there is one parameter, however many rows. A statement for each row, or thousands of parameters, would take
longer than all the rest.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from sqlalchemy import Text, cast, column, func, literal, select
from sqlalchemy.dialects.postgresql import JSONB, Insert, insert

from datameta.models.base import Base


def make_rows(model: type[Base], rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return rows as a table expression; all have the same columns of ``model``, and there is one at least."""
    columns = [column(name, model.__table__.columns[name].type) for name in rows[0]]
    sent = cast(literal(orjson.dumps(rows, default=_to_json).decode(), Text), JSONB)
    return func.jsonb_to_recordset(sent).table_valued(*columns, name="sent").render_derived(with_types=True)


def make_insert(
    model: type[Base], rows: Sequence[Mapping[str, Any]], *, common: Mapping[str, Any] | None = None
) -> Insert:
    """Return the statement that inserts rows, each with the ``common`` values beside its own."""
    # Of the table: an entity's statements take the time to make entities.
    table: Any = model.__table__
    columns = table.columns
    constants = [literal(value, columns[name].type) for name, value in (common or {}).items()]
    values = select(*constants, *make_rows(model, rows).columns)
    # Defaults are the database's: one of ours would be made once, for all rows.
    return insert(table).from_select([*(common or {}), *rows[0]], values, include_defaults=False)


def _to_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    if isinstance(value, float):
        # A number that remembers how it was written.
        return float(value)
    raise TypeError(f"{type(value).__name__} is not sent as JSON")
