"""The site's field definitions: what they may say, and what a change of them does to data.

Submitted data stays as it was. Staged data is judged again when it is submitted; a change of rules
says how many staged sets no longer pass. A field becomes site-unique only if the values that were
submitted already are.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from datameta.authz import Actor, may_administer_site
from datameta.errors import ConflictError, ForbiddenError, NotFoundError, Problem, ValidationError
from datameta.identifiers import find_by_id, to_identifier
from datameta.logic import audit, claims, records
from datameta.logic.affected import count_affected
from datameta.logic.fields import Kind
from datameta.logic.rulebook import load_rulebook, make_field
from datameta.logic.rules import refuse_broken_rules
from datameta.models import SITE_SCOPE, MetaDatum, Service, UniqueClaim

PROBE_DATES = (
    datetime(2024, 2, 29, 23, 58, 57, 123456, tzinfo=UTC),
    datetime(1999, 12, 1, 1, 2, 3, tzinfo=UTC),
)


@dataclass(frozen=True)
class Definition:
    """What an administrator says of a field; an empty text means none."""

    name: str
    regex_description: str
    long_description: str
    example: str
    reg_exp: str
    date_time_fmt: str
    is_mandatory: bool
    order: int
    is_file: bool
    is_submission_unique: bool
    is_site_unique: bool
    service_id: str | None


def list_definitions(db: Session) -> Sequence[Row[Any]]:
    """Return the row of every definition, by its order."""
    return db.execute(select(*MetaDatum.__table__.columns).order_by(MetaDatum.order, MetaDatum.id)).all()


def create_definition(db: Session, actor: Actor, definition: Definition) -> tuple[MetaDatum, int]:
    """Add a field; return it and how many staged sets no longer pass.

    Raises ``ForbiddenError``, ``NotFoundError`` for an unknown service, ``ValidationError``.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    service = find_service(db, definition)
    _refuse_problems(db, definition, None)
    metadatum = MetaDatum()
    _assign(metadatum, definition, service)
    db.add(metadatum)
    _flush_unique_name(db)
    audit.record_event(db, "metadatum.created", actor=actor, entity=metadatum, after=_describe(db, metadatum))
    return metadatum, count_affected(db, load_rulebook(db), metadatum.id)


