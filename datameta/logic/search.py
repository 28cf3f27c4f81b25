"""Searching what was submitted: by what a record says, by who submitted it and when, and by what services have done.

The rule this module guards: what somebody may not see, they neither find, nor learn of by a count or an order. A
condition looks at values as people see them.

What a condition says of single sets (``exact``) decides; what it says of blocks of sets (``logic/blocks.py``) only
keeps the database from looking at all the others. A page is read block by block in the order that was asked for, until
it is full, where that is the order of submissions; else all that is found is sorted. How many sets are found is counted
up to a limit alone.

A page begins behind the values by which the row before it is sorted. Of a field's value these are its first
characters: a cursor has to fit into an address.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Numeric,
    Select,
    SQLColumnExpression,
    Text,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    text,
    true,
    tuple_,
)
from sqlalchemy.orm import Session

from datameta.authz import Actor, may_view_service, visible_submitted
from datameta.errors import Problem, ValidationError
from datameta.identifiers import any_of, matches_id, matches_ids
from datameta.logic import blocks
from datameta.logic.blocks import DATE_PARTS, MONTHS
from datameta.logic.fields import Field, Kind
from datameta.logic.metadatasets import PAGE_SIZE, MetaDataSetRow, find_queried_service, select_metadatasets
from datameta.logic.records import store_value
from datameta.logic.rulebook import list_fields
from datameta.models import Group, MetaDataSet, SearchBlock, ServiceExecution, Submission, User
from datameta.paging import make_cursor, parse_cursor

Value: TypeAlias = SQLColumnExpression[Any]

SORTED_LENGTH = 100
"""By so many characters values are sorted."""
STORED_DATE = r"^[0-9]{4}-(0[1-9]|1[0-2])-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{6})?$"
NUMBER = r"^[+-]?([0-9]{1,40}([.][0-9]{0,40})?|[.][0-9]{1,40})([eE][+-]?[0-9]{1,2})?$"
"""The numbers that are sorted as such; what is longer, is sorted as a text."""
MOST_COUNTED = 10_000
"""So many sets are counted, where only their submissions are looked at."""
MOST_COMPARED = 1000
"""So many are counted, where their values are, too."""
MOST_BLOCKS = 1000
"""In so many blocks; in more, no order is looked for but that of submissions."""


@dataclass(frozen=True)
class Filters:
    """What to look for; every condition that is given must hold."""

    text: str | None = None
    where: Sequence[str] = ()
    submitted_after: datetime | None = None
    submitted_before: datetime | None = None
    group_id: str | None = None
    user_id: str | None = None
    submission_id: str | None = None
    service_id: str | None = None
    service_state: str | None = None
    metadataset_ids: Sequence[str] | None = None


@dataclass(frozen=True)
class Condition:
    """What must hold for a set, and what then holds for its block; None: nothing that is known."""

    exact: ColumnElement[bool]
    block: ColumnElement[bool] | None = None


@dataclass(frozen=True)
class Order:
    """The values by which rows are sorted, none of them null, with their kinds; their row ids come last.

    All sets of a submission have the same where ``is_of_submission``; the values are those of groups where
    ``is_of_group``.
    """

    keys: tuple[tuple[Value, type], ...]
    is_descending: bool
    is_of_submission: bool = False
    is_of_group: bool = False


@dataclass(frozen=True)
class Search:
    """A search that was found to be right: all fields there are, the conditions and the order.

    ``submissions`` are the conditions on submissions, ``values`` those on single sets. Blocks are not used where the
    sets to look at are few.
    """

    fields: Sequence[Field]
    submissions: Sequence[ColumnElement[bool]]
    values: Sequence[Condition]
    order: Order
    uses_blocks: bool

    @property
    def blocks(self) -> list[ColumnElement[bool]]:
        """The conditions on blocks."""
        return [one.block for one in self.values if one.block is not None] if self.uses_blocks else []


@dataclass(frozen=True)
class Count:
    """How many sets a search finds at least, and whether there may be more."""

    number: int
    is_exceeded: bool


def prepare_search(db: Session, actor: Actor, filters: Filters, *, sort: str) -> Search:
    """Return the search for what the actor may see.

    Raises ``ValidationError`` with every condition that is none, and for fields and services that are not the actor's.
    """
    fields = list_fields(db)
    problems: list[Problem] = []
    compared = list(_read_conditions(actor, fields, filters.where, problems))
    services = list(_match_service(db, actor, filters, problems))
    order = _read_order(actor, fields, sort, problems)
    if problems or order is None:
        raise ValidationError(problems)
    texts = {filters.text or "", *(text for field, written in compared for text in _list_texts(field, written))}
    lower = blocks.lower_texts(db, texts)
    values = [*(_compare(field, written, lower) for field, written in compared), *services]
    if filters.text is not None:
        visible = [field for field in fields if may_view_field(actor, field)]
        values.append(_match_text(visible, filters.text, lower[filters.text]))
    if filters.metadataset_ids is not None:
        values.append(Condition(matches_ids(MetaDataSet, filters.metadataset_ids)))
    submissions = [visible_submitted(actor), *_match_submission(filters)]
    search = Search(fields, submissions, values, order, uses_blocks=filters.metadataset_ids is None)
    if search.blocks:
        # Pieces lie beside their rows: to look through them all costs much more than the database takes it to.
        db.execute(text("SET LOCAL enable_seqscan = off"))
    return search


def count_rows(db: Session, search: Search) -> Count:
    """Return how many sets the search finds."""
    most = MOST_COMPARED if search.values else MOST_COUNTED
    found = _select_found(search, is_counted=True).limit(most + 1).subquery()
    number = db.scalars(select(func.count()).select_from(found)).one()
    if number > most or not search.blocks:
        return Count(min(number, most), number > most)
    return Count(number, _has_many_blocks(db, search))


def read_page(
    db: Session, search: Search, *, limit: int, cursor: str | None = None
) -> tuple[list[MetaDataSetRow], str | None]:
    """Return up to ``limit`` of the sets that are found, with submission, group and user, and the next cursor.

    Raises ``ValidationError`` for an unknown cursor.
    """
    if search.blocks and not search.order.is_of_submission and _has_many_blocks(db, search):
        # All of them would be looked at before the first is known; in the order of an index, the page is full soon.
        search = replace(search, uses_blocks=False)
    kinds = [kind for _, kind in search.order.keys]
    behind = None if cursor is None else parse_cursor(cursor, *kinds, int)
    found = db.execute(_select_found(search, behind=behind).limit(limit + 1)).all()
    rows = read_rows(db, [row.id for row in found[:limit]])
    if len(found) <= limit:
        return rows, None
    number, *values = found[limit - 1]
    return rows, make_cursor(*values, number)


def read_rows(db: Session, ids: Sequence[int]) -> list[MetaDataSetRow]:
    """Return the submitted sets with these row ids in their order, with submission, group and user."""
    if not ids:
        return []
    query = (
        select_metadatasets()
        .join(Group, Group.id == Submission.group_id)
        .add_columns(
            Submission.label.label("label"),
            User.name.label("user_name"),
            Group.uuid.label("group_uuid"),
            Group.site_id.label("group_site_id"),
            Group.name.label("group_name"),
        )
        .where(MetaDataSet.id == any_of(ids))
    )
    rows = {row.id: row for row in db.execute(query)}
    return [rows[number] for number in ids]


def list_ids(db: Session, search: Search) -> Iterator[Sequence[int]]:
    """Yield the row ids of all sets that are found, in their order, some at a time."""
    yield from db.scalars(_select_found(search).execution_options(yield_per=PAGE_SIZE)).partitions()


def may_view_field(actor: Actor, field: Field) -> bool:
    """Say whether the actor sees values of this field."""
    return field.service_id is None or may_view_service(actor, field.service_id)


def find_visible_field(
    actor: Actor, fields: Iterable[Field], name: str, *, parameter: str, problems: list[Problem]
) -> Field | None:
    """Return the field of this name; where there is none, or its values are not for the actor, add a problem."""
    field = next((field for field in fields if field.name == name), None)
    if field is None:
        problems.append(Problem(f"There is no field named {name}.", "unknown_field", field=parameter))
    elif not may_view_field(actor, field):
        message = f"Only users of its service, and users with site read, see what {name} holds."
        problems.append(Problem(message, "not_a_service_user", field=parameter))
        return None
    return field


def _select_found(
    search: Search, *, behind: tuple[Any, ...] | None = None, is_counted: bool = False
) -> Select[*tuple[Any, ...]]:
    """Return the query for the row ids of what is found and the values of the order, maybe from behind a place.

    Where it is only to be counted, it is in no order, and in the first blocks alone.
    """
    order = search.order
    keys = _label_keys(order)
    query = _join(
        select(MetaDataSet.id, *keys)
        .select_from(MetaDataSet)
        .join(Submission, Submission.id == MetaDataSet.submission_id)
    )
    query = query.where(*search.submissions, *(one.exact for one in search.values))
    columns: list[Any] = [*(key for key, _ in order.keys), MetaDataSet.id]
    if search.blocks or (order.is_of_group and not is_counted):
        blocks_or_all = _list_blocks if search.blocks else _list_submissions
        list_some = blocks_or_all(search, behind, is_sorted=not is_counted)
        listed = (list_some.limit(MOST_BLOCKS) if is_counted else list_some.offset(0)).subquery("listed")
        is_listed = [MetaDataSet.submission_id == listed.c.submission_id]
        if search.blocks:
            is_listed.append(MetaDataSet.id.between(listed.c.first_id, listed.c.last_id))
        # OFFSET 0 keeps the database from looking at the sets in another way than one of the list after the other.
        found = query.where(*is_listed).correlate(listed).offset(0).lateral("found")
        places = (listed if order.is_of_submission else found).c
        columns = [*(places[key.name] for key in keys), found.c.id]
        query = select(found.c.id, *columns[:-1]).select_from(listed).join(found, true())
    if behind is not None:
        # The first value alone, since an index has it.
        query = query.where(_goes_on(order, columns[:1], behind[:1]), _lies_behind(order, columns, behind))
    if is_counted:
        return query
    return query.order_by(*(_turn(order, column) for column in columns))


def _has_many_blocks(db: Session, search: Search) -> bool:
    listed = _list_blocks(search, is_sorted=False).limit(MOST_BLOCKS + 1).subquery()
    return db.scalars(select(func.count()).select_from(listed)).one() > MOST_BLOCKS


def _list_blocks(search: Search, behind: tuple[Any, ...] | None = None, *, is_sorted: bool) -> Select[*tuple[Any, ...]]:
    """Return the query for the blocks that may hold what is found, in the order of submissions if one is asked for."""
    query = (
        select(SearchBlock.submission_id, SearchBlock.first_id, SearchBlock.last_id)
        .select_from(SearchBlock)
        .join(Submission, Submission.id == SearchBlock.submission_id)
        .where(*search.blocks)
    )
    return _list(search, query, behind, is_sorted)


def _list_submissions(
    search: Search, behind: tuple[Any, ...] | None = None, *, is_sorted: bool
) -> Select[*tuple[Any, ...]]:
    """Return the query for the submissions that may hold what is found, in the order that is asked for."""
    query = select(Submission.id.label("submission_id")).select_from(Submission)
    return _list(search, query, behind, is_sorted)


def _list(
    search: Search, query: Select[*tuple[Any, ...]], behind: tuple[Any, ...] | None, is_sorted: bool
) -> Select[*tuple[Any, ...]]:
    order = search.order
    query = _join(query).where(*search.submissions)
    if not order.is_of_submission:
        return query
    query = query.add_columns(*_label_keys(order))
    if behind is not None:
        query = query.where(_goes_on(order, [key for key, _ in order.keys[:1]], behind[:1]))
    return query.order_by(*(_turn(order, key) for key, _ in order.keys)) if is_sorted else query


def _label_keys(order: Order) -> list[Any]:
    return [key.label(f"key{number}") for number, (key, _) in enumerate(order.keys)]


def _join(query: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    return query.join(Group, Group.id == Submission.group_id).join(User, User.id == Submission.user_id)


def _turn(order: Order, column: Any) -> Any:
    return column.desc() if order.is_descending else column


def _goes_on(order: Order, columns: Sequence[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition that a row is not before these values in an order."""
    place = tuple_(*columns)
    return place <= values if order.is_descending else place >= values


