"""The refinement of a field: what v1's definition can't say, and so is kept and changed beside it.

What is refined says, too, of which terms for missing values a field takes note. Submitted data stays as it
was; values that only say why there is none are never unique.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy.orm import Session

from datameta.authz import Actor, may_administer_site
from datameta.errors import ForbiddenError, Problem, ValidationError
from datameta.identifiers import find_by_id
from datameta.logic import audit
from datameta.logic.affected import count_affected
from datameta.logic.definitions import claim_submitted
from datameta.logic.fields import Kind
from datameta.logic.rulebook import load_rulebook
from datameta.logic.rules import refuse_broken_rules
from datameta.logic.vocabularies import count_terms
from datameta.models import MetaDatum


@dataclass(frozen=True)
class Refinement:
    """What an administrator says of a field beside its definition; an empty unit means none."""

    kind: Kind
    unit: str
    minimum: str | None
    maximum: str | None
    is_integer: bool
    missing_terms: tuple[str, ...]


@dataclass(frozen=True)
class RefinementView:
    """A field with its refinement, and how many words its vocabulary has."""

    metadatum: MetaDatum
    term_count: int


def get_refinement(db: Session, *, metadatum_id: str) -> RefinementView:
    """Load the refinement of a field.

    Raises ``NotFoundError``.
    """
    metadatum = find_by_id(db, MetaDatum, metadatum_id)
    return RefinementView(metadatum, count_terms(db, metadatum))


def update_refinement(
    db: Session, actor: Actor, *, metadatum_id: str, refinement: Refinement
) -> tuple[RefinementView, int]:
    """Refine a field; return it and how many staged sets it keeps from being submitted.

    Raises ``ForbiddenError``, ``NotFoundError``, ``ValidationError`` for what contradicts itself or the
    definition, ``ConflictError`` if terms for missing values become values that have to be unique, and are not.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    metadatum = find_by_id(db, MetaDatum, metadatum_id, lock=True)
    view = RefinementView(metadatum, count_terms(db, metadatum))
    problems = list(
        check_refinement(refinement, date_time_fmt=metadatum.date_time_fmt or "", has_terms=view.term_count > 0)
    )
    if problems:
        raise ValidationError(problems)
    before = _describe(metadatum)
    metadatum.kind = refinement.kind.value
    metadatum.unit = refinement.unit or None
    metadatum.minimum = refinement.minimum
    metadatum.maximum = refinement.maximum
    metadatum.is_integer = refinement.is_integer
    metadatum.missing_terms = list(refinement.missing_terms)
    db.flush()
    refuse_broken_rules(db, metadatum, place="kind")
    was, now = audit.changed(before, _describe(metadatum))
    if "missingTerms" in now:
        claim_submitted(db, metadatum)
    if now:
        audit.record_event(db, "metadatum.changed", actor=actor, entity=metadatum, before=was, after=now)
    return view, count_affected(db, load_rulebook(db), metadatum.id)


def check_refinement(refinement: Refinement, *, date_time_fmt: str, has_terms: bool) -> Iterator[Problem]:
    """Yield what is wrong with the refinement of a field that has this date format, and a vocabulary or none."""
    if refinement.kind != Kind.NUMBER:
        given = {
            "unit": refinement.unit,
            "minimum": refinement.minimum,
            "maximum": refinement.maximum,
            "isInteger": refinement.is_integer,
        }
        for name, value in given.items():
            if value not in (None, "", False):
                yield Problem("Only a number has a unit and bounds, or may be whole.", "contradictory", field=name)
    elif (
        refinement.minimum is not None
        and refinement.maximum is not None
        and Decimal(refinement.minimum) > Decimal(refinement.maximum)
    ):
        yield Problem("The least value is larger than the greatest.", "contradictory", field="minimum")
    if refinement.kind != Kind.TEXT and date_time_fmt:
        message = "The field has a date format, so it holds neither numbers nor words of a vocabulary."
        yield Problem(message, "contradictory", field="kind")
    if refinement.kind == Kind.VOCABULARY and not has_terms:
        yield Problem("The field has no vocabulary yet; send its words first.", "contradictory", field="kind")


def _describe(metadatum: MetaDatum) -> dict[str, Any]:
    """Return what the audit says of a refinement."""
    return {
        "kind": metadatum.kind,
        "unit": metadatum.unit,
        "minimum": metadatum.minimum,
        "maximum": metadatum.maximum,
        "isInteger": metadatum.is_integer,
        "missingTerms": metadatum.missing_terms,
    }
