"""What records are checked by, as plain values: vocabularies that know what was meant, and nothing lost as JSON."""

import json
from decimal import Decimal

import pytest

from datameta.api import load_spec
from datameta.logic.fields import (
    INSDC_MISSING_TERMS,
    MOST_COMPARED,
    Condition,
    Field,
    Kind,
    Operator,
    Rule,
    Rulebook,
    Term,
    Vocabulary,
    parse_number,
)

HOSTS = Vocabulary((Term("Homo sapiens", ("human", "Mensch")), Term("Mus musculus", ("mouse", "house mouse"))))
BOOK = Rulebook(
    (
        Field(1, "Host", kind=Kind.VOCABULARY, vocabulary=HOSTS, missing_terms=("not collected",)),
        Field(2, "Amount", kind=Kind.NUMBER, unit="ng", minimum="0.5", is_integer=True),
        Field(3, "Answer", service_id=7),
    ),
    (
        Rule(
            "Why.",
            (Condition(2, Operator.IS_FILLED), Condition(2, Operator.AT_MOST, other_id=1)),
            (Condition(1, Operator.IS, ("Homo sapiens",)),),
        ),
    ),
)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("human", "Homo sapiens"),
        ("  HOMO_sapiens ", "Homo sapiens"),
        ("Homo sapeins", "Homo sapiens"),
        ("house-mouse", "Mus musculus"),
        ("Rattus", None),
        ("", None),
        ("?", None),
    ],
)
def test_a_vocabulary_tells_which_word_was_meant(text: str, word: str | None) -> None:
    assert HOSTS.suggest(text) == word


def test_a_spelling_of_several_words_means_none_of_them() -> None:
    signs = Vocabulary((Term("IgG+", ("positive",)), Term("IgG-", ("negative", "positive")), Term("+"), Term("-")))
    assert [signs.suggest(text) for text in ("igg", "IgG +", "positive", "−", "negative")] == [
        None, None, None, None, "IgG-",
    ]  # fmt: skip


def test_in_a_long_vocabulary_only_spellings_and_synonyms_are_found() -> None:
    words = Vocabulary(tuple(Term(f"word {number}", (f"w{number}",)) for number in range(MOST_COMPARED)))
    assert words.suggest("W7") == words.suggest("Word 7") == "word 7"
    assert words.suggest("wrod 7") is None


def test_a_rulebook_is_the_same_after_json() -> None:
    assert Rulebook.from_json(json.loads(json.dumps(BOOK.to_json()))) == BOOK
    assert Rulebook.from_json(Rulebook().to_json()) == Rulebook()


def test_a_rulebook_finds_fields() -> None:
    assert [field.name for field in BOOK.fields_of(None)] == ["Host", "Amount"]
    assert [field.name for field in BOOK.fields_of(7)] == ["Answer"]
    assert BOOK.by_id[2] is BOOK.by_name["Amount"]
    assert BOOK.by_id[2].bounds == (Decimal("0.5"), None)
    assert BOOK.rules[0].field_ids == {1, 2}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5", "5"), ("-0.50", "-0.5"), ("+1e3", "1000"), (".5", "0.5"),
        ("0,5", None), (" 5", None), ("5 ng", None), ("1_000", None), ("NaN", None), ("Infinity", None), ("٣", None),
        ("", None), ("1e9999999999999999999", None),
    ],
)  # fmt: skip
def test_a_number_is_written_with_a_point(text: str, number: str | None) -> None:
    assert parse_number(text) == (None if number is None else Decimal(number))


def test_operators_say_what_they_compare_with() -> None:
    assert {operator for operator in Operator if operator.needs_words} == {"is", "is_not"}
    assert {operator for operator in Operator if operator.needs_other} == {
        "at_most", "at_least", "less_than", "more_than", "same_as", "other_than",
    }  # fmt: skip
    assert {operator for operator in Operator if operator.needs_order} == {
        "at_most", "at_least", "less_than", "more_than",
    }  # fmt: skip


def test_the_specification_offers_what_there_is() -> None:
    schemas = load_spec()["components"]["schemas"]
    assert schemas["MissingTerms"]["items"]["enum"] == list(INSDC_MISSING_TERMS)
    assert schemas["Kind"]["enum"] == list(Kind)
    assert schemas["Condition"]["properties"]["operator"]["enum"] == list(Operator)
