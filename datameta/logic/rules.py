"""The rules between fields, kept as one list that is replaced as a whole.

A rule binds fields that are staged, by their row ids: a field that is renamed stays bound. Who changes the
list holds all definitions, so that a submission is judged by the former list or by the new one.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from datameta.authz import Actor, may_administer_site
from datameta.errors import ForbiddenError, Problem, ValidationError
from datameta.identifiers import parse_uuid
from datameta.logic import audit
from datameta.logic.affected import count_affected
from datameta.logic.conditions import are_comparable
from datameta.logic.fields import Condition, Field, Kind, Operator, Rule, Rulebook
from datameta.logic.rulebook import list_fields, load_rulebook, load_rules
from datameta.models import MetaDatum, RecordRule, RuleCondition


@dataclass(frozen=True)
class SentCondition:
    """A condition as it was sent; fields are named by id or by name."""

    field: str
    operator: Operator
    words: tuple[str, ...]
    other: str | None


@dataclass(frozen=True)
class SentRule:
    """A rule as it was sent."""

    message: str
    when: tuple[SentCondition, ...]
    then: tuple[SentCondition, ...]


def replace_rules(db: Session, actor: Actor, sent: Sequence[SentRule]) -> tuple[Rulebook, int]:
    """Make these the rules of the site; return the rulebook and how many staged sets break a rule.

    Raises ``ForbiddenError``, ``ValidationError`` naming the place of each fault.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    former = load_rulebook(db, lock="update")
    read = list(read_rules(db, former, sent))
    if problems := [problem for _, found in read for problem in found]:
        raise ValidationError(problems)
    rules = tuple(rule for rule, _ in read)
    book = Rulebook(former.fields, rules)
    if rules != former.rules:
        _store(db, rules)
        was, now = ({"rules": [_describe(rule, book.by_id) for rule in each.rules]} for each in (former, book))
        audit.record_event(db, "recordrules.changed", actor=actor, before=was, after=now)
    return book, count_affected(db, book)


def read_rules(db: Session, book: Rulebook, sent: Iterable[SentRule]) -> Iterator[tuple[Rule, list[Problem]]]:
    """Yield each rule with what is wrong with it, named by its place."""
    ids = _list_ids(db)
    for number, rule in enumerate(sent):
        reader = _Reader(book, ids)
        yield reader.read_rule(rule, f"rules/{number}"), reader.problems


def refuse_broken_rules(db: Session, metadatum: MetaDatum, *, place: str) -> None:
    """See that the rules about a field still make sense after a change of it that has been flushed.

    Raises ``ValidationError``; ``place`` is what of the field to blame if it can't be compared any more.
    """
    book = Rulebook(tuple(list_fields(db)), tuple(load_rules(db)))
    if problems := list(check_bonds(book, metadatum.id, place=place)):
        raise ValidationError(problems)


def check_bonds(book: Rulebook, field_id: int, *, place: str) -> Iterator[Problem]:
    """Yield why the rules about a field make no sense with it as it is in ``book``."""
    rules = [rule for rule in book.rules if field_id in rule.field_ids]
    if rules and book.by_id[field_id].service_id is not None:
        message = "A rule between fields needs this field, so no service can take it over. Change the rules first."
        yield Problem(message, "bound_by_rule", field="serviceId")
    elif any(_lacks_order(condition, book.by_id) for rule in rules for condition in (*rule.when, *rule.then)):
        message = "A rule compares this field with another, which would no longer be possible. Change the rules first."
        yield Problem(message, "bound_by_rule", field=place)


def _list_ids(db: Session) -> dict[str, int]:
    """Return the row ids of all fields by name and, above all, by UUID."""
    rows = db.execute(select(MetaDatum.id, MetaDatum.uuid, MetaDatum.name)).all()
    return {row.name: row.id for row in rows} | {str(row.uuid): row.id for row in rows}


def _lacks_order(condition: Condition, by_id: Mapping[int, Field]) -> bool:
    return (
        condition.operator.needs_order
        and condition.other_id is not None
        and not are_comparable(by_id[condition.field_id], by_id[condition.other_id])
    )


