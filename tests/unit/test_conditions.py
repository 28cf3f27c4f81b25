"""Rules between fields: each operator, and what is no value, faulty, or a term for a missing one."""

from typing import Any

import pytest

from datameta.logic.conditions import are_comparable, check_rules
from datameta.logic.fields import Condition, Field, Kind, Operator, Rule, Rulebook

FIELDS = (
    Field(1, "Host", missing_terms=("not collected",)),
    Field(2, "Species", missing_terms=("not collected",)),
    Field(3, "Taken", date_time_fmt="%d.%m.%Y"),
    Field(4, "Received", date_time_fmt="%Y-%m-%d", missing_terms=("missing",)),
    Field(5, "Used", kind=Kind.NUMBER, unit="ng"),
    Field(6, "There", kind=Kind.NUMBER, unit="ng"),
    Field(7, "Sent", date_time_fmt="%Y-%m-%d %z"),
    Field(8, "Volume", kind=Kind.NUMBER, unit="µl"),
)
NUMBERS = {field.name: field.id for field in FIELDS}


def when(name: str, operator: str, *words: str, other: str | None = None) -> Condition:
    """Return a condition."""
    return Condition(NUMBERS[name], Operator(operator), words, None if other is None else NUMBERS[other])


def find_broken(
    *then: Condition, where: tuple[Condition, ...] = (), faulty: tuple[str, ...] = (), **values: str | None
) -> list[tuple[str | None, str]]:
    """Return field and code of each problem of a record with one rule."""
    book = Rulebook(FIELDS, (Rule("Why.", then, where),))
    texts: dict[int, str | None] = {NUMBERS[name]: value for name, value in values.items()}
    problems = check_rules(book, texts, faulty={NUMBERS[name] for name in faulty}, entity={"uuid": "u"})
    assert all((problem.message, problem.entity) == ("Why.", {"uuid": "u"}) for problem in problems)
    return [(problem.field, problem.code) for problem in problems]


@pytest.mark.parametrize(
    ("condition", "values", "holds"),
    [
        (when("Host", "is", "human", "mouse"), {"Host": "mouse "}, True),
        (when("Host", "is", "human"), {"Host": "Human"}, False),
        (when("Host", "is", "human"), {}, False),
        (when("Host", "is", "not collected"), {"Host": "not collected"}, True),
        (when("Host", "is_not", "human"), {"Host": "mouse"}, True),
        (when("Host", "is_not", "human"), {"Host": "human"}, False),
        (when("Host", "is_not", "human"), {"Host": None}, True),
        (when("Host", "is_filled"), {"Host": "x"}, True),
        (when("Host", "is_filled"), {"Host": " "}, False),
        (when("Host", "is_filled"), {"Host": "not collected"}, False),
        (when("Host", "is_empty"), {"Host": ""}, True),
        (when("Host", "is_empty"), {"Host": "not collected"}, True),
        (when("Host", "is_empty"), {"Host": "x"}, False),
        (when("Taken", "is", "01.02.2024"), {"Taken": "1.2.2024"}, True),
        (when("Used", "is", "5"), {"Used": "5.0"}, True),
        (when("Taken", "at_most", other="Received"), {"Taken": "02.01.2024", "Received": "2024-01-02"}, True),
        (when("Taken", "at_most", other="Received"), {"Taken": "03.01.2024", "Received": "2024-01-02"}, False),
        (when("Taken", "at_least", other="Received"), {"Taken": "02.01.2024", "Received": "2024-01-02"}, True),
        (when("Taken", "less_than", other="Received"), {"Taken": "02.01.2024", "Received": "2024-01-02"}, False),
        (when("Taken", "more_than", other="Received"), {"Taken": "03.01.2024", "Received": "2024-01-02"}, True),
        (when("Taken", "same_as", other="Received"), {"Taken": "02.01.2024", "Received": "2024-01-02"}, True),
        (when("Used", "at_most", other="There"), {"Used": "9", "There": "10"}, True),
        (when("Used", "other_than", other="There"), {"Used": "1.0", "There": "1"}, False),
        (when("Host", "same_as", other="Species"), {"Host": "a ", "Species": "a"}, True),
        (when("Host", "other_than", other="Species"), {"Host": "a", "Species": "A"}, True),
        (when("Taken", "same_as", other="Received"), {"Taken": "02.01.2024"}, False),
        (when("Taken", "at_most", other="Received"), {"Received": "2024-01-02"}, False),
        (when("Taken", "at_most", other="Received"), {"Taken": "02.01.2024", "Received": "missing"}, False),
    ],
)
def test_a_condition_says_where_a_rule_applies(condition: Condition, values: dict[str, Any], holds: bool) -> None:
    values.setdefault("Species", None)
    demanded = when("Sent", "is_filled")
    expected = [("Sent", "conditionally_mandatory")] if holds else []
    assert find_broken(demanded, where=(condition,), **values) == expected


def test_all_conditions_have_to_hold_and_each_demand_is_told() -> None:
    where = (when("Host", "is", "human"), when("Species", "is_empty"))
    demands = (when("Used", "is_filled"), when("Taken", "is_filled"), when("Host", "is_not", "human"))
    assert find_broken(*demands, where=where, Host="human", Taken="1.1.2024") == [
        ("Used", "conditionally_mandatory"),
        ("Host", "rule_broken"),
    ]
    assert find_broken(*demands, where=where, Host="human", Species="x") == []


def test_a_term_for_a_missing_value_fulfils_every_demand_on_its_field() -> None:
    for demand in (
        when("Host", "is_filled"),
        when("Host", "is", "human"),
        when("Host", "is_not", "not collected"),
        when("Host", "same_as", other="Species"),
    ):
        assert find_broken(demand, Host="not collected", Species="x") == []


def test_nothing_is_compared_with_nothing() -> None:
    demand = when("Taken", "at_most", other="Received")
    assert (
        find_broken(demand) == find_broken(demand, Taken="1.1.2024") == find_broken(demand, Received="2024-01-01") == []
    )
    assert find_broken(demand, Taken="2.1.2024", Received="2024-01-01") == [("Taken", "rule_broken")]
    assert find_broken(when("Host", "is", "human")) == [("Host", "rule_broken")]


def test_what_is_wrong_in_itself_is_not_judged_by_rules() -> None:
    demand = when("Taken", "at_most", other="Received")
    assert find_broken(demand, Taken="soon", Received="2024-01-01", faulty=("Taken",)) == []
    assert find_broken(demand, Taken="1.1.2024", Received="soon", faulty=("Received",)) == []
    where = (when("Host", "is_not", "human"),)
    assert find_broken(when("Species", "is_filled"), where=where, Host="?", faulty=("Host",)) == []


@pytest.mark.parametrize(
    ("name", "other", "is_comparable"),
    [
        ("Taken", "Received", True),
        ("Taken", "Sent", False),
        ("Used", "There", True),
        ("Used", "Volume", False),
        ("Host", "Species", False),
        ("Taken", "Used", False),
    ],
)
def test_dates_and_numbers_have_an_order(name: str, other: str, is_comparable: bool) -> None:
    fields = {field.name: field for field in FIELDS}
    assert are_comparable(fields[name], fields[other]) == is_comparable
