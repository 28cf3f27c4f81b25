"""What a record is checked by: the site's fields and the rules between them, as plain values.

Nothing here knows the database, so that a process that has none, as the one that reads sample sheets,
checks by the very same code as the portal.
"""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from difflib import SequenceMatcher
from enum import StrEnum
from functools import cached_property
from typing import Any

MOST_COMPARED = 2000
"""Spellings among which the closest is looked for; in longer lists only synonyms and other spellings are found."""
MOST_MATCHED = 8
"""Of these, those that are matched letter by letter."""
CLOSENESS = 0.75

INSDC_MISSING_TERMS = (
    "not applicable",
    "missing",
    "not collected",
    "not provided",
    "restricted access",
    "missing: control sample",
    "missing: sample group",
    "missing: synthetic construct",
    "missing: lab stock",
    "missing: third party data",
    "missing: data agreement established pre-2023",
    "missing: endangered species",
    "missing: human-identifiable",
)
"""The terms for missing values of the sequence databases' collaboration, from which a field's are chosen.

Source: https://www.insdc.org/submitting-standards/missing-value-reporting/
"""


class Kind(StrEnum):
    """What the values of a field are, beside what its expression and its date format say."""

    TEXT = "text"
    VOCABULARY = "vocabulary"
    NUMBER = "number"


@dataclass(frozen=True)
class Term:
    """A word that a vocabulary allows, and others that mean the same and are not allowed."""

    term: str
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Vocabulary:
    """The values that a field may have."""

    terms: tuple[Term, ...] = ()

    @cached_property
    def words(self) -> frozenset[str]:
        """The words that are allowed, as they have to be written."""
        return frozenset(term.term for term in self.terms)

    def suggest(self, text: str) -> str | None:
        """Return the allowed word that ``text`` most likely means, or None."""
        key = fold(text)
        if key not in self._by_spelling and len(self._by_spelling) <= MOST_COMPARED:
            return self._find_closest(key)
        return self._by_spelling.get(key)

    def _find_closest(self, key: str) -> str | None:
        """Return the word that is closest among those that share most pairs of letters, if it is one and close."""
        shared = Counter(spelling for pair in _list_pairs(key) for spelling in self._by_pair.get(pair, ()))
        scores: dict[str | None, float] = {}
        for spelling, _ in shared.most_common(MOST_MATCHED):
            matcher = SequenceMatcher(None, spelling, key, autojunk=False)
            word = self._by_spelling[spelling]
            scores[word] = max(scores.get(word, 0), matcher.ratio())
        best = max(scores.values(), default=0)
        closest = [word for word, score in scores.items() if score == best]
        return closest[0] if best >= CLOSENESS and len(closest) == 1 else None

    @cached_property
    def _by_pair(self) -> dict[str, list[str]]:
        """The spellings by the pairs of letters that they have."""
        found: dict[str, list[str]] = {}
        for spelling in self._by_spelling:
            for pair in _list_pairs(spelling):
                found.setdefault(pair, []).append(spelling)
        return found

    @cached_property
    def _by_spelling(self) -> dict[str, str | None]:
        """The word by the form of its spellings; None where several words have the same."""
        found: dict[str, str | None] = {"": None}
        for spelling, term in self._list_spellings():
            key = fold(spelling)
            found[key] = term if found.get(key, term) == term else None
        return found

    def _list_spellings(self) -> Iterable[tuple[str, str]]:
        for term in self.terms:
            yield term.term, term.term
        for term in self.terms:
            yield from ((synonym, term.term) for synonym in term.synonyms)


@dataclass(frozen=True)
class Field:
    """A field as it is checked. Empty texts mean none; bounds are inclusive; ``id`` is the metadatum's row id."""

    id: int
    name: str
    regex_description: str = ""
    long_description: str = ""
    example: str = ""
    reg_exp: str = ""
    date_time_fmt: str = ""
    is_mandatory: bool = False
    is_file: bool = False
    is_submission_unique: bool = False
    is_site_unique: bool = False
    service_id: int | None = None
    kind: Kind = Kind.TEXT
    unit: str = ""
    minimum: str | None = None
    maximum: str | None = None
    is_integer: bool = False
    missing_terms: tuple[str, ...] = ()
    vocabulary: Vocabulary = Vocabulary()

    @cached_property
    def key(self) -> str:
        """The key of the field in a stored record."""
        return str(self.id)

    def is_missing_term(self, text: str) -> bool:
        """Say whether ``text`` tells why there is no value."""
        return text in self.missing_terms

    @cached_property
    def is_plain(self) -> bool:
        """Whether the field takes any text that is there."""
        return self.kind == Kind.TEXT and not self.reg_exp and not self.date_time_fmt

    @cached_property
    def bounds(self) -> tuple[Decimal | None, Decimal | None]:
        """The least and the greatest number."""
        return _bound(self.minimum), _bound(self.maximum)


