"""Vocabularies: the words that a field allows, in the order of whoever keeps them, replaced as a whole.

A synonym is never accepted in place of its word; it only tells which word was meant. A vocabulary comes as
JSON or as csv, where the first column holds the words and all others their synonyms.
"""

import csv
import io
from collections.abc import Iterator, Sequence

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from datameta.authz import Actor, may_administer_site
from datameta.errors import ForbiddenError, Problem, ValidationError
from datameta.identifiers import find_by_id
from datameta.logic import audit
from datameta.logic.affected import count_affected
from datameta.logic.fields import Kind, Term, normalise_value
from datameta.logic.records import is_plain_text
from datameta.logic.rulebook import load_rulebook
from datameta.models import MetaDatum, VocabularyTerm

MAX_TERMS = 10_000
MAX_SYNONYMS = 50
MAX_LENGTH = 255
MOST_AUDITED = 100
"""Words that an event of the audit names; all are counted."""


def list_terms(db: Session, *, metadatum_id: str) -> list[Term]:
    """Return the vocabulary of a field, which may be empty.

    Raises ``NotFoundError``.
    """
    return _load_terms(db, find_by_id(db, MetaDatum, metadatum_id).id)


def count_terms(db: Session, metadatum: MetaDatum) -> int:
    """Return how many words the vocabulary of a field has."""
    query = select(func.count()).select_from(VocabularyTerm).where(VocabularyTerm.metadatum_id == metadatum.id)
    return db.scalars(query).one()


def replace_vocabulary(
    db: Session, actor: Actor, *, metadatum_id: str, terms: Sequence[Term], places: Sequence[str]
) -> tuple[Sequence[Term], int]:
    """Make these the words of a field; return them and how many staged sets it keeps from being submitted.

    ``places`` says where each term was sent, for problems. Raises ``ForbiddenError``, ``NotFoundError``,
    ``ValidationError``.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    metadatum = find_by_id(db, MetaDatum, metadatum_id, lock=True)
    if problems := list(check_vocabulary(terms, places, kind=metadatum.kind)):
        raise ValidationError(problems)
    former = _load_terms(db, metadatum.id)
    if former != list(terms):
        db.execute(delete(VocabularyTerm).where(VocabularyTerm.metadatum_id == metadatum.id))
        if terms:
            rows = [
                {"metadatum_id": metadatum.id, "position": position, "term": term.term, "synonyms": list(term.synonyms)}
                for position, term in enumerate(terms)
            ]
            db.execute(insert(VocabularyTerm), rows)
        db.flush()
        was, now = {term.term: term for term in former}, {term.term: term for term in terms}
        gone = [term for term in was if now.get(term) != was[term]]
        come = [term for term in now if now[term] != was.get(term)]
        audit.record_event(
            db,
            "vocabulary.changed",
            actor=actor,
            entity=metadatum,
            before={"termCount": len(was), "terms": gone[:MOST_AUDITED]},
            after={"termCount": len(now), "terms": come[:MOST_AUDITED]},
        )
    return terms, count_affected(db, load_rulebook(db), metadatum.id)


def name_places(terms: Sequence[Term]) -> list[str]:
    """Return where terms stand that came as JSON."""
    return [f"terms/{number}" for number in range(len(terms))]


def check_vocabulary(terms: Sequence[Term], places: Sequence[str], *, kind: str) -> Iterator[Problem]:
    """Yield what is wrong with the vocabulary of a field of this kind."""
    yield from check_terms(terms, places)
    if not terms and kind == Kind.VOCABULARY:
        message = "The field takes nothing but words of its vocabulary, so there has to be one."
        yield Problem(message, "contradictory", field="terms")


def check_terms(terms: Sequence[Term], places: Sequence[str]) -> Iterator[Problem]:
    """Yield what is wrong with the words of a vocabulary and their synonyms."""
    if len(terms) > MAX_TERMS:
        message = f"A vocabulary has at most {MAX_TERMS:,} words; this one has {len(terms):,}."
        yield Problem(message, "vocabulary_too_large", field="terms")
        return
    words: set[str] = set()
    for term, place in zip(terms, places, strict=True):
        if term.term in words:
            yield Problem(f"The word “{term.term}” stands in the vocabulary already.", "duplicate_term", field=place)
        words.add(term.term)
    meanings: dict[str, str] = {}
    for term, place in zip(terms, places, strict=True):
        if len(term.synonyms) > MAX_SYNONYMS:
            message = f"A word has at most {MAX_SYNONYMS} synonyms; this one has {len(term.synonyms)}."
            yield Problem(message, "vocabulary_too_large", field=place)
        for word in (term.term, *term.synonyms):
            yield from _check_word(word, place)
        for word in term.synonyms:
            key = normalise_value(word).casefold()
            if word in words:
                message = f"“{word}” is an allowed word, and can't be a synonym."
                yield Problem(message, "duplicate_term", field=place)
            elif meanings.setdefault(key, term.term) != term.term:
                message = f"“{word}” is a synonym of “{meanings[key]}” already."
                yield Problem(message, "duplicate_term", field=place)


def parse_vocabulary(text: str) -> tuple[list[Term], list[str]]:
    """Return the terms of a csv file, and the line where each stands.

    Cells are separated by commas; white space around words and empty cells do not count. A first line
    ``term`` or ``term,synonym…`` is a header. Raises ``ValidationError``, which names the line.
    """
    terms: list[Term] = []
    places: list[str] = []
    problems: list[Problem] = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    is_first = True
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            is_header = is_first and _is_header(cells)
            is_first = False
            if is_header or not any(cells):
                continue
            place = f"line {reader.line_num}"
            if not cells[0]:
                message = f"Line {reader.line_num} has synonyms, and no word in its first column."
                problems.append(Problem(message, "invalid_csv", field=place))
            terms.append(Term(cells[0], tuple(cell for cell in cells[1:] if cell)))
            places.append(place)
    except csv.Error as error:
        message = f"Line {reader.line_num} is no csv: {error}."
        problems.append(Problem(message, "invalid_csv", field=f"line {reader.line_num}"))
    if problems:
        raise ValidationError(problems)
    return terms, places


def decode_csv(body: bytes) -> str:
    """Return the text of a csv file in UTF-8, with or without a mark in front.

    Raises ``ValidationError``, which names the line.
    """
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        message = f"Line {line} has a byte that is not UTF-8 (0x{body[error.start]:02x}). Save the file as CSV UTF-8."
        raise ValidationError(Problem(message, "invalid_csv", field=f"line {line}")) from None


def _is_header(cells: Sequence[str]) -> bool:
    first, *others = (cell.casefold() for cell in cells) if cells else ("",)
    return first == "term" and all(cell.startswith("synonym") or not cell for cell in others)


def _check_word(word: str, place: str) -> Iterator[Problem]:
    if not word or word != word.strip():
        yield Problem("A word is not empty, and has no white space around it.", "invalid_term", field=place)
    elif len(word) > MAX_LENGTH:
        message = f"A word has at most {MAX_LENGTH} characters; this one has {len(word):,}."
        yield Problem(message, "invalid_term", field=place)
    elif not is_plain_text(word):
        yield Problem("A word has a character that is not text (NUL).", "invalid_term", field=place)


def _load_terms(db: Session, metadatum_id: int) -> list[Term]:
    query = (
        select(VocabularyTerm.term, VocabularyTerm.synonyms)
        .where(VocabularyTerm.metadatum_id == metadatum_id)
        .order_by(VocabularyTerm.position)
    )
    return [Term(term, tuple(synonyms)) for term, synonyms in db.execute(query)]
