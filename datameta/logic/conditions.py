"""The rules between fields: what must hold of a record where something else does.

A rule judges values that are right in themselves; what is wrong already is not told twice. A missing
term is no value: it fills no field, and no rule asks more of its field.
"""

import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from datameta.errors import Problem
from datameta.logic.dates import parse_date
from datameta.logic.fields import Condition, Field, Kind, Operator, Rulebook, normalise_value, parse_number

Texts = Mapping[int, str | None]
"""Values as people see them, by field id."""

COMPARISONS = {
    Operator.AT_MOST: operator.le,
    Operator.AT_LEAST: operator.ge,
    Operator.LESS_THAN: operator.lt,
    Operator.MORE_THAN: operator.gt,
    Operator.SAME_AS: operator.eq,
    Operator.OTHER_THAN: operator.ne,
}


def check_rules(
    book: Rulebook, texts: Texts, *, faulty: Collection[int], entity: dict[str, str] | None = None
) -> list[Problem]:
    """Return which rules a record breaks; ``faulty`` are the fields whose values are wrong in themselves."""
    problems = []
    record = _Record(book, texts, faulty)
    for rule in book.rules:
        if not all(record.is_sound(condition) and record.holds(condition) for condition in rule.when):
            continue
        for condition in rule.then:
            if not record.is_sound(condition) or record.is_excused(condition) or record.holds(condition):
                continue
            name = book.by_id[condition.field_id].name
            if condition.operator == Operator.IS_FILLED:
                message = rule.message or "The other values of the record make this field mandatory."
                problems.append(Problem(message, "conditionally_mandatory", field=name, entity=entity))
            else:
                message = rule.message or "The value does not go with the other values of the record."
                problems.append(Problem(message, "rule_broken", field=name, entity=entity))
    return problems


def are_comparable(field: Field, other: Field) -> bool:
    """Say whether values of two fields have an order: both dates, with or both without a time zone, or both numbers."""
    if field.date_time_fmt and other.date_time_fmt:
        return ("%z" in field.date_time_fmt) == ("%z" in other.date_time_fmt)
    return field.kind == other.kind == Kind.NUMBER and field.unit == other.unit


@dataclass(frozen=True)
class _Record:
    """A record as its rules see it."""

    book: Rulebook
    texts: Texts
    faulty: Collection[int]

    def is_sound(self, condition: Condition) -> bool:
        """Say whether nothing is wrong in itself with what the condition is about."""
        return not any(number in self.faulty for number in condition.field_ids)

    def is_excused(self, condition: Condition) -> bool:
        """Say whether the condition, though it does not hold, need not."""
        is_missing = self.book.by_id[condition.field_id].is_missing_term(self.texts.get(condition.field_id) or "")
        return is_missing or (
            condition.operator.needs_other and any(self.get_value(number) is None for number in condition.field_ids)
        )

    def holds(self, condition: Condition) -> bool:
        """Say whether the condition holds; no comparison does with nothing."""
        field = self.book.by_id[condition.field_id]
        value = self.get_value(field.id)
        if condition.operator.needs_words:
            measured = measure_value(field, self.texts.get(field.id) or "")
            is_one = measured in [measure_value(field, word) for word in condition.words]
            return is_one == (condition.operator == Operator.IS)
        if condition.other_id is None:
            return (value is not None) == (condition.operator == Operator.IS_FILLED)
        other = self.book.by_id[condition.other_id]
        other_value = self.get_value(other.id)
        if value is None or other_value is None:
            return False
        compare = COMPARISONS[condition.operator]
        if are_comparable(field, other):
            return bool(compare(measure_value(field, value), measure_value(other, other_value)))
        return bool(compare(normalise_value(value), normalise_value(other_value)))

    def get_value(self, field_id: int) -> str | None:
        """Return the value of a field; None where there is none, or a term that says why."""
        text = self.texts.get(field_id)
        is_none = text is None or normalise_value(text) == "" or self.book.by_id[field_id].is_missing_term(text)
        return None if is_none else text


def measure_value(field: Field, text: str) -> datetime | Decimal | str:
    """Return a value as what it is by the definition of its field: a date, a number, else a text."""
    measured: datetime | Decimal | None = None
    if field.date_time_fmt:
        measured = parse_date(text, field.date_time_fmt)
    elif field.kind == Kind.NUMBER:
        measured = parse_number(text)
    return normalise_value(text) if measured is None else measured
