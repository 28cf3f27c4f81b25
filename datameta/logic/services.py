"""Services: defined by site admins, executed by their users, once for each metadataset."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from datameta.authz import Actor, may_administer_site, may_execute_service
from datameta.errors import ForbiddenError, Problem, ResourceNotModifiableError, ValidationError
from datameta.identifiers import (
    any_of,
    find_by_id,
    insert_with_site_ids,
    matches_ids,
    parse_uuid,
    sent_identifier,
    to_identifier,
)
from datameta.logic import audit, blocks, claims, records
from datameta.logic.claims import Claim
from datameta.logic.metadatasets import MetaDataSetRow, read_metadataset
from datameta.logic.rulebook import load_rulebook
from datameta.logic.submissions import collect_files, insert_references, match_files
from datameta.models import (
    SITE_SCOPE,
    File,
    MetaDataSet,
    Service,
    ServiceExecution,
    ServiceUser,
    User,
)
from datameta.settings import SiteIdFormat


@dataclass(frozen=True)
class ServiceView:
    """A service and its users, each a row with ``uuid`` and ``site_id``."""

    service: Service
    users: Sequence[Row[Any]]


def list_services(db: Session, actor: Actor) -> list[ServiceView]:
    """Return every service by name.

    Raises ``ForbiddenError``.
    """
    _refuse_strangers(actor)
    return _view(db, db.scalars(select(Service).order_by(Service.name)).all())


def list_identifiers(db: Session) -> dict[int, dict[str, str]]:
    """Return the Identifiers of all services by row id."""
    rows = db.execute(select(Service.id, Service.uuid, Service.site_id))
    return {row.id: to_identifier(row) for row in rows}


def create_service(db: Session, actor: Actor, *, name: str, site_id_format: SiteIdFormat) -> ServiceView:
    """Add a service without users.

    Raises ``ForbiddenError``, ``ValidationError`` for a name that is taken.
    """
    _refuse_strangers(actor)
    problems = _check_name(db, name)
    if problems:
        raise ValidationError(problems)
    try:
        [service] = insert_with_site_ids(db, Service, site_id_format, [{"name": name}])
    except IntegrityError:
        raise ValidationError(_duplicate_name()) from None
    audit.record_event(db, "service.created", actor=actor, entity=service, after={"name": name})
    return ServiceView(service, [])


def update_service(
    db: Session, actor: Actor, *, service_id: str, name: str | None, user_ids: Sequence[str] | None
) -> ServiceView:
    """Change the name, the users, or both; None leaves a thing as it is.

    Raises ``ForbiddenError``, ``NotFoundError``, ``ValidationError`` naming each unknown user, and for a
    name that is taken.
    """
    _refuse_strangers(actor)
    service = find_by_id(db, Service, service_id, lock=True)
    [before] = _view(db, [service])
    former = _describe(before)
    problems = [] if name is None else _check_name(db, name, service)
    users: Sequence[User] = []
    if user_ids:
        users = db.scalars(select(User).where(matches_ids(User, user_ids))).all()
        known = {str(user.uuid) for user in users} | {user.site_id for user in users}
        problems.extend(
            Problem("There is no user with this id.", "not_found", field="userIds", entity=sent_identifier(text))
            for text in dict.fromkeys(user_ids)
            if str(parse_uuid(text) or text) not in known
        )
    if problems:
        raise ValidationError(problems)
    if name is not None:
        try:
            db.execute(update(Service).where(Service.id == service.id).values(name=name))
        except IntegrityError:
            # Another administrator took the name between the check and the write.
            raise ValidationError(_duplicate_name()) from None
    if user_ids is not None:
        db.execute(delete(ServiceUser).where(ServiceUser.service_id == service.id))
        if users:
            db.execute(insert(ServiceUser), [{"service_id": service.id, "user_id": user.id} for user in users])
    db.refresh(service)
    [view] = _view(db, [service])
    was, now = audit.changed(former, _describe(view))
    if now:
        audit.record_event(db, "service.changed", actor=actor, entity=service, before=was, after=now)
    return view


def execute_service(
    db: Session, actor: Actor, *, service_id: str, metadataset_id: str, record: dict[str, Any], file_ids: Sequence[str]
) -> MetaDataSetRow:
    """Store what a service answers for a submitted set.

    Raises ``NotFoundError``, ``ForbiddenError``, ``ResourceNotModifiableError`` for a second answer,
    ``ValidationError`` with everything that is wrong with the record and the files.
    """
    service = find_by_id(db, Service, service_id)
    metadataset = find_by_id(db, MetaDataSet, metadataset_id)
    if not may_execute_service(actor, service.id):
        raise ForbiddenError("Only users of the service may answer for it.", code="not_a_service_user")
    if metadataset.submission_id is None:
        raise ForbiddenError("The metadataset is not submitted.", code="not_submitted")
    book = load_rulebook(db, lock="share")
    fields = book.fields_of(service.id)
    stored, problems = records.check_sent_record(book, record, service_id=service.id)
    files = collect_files(db, actor, file_ids, problems)
    named = [(metadataset, field, records.get_file_name(field, stored)) for field in fields if field.is_file]
    references, file_problems = match_files(files, named)
    problems.extend(file_problems)
    row = {"service_id": service.id, "metadataset_id": metadataset.id, "user_id": actor.id, "record": stored}
    execution_id = db.scalar(
        upsert(ServiceExecution).values(row).on_conflict_do_nothing().returning(ServiceExecution.id)
    )
    if execution_id is None:
        message = "The service has answered for this metadataset already."
        raise ResourceNotModifiableError(Problem(message, "not_modifiable", entity=to_identifier(metadataset)))
    wanted = [
        Claim(field.id, scope, value, metadataset.id)
        for field in fields
        for scope, is_unique in (
            (SITE_SCOPE, field.is_site_unique),
            (metadataset.submission_id, field.is_submission_unique),
        )
        if is_unique and (value := stored.get(field.key)) is not None and records.is_claimable(field, value)
    ]
    for claim in claims.insert_claims(db, wanted):
        place, code = (
            ("site", "not_unique_in_site") if claim.scope == SITE_SCOPE else ("submission", "not_unique_in_submission")
        )
        message = f"Another metadataset of the {place} holds this value already."
        problems.append(
            Problem(message, code, field=book.by_id[claim.metadatum_id].name, entity=to_identifier(metadataset))
        )
    if problems:
        raise ValidationError(problems)
    if files:
        db.execute(
            update(File).where(File.id == any_of([file.id for file in files])).values(service_execution_id=execution_id)
        )
    insert_references(db, references)
    # Last, since others who answer for sets of the same block wait from here on.
    blocks.add_answer(db, metadataset, service_id=service.id, record=stored)
    audit.record_event(
        db, "service.executed", actor=actor, entity=metadataset, after={"service": service.site_id, "files": len(files)}
    )
    return read_metadataset(db, metadataset.id)


def _describe(view: ServiceView) -> dict[str, Any]:
    """Return what the audit says of a service."""
    return {"name": view.service.name, "users": [user.site_id for user in view.users]}


def _refuse_strangers(actor: Actor) -> None:
    if not may_administer_site(actor):
        raise ForbiddenError


def _check_name(db: Session, name: str, service: Service | None = None) -> list[Problem]:
    if not name.strip():
        return [Problem("A service needs a name.", "mandatory_missing", field="name")]
    holder = db.scalar(select(Service.id).where(Service.name == name))
    is_free = holder is None or (service is not None and holder == service.id)
    return [] if is_free else [_duplicate_name()]


def _duplicate_name() -> Problem:
    return Problem("There is a service with this name already.", "duplicate_name", field="name")


def _view(db: Session, services: Sequence[Service]) -> list[ServiceView]:
    query = (
        select(ServiceUser.service_id, User.uuid, User.site_id)
        .join(User, User.id == ServiceUser.user_id)
        .where(ServiceUser.service_id.in_([service.id for service in services]))
        .order_by(User.id)
    )
    users: dict[int, list[Any]] = {service.id: [] for service in services}
    for row in db.execute(query):
        users[row.service_id].append(row)
    return [ServiceView(service, users[service.id]) for service in services]