class _Reader:
    """Makes a rule of what was sent, and collects what is wrong with it."""

    def __init__(self, book: Rulebook, ids: Mapping[str, int]) -> None:
        self.book = book
        self.ids = ids
        self.problems: list[Problem] = []

    def read_rule(self, rule: SentRule, place: str) -> Rule:
        when, then = (
            tuple(self.read_condition(condition, f"{place}/{part}/{number}") for number, condition in enumerate(sent))
            for part, sent in (("when", rule.when), ("then", rule.then))
        )
        if not rule.message.strip():
            self.problems.append(Problem("A rule needs a message.", "mandatory_missing", field=f"{place}/message"))
        if not rule.then:
            self.problems.append(
                Problem("A rule needs something that must hold.", "invalid_rule", field=f"{place}/then")
            )
        return Rule(rule.message, then, when)

    def read_condition(self, sent: SentCondition, place: str) -> Condition:
        field = self.find_field(sent.field, f"{place}/field")
        other = None if sent.other is None else self.find_field(sent.other, f"{place}/otherField")
        condition = Condition(
            0 if field is None else field.id, sent.operator, sent.words, None if other is None else other.id
        )
        if field is not None and (other is not None) == (sent.other is not None):
            self.problems.extend(self.check_condition(condition, field, place))
        return condition

    def check_condition(self, condition: Condition, field: Field, place: str) -> Iterator[Problem]:
        operator = condition.operator
        if operator.needs_words != bool(condition.words):
            message = f"With “{operator}” there are no values."
            if operator.needs_words:
                message = f"With “{operator}” there has to be a value at least."
            yield Problem(message, "invalid_rule", field=f"{place}/values")
        if operator.needs_other != (condition.other_id is not None):
            message = f"With “{operator}” there is no other field."
            if operator.needs_other:
                message = f"With “{operator}” there has to be another field."
            yield Problem(message, "invalid_rule", field=f"{place}/otherField")
        elif condition.other_id == condition.field_id:
            message = "A field is compared with another one, not with itself."
            yield Problem(message, "invalid_rule", field=f"{place}/otherField")
        elif _lacks_order(condition, self.book.by_id):
            message = "Only two dates (both with or both without a time zone) or two numbers of one unit have an order."
            yield Problem(message, "invalid_rule", field=f"{place}/otherField")
        if field.kind == Kind.VOCABULARY:
            for word in condition.words:
                if word not in field.vocabulary.words and not field.is_missing_term(word):
                    message = f"The field {field.name} does not allow the word “{word}”."
                    yield Problem(message, "invalid_rule", field=f"{place}/values")

    def find_field(self, text: str, place: str) -> Field | None:
        uuid = parse_uuid(text)
        number = self.ids.get(text if uuid is None else str(uuid), self.ids.get(text))
        if number is None:
            message = "There is no field with this id or name."
            self.problems.append(Problem(message, "unknown_field", field=place))
            return None
        field = self.book.by_id[number]
        if field.service_id is not None:
            message = "A service fills this field; rules bind fields that people fill."
            self.problems.append(Problem(message, "service_field", field=place))
            return None
        return field


def _store(db: Session, rules: Iterable[Rule]) -> None:
    db.execute(delete(RecordRule))
    for position, rule in enumerate(rules):
        row = {"position": position, "message": rule.message}
        rule_id = db.execute(insert(RecordRule).values(row).returning(RecordRule.id)).scalar_one()
        parts = [(False, condition) for condition in rule.when] + [(True, condition) for condition in rule.then]
        rows = [
            {
                "rule_id": rule_id,
                "position": number,
                "is_demand": is_demand,
                "metadatum_id": condition.field_id,
                "operator": str(condition.operator),
                "words": list(condition.words),
                "other_id": condition.other_id,
            }
            for number, (is_demand, condition) in enumerate(parts)
        ]
        db.execute(insert(RuleCondition), rows)


def _describe(rule: Rule, by_id: Mapping[int, Field]) -> str:
    """Return what the audit says of a rule."""

    def write(condition: Condition) -> str:
        others = [by_id[number].name for number in condition.field_ids[1:]]
        return " ".join([by_id[condition.field_id].name, condition.operator, ", ".join([*condition.words, *others])])

    when, then = (" and ".join(map(write, conditions)).strip() for conditions in (rule.when, rule.then))
    return f"{f'if {when} then ' if when else ''}{then}: {rule.message}"