class Operator(StrEnum):
    """How a condition compares a field with words, or with another field."""

    IS = "is"
    IS_NOT = "is_not"
    IS_FILLED = "is_filled"
    IS_EMPTY = "is_empty"
    AT_MOST = "at_most"
    AT_LEAST = "at_least"
    LESS_THAN = "less_than"
    MORE_THAN = "more_than"
    SAME_AS = "same_as"
    OTHER_THAN = "other_than"

    @property
    def needs_words(self) -> bool:
        """Whether the field is compared with words."""
        return self in (Operator.IS, Operator.IS_NOT)

    @property
    def needs_other(self) -> bool:
        """Whether the field is compared with another."""
        return not self.needs_words and self not in (Operator.IS_FILLED, Operator.IS_EMPTY)

    @property
    def needs_order(self) -> bool:
        """Whether the two fields need an order, as dates and numbers have."""
        return self.needs_other and self not in (Operator.SAME_AS, Operator.OTHER_THAN)


@dataclass(frozen=True)
class Condition:
    """Something about one field: ``words`` for ``is`` (any of them) and ``is_not`` (none of them), ``other`` the id
    of the field it is compared with for the last six; compared as dates or numbers where both are, else as text."""

    field_id: int
    operator: Operator
    words: tuple[str, ...] = ()
    other_id: int | None = None

    @property
    def field_ids(self) -> tuple[int, ...]:
        """The fields that it is about."""
        return (self.field_id,) if self.other_id is None else (self.field_id, self.other_id)


@dataclass(frozen=True)
class Rule:
    """Where all of ``when`` hold (always, if there are none), all of ``then`` must hold; ``message`` says why."""

    message: str
    then: tuple[Condition, ...]
    when: tuple[Condition, ...] = ()

    @cached_property
    def field_ids(self) -> frozenset[int]:
        """The fields that it is about."""
        return frozenset(number for condition in (*self.when, *self.then) for number in condition.field_ids)


@dataclass(frozen=True)
class Rulebook:
    """Everything that a record is checked by; fields by their order, those of services among them."""

    fields: tuple[Field, ...] = ()
    rules: tuple[Rule, ...] = ()

    @cached_property
    def by_id(self) -> dict[int, Field]:
        """The fields by their row ids."""
        return {field.id: field for field in self.fields}

    @cached_property
    def by_name(self) -> dict[str, Field]:
        """The fields by their names."""
        return {field.name: field for field in self.fields}

    def fields_of(self, service_id: int | None) -> list[Field]:
        """Return the fields that one service fills, or with None those that are staged."""
        return self._by_service.get(service_id, [])

    @cached_property
    def _by_service(self) -> dict[int | None, list[Field]]:
        found: dict[int | None, list[Field]] = defaultdict(list)
        for field in self.fields:
            found[field.service_id].append(field)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the rulebook as JSON can write it."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Rulebook":
        """Return the rulebook that ``to_json`` wrote."""
        return cls(
            tuple(_field_from_json(field) for field in value["fields"]),
            tuple(
                Rule(rule["message"], _conditions_from_json(rule["then"]), _conditions_from_json(rule["when"]))
                for rule in value["rules"]
            ),
        )


def fold(text: str) -> str:
    """Return the form in which spellings are compared: without case, and with single spaces for all that separates."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(character if character.isalnum() else " " for character in folded).split())


def _list_pairs(text: str) -> set[str]:
    """Return the pairs of letters that follow each other, with the ends."""
    padded = f" {text} "
    return {padded[place : place + 2] for place in range(len(padded) - 1)}


def normalise_value(text: str) -> str:
    """Return the form in which values are compared: NFC, without outer white space."""
    return (text if text.isascii() else unicodedata.normalize("NFC", text)).strip()


def parse_number(text: str) -> Decimal | None:
    """Return the finite decimal number that ``text`` writes with a point, or None."""
    if not text.isascii() or text != text.strip() or "_" in text:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _bound(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _field_from_json(value: dict[str, Any]) -> Field:
    terms = tuple(Term(term["term"], tuple(term["synonyms"])) for term in value["vocabulary"]["terms"])
    refined = {"vocabulary": Vocabulary(terms), "missing_terms": tuple(value["missing_terms"])}
    return Field(**{**value, "kind": Kind(value["kind"]), **refined})


def _conditions_from_json(values: Iterable[dict[str, Any]]) -> tuple[Condition, ...]:
    return tuple(
        Condition(value["field_id"], Operator(value["operator"]), tuple(value["words"]), value["other_id"])
        for value in values
    )