def _lies_behind(order: Order, columns: Sequence[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    place = tuple_(*columns)
    return place < values if order.is_descending else place > values


def _match_submission(filters: Filters) -> Iterator[ColumnElement[bool]]:
    if filters.submitted_after is not None:
        yield Submission.submitted_at > filters.submitted_after
    if filters.submitted_before is not None:
        yield Submission.submitted_at < filters.submitted_before
    for model, given in ((Group, filters.group_id), (User, filters.user_id), (Submission, filters.submission_id)):
        if given is not None:
            yield matches_id(model, given)


def _read_conditions(
    actor: Actor, fields: Sequence[Field], where: Iterable[str], problems: list[Problem]
) -> Iterator[tuple[Field, str]]:
    """Yield the conditions on single fields: ``name=text`` (the value contains it) and ``name==text`` (it is that).

    Each is a field and what stands behind the first sign.
    """
    names = {field.name for field in fields}
    for written in where:
        # A name may have the sign itself: it ends where it is that of a field.
        ends = [match.start() for match in re.finditer("=", written)]
        if not ends:
            message = "Write a condition as the name of a field, = or ==, and a text."
            problems.append(Problem(message, "invalid_condition", field="where"))
            continue
        end = next((end for end in ends if written[:end] in names), ends[0])
        field = find_visible_field(actor, fields, written[:end], parameter="where", problems=problems)
        if field is not None:
            yield field, written[end + 1 :]


def _list_texts(field: Field, written: str) -> set[str]:
    """Return the texts that a condition on a field is about."""
    if not written.startswith("="):
        return {written}
    # A date is stored in another form than it is written in, and text that is none as it is.
    return {written[1:], store_value(field, written[1:])}


def _compare(field: Field, written: str, lower: Mapping[str, str]) -> Condition:
    texts = _list_texts(field, written)
    filled = func.nullif(_value_of(field), "")
    if not written:
        return Condition(filled.is_not(None), _narrow(field, [frozenset([f"{field.key}="])]))
    if written == "=":
        # Nobody has noted for which blocks a service has given all values.
        is_open = None if field.service_id is not None else ~SearchBlock.filled.contains([field.id])
        return Condition(filled.is_(None), is_open)
    if written.startswith("="):
        possible = [blocks.split_value(field.key, text, lower[text]) for text in texts]
        return Condition(_value_of(field).in_(texts), _narrow(field, possible))
    possible = [blocks.split_text(lower[written]), *_split_date(field, lower[written])]
    return Condition(_contains(_show(field), written), _narrow(field, possible))


def _narrow(field: Field, possible: Iterable[blocks.Pieces]) -> ColumnElement[bool]:
    if field.service_id is None:
        return blocks.may_hold_own(possible)
    return SearchBlock.id.in_(blocks.may_hold_answer([field.service_id], possible))


def _split_date(field: Field, lower: str) -> set[blocks.Pieces]:
    parts = split_format(field.date_time_fmt)
    return blocks.split_date(lower, parts) if parts else set()


def _match_service(db: Session, actor: Actor, filters: Filters, problems: list[Problem]) -> Iterator[Condition]:
    given = {"serviceId": filters.service_id, "serviceState": filters.service_state}
    missing = [name for name, value in given.items() if value is None]
    if filters.service_id is None or filters.service_state is None:
        if len(missing) == 1:
            message = "The parameters serviceId and serviceState go together."
            problems.append(Problem(message, "missing", field=missing[0]))
        return
    try:
        service_id = find_queried_service(db, actor, filters.service_id, parameter="serviceId")
    except ValidationError as error:
        problems.extend(error.problems)
        return
    is_done = exists().where(
        ServiceExecution.metadataset_id == MetaDataSet.id, ServiceExecution.service_id == service_id
    )
    if filters.service_state == "done":
        yield Condition(is_done, blocks.has_answer(service_id))
    else:
        yield Condition(~is_done, blocks.may_await(service_id))


def _match_text(fields: Sequence[Field], text: str, lower: str) -> Condition:
    """Return the condition that a value, or an id or label that people know the set by, contains the text."""
    dates = [field for field in fields if split_format(field.date_time_fmt)]
    plain = [field for field in fields if field not in dates]
    own = [field.key for field in plain if field.service_id is None]
    # How the text stands in any JSON: what the record as a whole does not contain, none of its values does.
    escaped = json.dumps(text, ensure_ascii=False)[1:-1]
    conditions = [
        *(_contains(column, text) for column in (MetaDataSet.site_id, Submission.site_id, Submission.label)),
        and_(_contains(cast(MetaDataSet.record, Text), escaped), _has_value(MetaDataSet.record, own, text)),
        *(_contains(_show(field), text) for field in dates),
    ]
    for service_id in {field.service_id for field in plain if field.service_id is not None}:
        keys = [field.key for field in plain if field.service_id == service_id]
        answer = exists().where(
            ServiceExecution.metadataset_id == MetaDataSet.id,
            ServiceExecution.service_id == service_id,
            _has_value(ServiceExecution.record, keys, text),
        )
        conditions.append(answer)
    if not text:
        return Condition(or_(*conditions))
    possible = [blocks.split_text(lower), *(pieces for field in dates for pieces in _split_date(field, lower))]
    narrowed = blocks.may_hold_own(possible)
    services = {field.service_id for field in fields if field.service_id is not None}
    if services:
        narrowed = SearchBlock.id.in_(blocks.may_hold_any(services, possible))
    return Condition(or_(*conditions), narrowed)


def _has_value(record: Any, keys: Sequence[str], text: str) -> ColumnElement[bool]:
    """Return the condition that one of these values of a record contains the text."""
    if not keys:
        return false()
    values = func.jsonb_each_text(record).table_valued("key", "value")
    return exists().where(values.c.key == any_of(keys), _contains(values.c.value, text))


def _contains(value: Value, text: str) -> ColumnElement[bool]:
    return value.icontains(text, autoescape=True)


def _value_of(field: Field) -> Value:
    """Return the stored value of a field; null if there is none."""
    if field.service_id is None:
        value: Value = MetaDataSet.record[field.key].astext
        return value
    return (
        select(ServiceExecution.record[field.key].astext)
        .where(ServiceExecution.metadataset_id == MetaDataSet.id, ServiceExecution.service_id == field.service_id)
        .scalar_subquery()
    )


def _show(field: Field) -> Value:
    """Return the value of a field as people see it, but for the rarest date formats."""
    stored, parts = _value_of(field), split_format(field.date_time_fmt)
    if not parts:
        return stored
    shown = [_show_part(stored, part) for part in parts]
    return case((stored.regexp_match(STORED_DATE), func.concat(*shown)), else_=stored)


def split_format(date_format: str) -> list[str]:
    """Return the parts of a date format, or none if it has parts that are not made here."""
    parts = re.findall("%.|[^%]+", date_format)
    is_known = all(part[0] != "%" or part[1] in DATE_PARTS or part[1] in "bB%" for part in parts)
    return parts if is_known else []


def _show_part(stored: Value, part: str) -> Value:
    if part[0] != "%" or part == "%%":
        return literal(part.removeprefix("%") if part == "%%" else part)
    if part[1] in DATE_PARTS:
        return func.substr(stored, *DATE_PARTS[part[1]])
    names = {f"{number:02}": name if part == "%B" else name[:3] for number, name in enumerate(MONTHS, 1)}
    return case(names, value=func.substr(stored, *DATE_PARTS["m"]))


def _read_order(actor: Actor, fields: Sequence[Field], sort: str, problems: list[Problem]) -> Order | None:
    name, is_descending = sort.removeprefix("-"), sort.startswith("-")
    common: dict[str, tuple[Value, type]] = {
        "submitted": (Submission.submitted_at, datetime),
        "id": (MetaDataSet.site_id, str),
        "group": (func.lower(Group.name), str),
    }
    if name in common:
        return Order((common[name],), is_descending, is_of_submission=name != "id", is_of_group=name == "group")
    if not name.startswith("field:"):
        message = "Sort by submitted, id, group or field: and a name, with - before it for the other way round."
        problems.append(Problem(message, "invalid_sort", field="sort"))
        return None
    field = find_visible_field(actor, fields, name.removeprefix("field:"), parameter="sort", problems=problems)
    return None if field is None else Order(_sort_by(field, is_descending=is_descending), is_descending)


def _sort_by(field: Field, *, is_descending: bool) -> tuple[tuple[Value, type], ...]:
    """Return the values by which a field sorts: numbers as such, then texts in any letter case, last what is empty."""
    value = func.nullif(_value_of(field), "")
    first, second, last = (2, 1, 0) if is_descending else (0, 1, 2)
    text = func.coalesce(func.lower(func.left(value, SORTED_LENGTH)), "")
    if field.kind is not Kind.NUMBER:
        return (case((value.is_(None), last), else_=first), int), (text, str)
    is_number = value.regexp_match(NUMBER)
    rank = case((value.is_(None), last), (is_number, first), else_=second)
    number = case((is_number, cast(value, Numeric)), else_=cast(literal(0), Numeric))
    return (rank, int), (number, Decimal), (case((is_number, ""), else_=text), str)