def update_definition(db: Session, actor: Actor, metadatum_id: str, definition: Definition) -> tuple[MetaDatum, int]:
    """Change a field; return it and how many staged sets no longer pass.

    Raises as ``create_definition``, ``NotFoundError`` for an unknown field, and ``ConflictError`` if
    it is to be unique where submitted values already collide.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    metadatum = find_by_id(db, MetaDatum, metadatum_id, lock=True)
    service = find_service(db, definition)
    _refuse_problems(db, definition, metadatum)
    before = _describe(db, metadatum)
    former = _say_what_is_claimed(metadatum)
    _assign(metadatum, definition, service)
    _flush_unique_name(db)
    refuse_broken_rules(db, metadatum, place="dateTimeFmt")
    if _say_what_is_claimed(metadatum) != former:
        claim_submitted(db, metadatum)
    was, now = audit.changed(before, _describe(db, metadatum))
    if now:
        audit.record_event(db, "metadatum.changed", actor=actor, entity=metadatum, before=was, after=now)
    return metadatum, count_affected(db, load_rulebook(db), metadatum.id)


def _describe(db: Session, metadatum: MetaDatum) -> dict[str, Any]:
    """Return what the audit says of a definition."""
    return {
        "name": metadatum.name,
        "regexDescription": metadatum.regex_description,
        "longDescription": metadatum.long_description,
        "example": metadatum.example,
        "regExp": metadatum.reg_exp,
        "dateTimeFmt": metadatum.date_time_fmt,
        "isMandatory": metadatum.is_mandatory,
        "order": metadatum.order,
        "isFile": metadatum.is_file,
        "isSubmissionUnique": metadatum.is_submission_unique,
        "isSiteUnique": metadatum.is_site_unique,
        "service": None if metadatum.service_id is None else db.get_one(Service, metadatum.service_id).site_id,
    }


def check_date_format(date_format: str) -> bool:
    """Say whether the format reads back what it writes."""
    try:
        written = [probe.strftime(date_format) for probe in PROBE_DATES]
        read = [datetime.strptime(text, date_format) for text in written]
        # A format that writes the same for both probes holds no date.
        return written[0] != written[1] and [value.strftime(date_format) for value in read] == written
    except (ValueError, OverflowError, re.error):
        # A format that has a part twice fails as a regular expression.
        return False


def find_service(db: Session, definition: Definition) -> Service | None:
    """Load the service that a definition names, or None.

    Raises ``NotFoundError``.
    """
    if not definition.service_id:
        return None
    try:
        return find_by_id(db, Service, definition.service_id)
    except NotFoundError:
        raise NotFoundError(Problem("There is no service with this id.", "not_found", field="serviceId")) from None


def check_definition(db: Session, definition: Definition, *, current: MetaDatum | None, kind: str) -> list[Problem]:
    """Return what is wrong with a definition: of ``current``, or of a new field, which is refined as this kind."""
    problems = list(_check_definition(definition))
    if definition.date_time_fmt and kind != Kind.TEXT:
        message = "The field is refined to hold numbers or words of a vocabulary, so it can't hold dates."
        problems.append(Problem(message, "contradictory", field="dateTimeFmt"))
    same_name = select(MetaDatum.id).where(MetaDatum.name == definition.name)
    if current is not None:
        same_name = same_name.where(MetaDatum.id != current.id)
    if db.scalar(same_name) is not None:
        problems.append(_duplicate_name())
    return problems


def _refuse_problems(db: Session, definition: Definition, current: MetaDatum | None) -> None:
    kind = Kind.TEXT if current is None else current.kind
    if problems := check_definition(db, definition, current=current, kind=kind):
        raise ValidationError(problems)


def _check_definition(definition: Definition) -> Iterable[Problem]:
    if not definition.name.strip():
        yield Problem("A field needs a name.", "mandatory_missing", field="name")
    if definition.reg_exp:
        try:
            records.compile_pattern(definition.reg_exp)
        except ValueError as error:
            yield Problem(f"The regular expression does not compile: {error}", "regex_invalid", field="regExp")
    if definition.date_time_fmt and not check_date_format(definition.date_time_fmt):
        yield Problem(
            "The date format does not read back what it writes, for example as %Y-%m-%d does.",
            "date_format_invalid",
            field="dateTimeFmt",
        )


def _duplicate_name() -> Problem:
    return Problem("There is a field with this name already.", "duplicate_name", field="name")


def _flush_unique_name(db: Session) -> None:
    try:
        db.flush()
    except IntegrityError:
        # Another administrator took the name between the check and the write.
        raise ValidationError(_duplicate_name()) from None


def _assign(metadatum: MetaDatum, definition: Definition, service: Service | None) -> None:
    metadatum.name = definition.name
    metadatum.regex_description = definition.regex_description or None
    metadatum.long_description = definition.long_description or None
    metadatum.example = definition.example or None
    metadatum.reg_exp = definition.reg_exp or None
    metadatum.date_time_fmt = definition.date_time_fmt or None
    metadatum.is_mandatory = definition.is_mandatory
    metadatum.order = definition.order
    metadatum.is_file = definition.is_file
    metadatum.is_submission_unique = definition.is_submission_unique
    metadatum.is_site_unique = definition.is_site_unique
    metadatum.service_id = service.id if service else None


def _say_what_is_claimed(metadatum: MetaDatum) -> object:
    """Return what decides which submitted values a field claims in the site, and in which form."""
    return metadatum.is_site_unique and (metadatum.service_id, metadatum.date_time_fmt)


def claim_submitted(db: Session, metadatum: MetaDatum) -> None:
    """Make the site's claims of a field those that its definition asks for now.

    The row lock on the definition keeps submissions, which share it, waiting until this commits.
    """
    db.execute(delete(UniqueClaim).where(UniqueClaim.metadatum_id == metadatum.id, UniqueClaim.scope == SITE_SCOPE))
    if not metadatum.is_site_unique:
        return
    holders = claims.list_submitted_values(db, make_field(metadatum))
    wanted = [claims.Claim(metadatum.id, SITE_SCOPE, value, metadataset.id) for metadataset, value in holders]
    colliding = {claim.key for claim in claims.insert_claims(db, wanted)}
    if colliding:
        raise ConflictError(
            Problem(
                "The field can't be unique in the site: another submitted metadataset holds the same value.",
                "not_unique_in_site",
                field=metadatum.name,
                entity=to_identifier(metadataset),
            )
            for (metadataset, _), claim in zip(holders, wanted, strict=True)
            if claim.key in colliding
        )
