"""Blocks: an index of submitted sets that narrows a search, however many there are, to those that may be found.

The rule this module guards: a set that a search finds is in a block that its conditions let through. A block may be let
through and hold nothing that is found; whoever searches looks at each set of it.

A block knows the pieces of one, two and three characters of all that its sets hold, in lower case as the database
writes it, their ids and the submission's id and label. A text that is shorter is a piece itself; a longer one can only
be where all its pieces are. Values are taken as they are stored: part of a date as people see it is asked for by what
then stands in the stored one. Pieces do not tell of which field they are, but a short value is there with its field,
too, and so is that a field has a value.

Twenty sets of one submission have much in common, so that a block has few more pieces than a set, and is written in a
twentieth of the time.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import add
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, exists, func, insert, literal, or_, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session, aliased

from datameta.logic.records import StoredRecord
from datameta.models import MetaDataSet, SearchAnswer, SearchBlock, Submission

BLOCK_SIZE = 20
MOST_PIECES = 20_000
"""A block with more of them, such as of long random texts, may hold anything."""
ANYTHING = ""
"""The piece of a block that may hold anything."""
SHORT = 4
"""Values of so many characters are told together with their field."""
STORED = "____-__-__t__:__:__"
"""A stored date, of which nothing is known, in lower case."""
MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
DATE_PARTS = {"Y": (1, 4), "y": (3, 2), "m": (6, 2), "d": (9, 2), "H": (12, 2), "M": (15, 2), "S": (18, 2)}
"""Where a stored date has what a format writes: the first character, counted from 1, and how many."""

Pieces = frozenset[str]


def add_blocks(
    db: Session, submission: Submission, metadatasets: Iterable[Any], records: Mapping[int, StoredRecord]
) -> None:
    """Write the blocks of a submission; ``records`` are what its sets hold, by row id. Whoever submits calls this."""
    sets = sorted((metadataset.id, metadataset.site_id) for metadataset in metadatasets)
    names = [submission.site_id, submission.label or ""]
    values = {value for number, _ in sets for value in records[number].values()}
    lower = lower_texts(db, {*names, *(site_id for _, site_id in sets), *values})
    rows = [
        {"submission_id": submission.id, **make_block(some, names, records, lower)} for some in _cut(sets, BLOCK_SIZE)
    ]
    db.execute(insert(SearchBlock), rows)


def add_answer(db: Session, metadataset: MetaDataSet, *, service_id: int, record: StoredRecord) -> None:
    """Note what a service has answered for a submitted set; others who add to its block wait for the transaction."""
    lower = lower_texts(db, set(record.values()))
    answer = (SearchBlock.id, literal(service_id), literal(1), literal(list_pieces([record], [], lower), ARRAY(Text)))
    is_its = and_(
        SearchBlock.submission_id == metadataset.submission_id,
        SearchBlock.first_id <= metadataset.id,
        SearchBlock.last_id >= metadataset.id,
    )
    columns = ("block_id", "service_id", "answered", "pieces")
    union = text("ARRAY(SELECT unnest(search_answers.pieces) UNION SELECT unnest(excluded.pieces))")
    db.execute(
        upsert(SearchAnswer)
        .from_select(columns, select(*answer).where(is_its))
        .on_conflict_do_update(
            index_elements=["block_id", "service_id"], set_={"answered": SearchAnswer.answered + 1, "pieces": union}
        )
    )


def make_block(
    sets: Sequence[tuple[int, str]],
    names: Iterable[str],
    records: Mapping[int, StoredRecord],
    lower: Mapping[str, str],
) -> dict[str, Any]:
    """Return what a block says of these sets (row id, site id); ``names`` are those of its submission."""
    held = [records[number] for number, _ in sets]
    filled = set.intersection(*({int(key) for key, value in record.items() if value} for record in held))
    return {
        "first_id": sets[0][0],
        "last_id": sets[-1][0],
        "size": len(sets),
        "filled": sorted(filled),
        "pieces": list_pieces(held, [*names, *(site_id for _, site_id in sets)], lower),
    }


def list_pieces(records: Iterable[StoredRecord], names: Iterable[str], lower: Mapping[str, str]) -> list[str]:
    """Return the pieces of records and names; ``lower`` has each text in lower case."""
    values = {item for record in records for item in record.items()}
    pieces = {f"{key}=" for key, value in values if value}
    pieces |= {f"{key}={value}" for key, value in values if 0 < len(value) <= SHORT}
    for content in {lower[one] for one in (*names, *(value for _, value in values))}:
        pairs = list(map(add, content, content[1:]))
        pieces.update(content, pairs, map(add, pairs, content[2:]))
        if len(pieces) > MOST_PIECES:
            return [ANYTHING]
    return sorted(pieces)


def lower_texts(db: Session, texts: set[str]) -> dict[str, str]:
    """Return texts as the database writes them in lower case: a search compares what that makes of both."""
    if not texts:
        return {}
    given = func.unnest(literal(list(texts), ARRAY(Text))).column_valued("given")
    return {row[0]: row[1] for row in db.execute(select(given, func.lower(given)))}


def split_text(content: str) -> Pieces:
    """Return the pieces that are wherever a text in lower case is; of an empty one there are none."""
    if len(content) <= 3:
        return frozenset(filter(None, [content]))
    return frozenset(content[start : start + 3] for start in range(len(content) - 2))


def split_value(key: str, value: str, lower: str) -> Pieces:
    """Return the pieces that are wherever a field has exactly this value; ``lower`` is it in lower case."""
    return frozenset([f"{key}={value}"]) if len(value) <= SHORT else split_text(lower)


def split_date(content: str, parts: Sequence[str]) -> set[Pieces]:
    """Return which pieces are in stored dates that hold a text in lower case as people see them, each a possibility.

    ``parts`` are the parts of the field's date format.
    """
    has_name = any(part in ("%b", "%B") for part in parts)
    found = set()
    for month in range(1, 13) if has_name else (None,):
        slots = [slot for part in parts for slot in _spread_part(part, month)]
        for start in range(len(slots) - len(content) + 1):
            stored = _place(content, slots[start:], month)
            if stored is not None:
                found.add(frozenset().union(*(split_text(run) for run in stored.split("_"))))
    return found


def may_hold(column: Any, possibilities: Iterable[Pieces]) -> ColumnElement[bool]:
    """Return the condition that the pieces of a block let one of the possibilities through."""
    needed = sorted({tuple(sorted(pieces)) for pieces in possibilities})
    return or_(*(column.contains(list(pieces)) for pieces in needed), column.contains([ANYTHING]))


def may_hold_own(possibilities: Iterable[Pieces]) -> ColumnElement[bool]:
    """Return the condition on a block that what its sets themselves hold lets one of the possibilities through."""
    own = aliased(SearchBlock)
    # By itself, behind OFFSET 0: else the database would rather look through the pieces of all blocks in another order.
    return SearchBlock.id.in_(select(own.id).where(may_hold(own.pieces, possibilities)).offset(0))


def may_hold_answer(service_ids: Iterable[int], possibilities: Iterable[Pieces]) -> Any:
    """Return the query for the ids of the blocks where the answers of one of the services let a possibility through."""
    return select(SearchAnswer.block_id).where(
        SearchAnswer.service_id.in_(service_ids), may_hold(SearchAnswer.pieces, possibilities)
    )


def may_hold_any(service_ids: Iterable[int], possibilities: Iterable[Pieces]) -> Any:
    """Return the query for the ids of the blocks where sets or answers of the services let a possibility through."""
    own = aliased(SearchBlock)
    possibilities = list(possibilities)
    of_sets = select(own.id).where(may_hold(own.pieces, possibilities))
    return of_sets.union_all(may_hold_answer(service_ids, possibilities))


def may_await(service_id: int) -> ColumnElement[bool]:
    """Return the condition on a block that a service may not have answered for all of it."""
    return ~exists().where(
        SearchAnswer.block_id == SearchBlock.id,
        SearchAnswer.service_id == service_id,
        SearchAnswer.answered >= SearchBlock.size,
    )


def has_answer(service_id: int) -> ColumnElement[bool]:
    """Return the condition on a block that a service has answered for some of it."""
    return exists().where(SearchAnswer.block_id == SearchBlock.id, SearchAnswer.service_id == service_id)


def _cut(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while some := list(islice(iterator, size)):
        yield some


def _spread_part(part: str, month: int | None) -> list[str | int]:
    """Return for each character that a part of a date format writes itself, or where in a stored date it is from."""
    if part in ("%b", "%B") and month is not None:
        name = MONTHS[month - 1].lower()
        return list(name if part == "%B" else name[:3])
    if part[0] == "%" and part != "%%":
        first, length = DATE_PARTS[part[1]]
        return list(range(first - 1, first - 1 + length))
    return list("%" if part == "%%" else part)


def _place(content: str, slots: Sequence[str | int], month: int | None) -> str | None:
    """Return what is known of a stored date that shows a text at these places; None if there is no such date."""
    known = list(STORED)
    if month is not None:
        known[5:7] = f"{month:02}"
    for character, slot in zip(content, slots, strict=False):
        if isinstance(slot, str):
            # What is in lower case elsewhere may be written otherwise; such a character excludes nothing.
            if slot.isascii() and slot.lower() != character:
                return None
        elif not re.fullmatch("[0-9]", character) or known[slot] not in ("_", character):
            return None
        else:
            known[slot] = character
    return "".join(known)
