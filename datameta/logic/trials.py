"""Fields and rules, tried before they are saved: what is wrong with them, and what they would do.

Nothing is stored, nothing locked. The checks are those of ``definitions``, ``refinements`` and ``rules``; that they
pass is a forecast, not a guarantee.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from datameta.authz import Actor, may_administer_site
from datameta.errors import ForbiddenError, NotFoundError, Problem
from datameta.identifiers import find_by_id
from datameta.logic import claims, records
from datameta.logic.affected import count_newly_affected
from datameta.logic.definitions import Definition, check_definition, find_service
from datameta.logic.fields import Field, Kind, Rulebook, Term, Vocabulary
from datameta.logic.refinements import Refinement, check_refinement
from datameta.logic.rulebook import load_rulebook
from datameta.logic.rules import SentRule, check_bonds, read_rules
from datameta.logic.vocabularies import check_vocabulary, list_terms, name_places
from datameta.models import MetaDatum

BROKEN = ("conditionally_mandatory", "rule_broken")
"""What is told of a record that breaks a rule."""
NEW = Field(id=0, name="")
"""A field that is not there yet; no record has a value for it."""


@dataclass(frozen=True)
class Trial:
    """What is wrong with a field and with a value of it (None: no value can be judged by such a field), and how many
    staged sets pass today that would not."""

    definition: list[Problem]
    value: list[Problem] | None
    affected: int


@dataclass(frozen=True)
class RuleTrial:
    """What is wrong with rules, with the values of a record, and which of the rules the record breaks."""

    rules: list[Problem]
    values: list[Problem]
    broken: list[Problem]


def try_field(
    db: Session,
    actor: Actor,
    *,
    definition: Definition,
    refinement: Refinement | None,
    terms: Sequence[Term] | None,
    metadatum_id: str | None,
    value: str | None,
) -> Trial:
    """Try a field that is new, or that changes the one with this id; of that stays what is None.

    Raises ``ForbiddenError``, ``NotFoundError`` for an unknown field or service.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    current = None if metadatum_id is None else _find_field(db, metadatum_id)
    service = find_service(db, definition)
    book = load_rulebook(db)
    former = NEW if current is None else book.by_id[current.id]
    draft = _define(former, definition, service_id=None if service is None else service.id)
    if refinement is not None:
        draft = _refine(draft, refinement)
    if terms is not None:
        draft = replace(draft, vocabulary=Vocabulary(tuple(terms)))
    elif refinement is not None and metadatum_id is not None:
        draft = replace(draft, vocabulary=Vocabulary(tuple(list_terms(db, metadatum_id=metadatum_id))))
    # A contradiction is told once: of what was sent last.
    kind = former.kind if refinement is None else Kind.TEXT
    problems = check_definition(db, definition, current=current, kind=kind)
    if refinement is not None:
        problems += check_refinement(
            refinement, date_time_fmt=draft.date_time_fmt, has_terms=bool(draft.vocabulary.terms)
        )
    if terms is not None:
        problems += check_vocabulary(terms, name_places(terms), kind=kind)
    if any(problem.field != "name" for problem in problems):
        return Trial(problems, None, 0)
    tried = Rulebook((*(field for field in book.fields if field.id != draft.id), draft), book.rules)
    problems += check_bonds(tried, draft.id, place="dateTimeFmt" if refinement is None else "kind")
    taken = _list_new_claims(db, former, draft)
    if len(set(taken)) < len(taken):
        message = "The field can't be unique in the site: two submitted metadatasets hold the same value."
        problems.append(Problem(message, "not_unique_in_site", field="isSiteUnique"))
    affected = count_newly_affected(db, book, draft, taken=set(taken))
    return Trial(problems, records.check_value(draft, value), affected)


def try_rules(db: Session, actor: Actor, *, rules: Sequence[SentRule], record: Mapping[str, Any]) -> RuleTrial:
    """Judge a record, of which not all need be filled in, by these rules alone; those with a fault judge nothing.

    Raises ``ForbiddenError``.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    book = load_rulebook(db)
    read = list(read_rules(db, book, rules))
    sound = tuple(rule for rule, problems in read if not problems)
    _, found = records.check_sent_record(Rulebook(book.fields, sound), record)
    broken = [problem for problem in found if problem.code in BROKEN]
    values = [problem for problem in found if problem.code not in (*BROKEN, "mandatory_missing")]
    return RuleTrial([problem for _, problems in read for problem in problems], values, broken)


def _find_field(db: Session, metadatum_id: str) -> MetaDatum:
    try:
        return find_by_id(db, MetaDatum, metadatum_id)
    except NotFoundError:
        raise NotFoundError(Problem("There is no field with this id.", "not_found", field="metadatumId")) from None


def _define(former: Field, definition: Definition, *, service_id: int | None) -> Field:
    return replace(
        former,
        name=definition.name,
        regex_description=definition.regex_description,
        long_description=definition.long_description,
        example=definition.example,
        reg_exp=definition.reg_exp,
        date_time_fmt=definition.date_time_fmt,
        is_mandatory=definition.is_mandatory,
        is_file=definition.is_file,
        is_submission_unique=definition.is_submission_unique,
        is_site_unique=definition.is_site_unique,
        service_id=service_id,
    )


def _refine(field: Field, refinement: Refinement) -> Field:
    return replace(
        field,
        kind=refinement.kind,
        unit=refinement.unit,
        minimum=refinement.minimum,
        maximum=refinement.maximum,
        is_integer=refinement.is_integer,
        missing_terms=refinement.missing_terms,
    )


def _list_new_claims(db: Session, former: Field, draft: Field) -> list[bytes]:
    """Return the hashes of the submitted values that the field would claim in the site, and does not, or not so."""

    def say_what_is_claimed(field: Field) -> object:
        return field.is_site_unique, field.service_id, field.date_time_fmt, field.missing_terms

    if not draft.is_site_unique or say_what_is_claimed(draft) == say_what_is_claimed(former):
        return []
    return [records.hash_value(value) for _, value in claims.list_submitted_values(db, draft)]
