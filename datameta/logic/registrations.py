"""Registrations: strangers ask for an account, site admins answer.

Nobody learns from the answer whether an address is known: for one that is, one that has been asked
for, and a new one the portal does the same work in the same statements; the difference is in the mail.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, exists, func, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from datameta.authz import Actor, Origin, may_administer_site
from datameta.errors import ConflictError, ForbiddenError, Problem, ValidationError
from datameta.identifiers import find_by_id, sent_identifier
from datameta.logic.addresses import is_address
from datameta.logic.appsettings import get_setting, get_settings
from datameta.logic.audit import record_event, record_events
from datameta.logic.groups import add_group, find_sent_group, get_group_by_name, get_sent_group
from datameta.logic.mail import store_mail
from datameta.logic.throttle import Sessions, take
from datameta.logic.users import add_user, get_user_by_email, invite_user
from datameta.models import Group, Registration, User
from datameta.settings import Settings
from datameta.vault import Vault


@dataclass(frozen=True)
class Wish:
    """What a stranger has sent: a group to join, or a name for a new one if ``wants_new_group``."""

    name: str
    email: str
    group_id: str
    wants_new_group: bool
    new_group_name: str
    accepts_agreement: bool


@dataclass(frozen=True)
class RegistrationView:
    """An open registration and the group it asks for, if that is there already."""

    registration: Registration
    group: Group | None


def describe_registration(db: Session) -> tuple[str | None, Sequence[Group]]:
    """Return the agreement to accept (None: there is none) and the groups to choose from (none while closed)."""
    settings = get_settings(db, "user_agreement", "registration_open")
    groups = db.scalars(select(Group).order_by(Group.name)).all() if settings["registration_open"] else []
    return settings["user_agreement"] or None, groups


def register(db: Session, sessions: Sessions, vault: Vault, *, settings: Settings, origin: Origin, wish: Wish) -> None:
    """Take in a stranger's wish for an account.

    Raises ``ForbiddenError`` while registration is closed, ``ValidationError`` with every problem,
    ``TooManyRequestsError``.
    """
    rules = get_settings(db, "user_agreement", "registration_open")
    if not rules["registration_open"]:
        raise ForbiddenError("This site takes no registrations.", code="registration_closed")
    group = None if wish.wants_new_group else get_sent_group(db, wish.group_id)
    if problems := _check(db, wish, group, needs_agreement=bool(rules["user_agreement"])):
        raise ValidationError(problems)
    take(sessions, "registration", origin.ip)
    email = wish.email.strip()
    known = get_user_by_email(db, email)
    registration = _store(db, wish, email, group)
    outcome = "known" if known is not None else "pending" if registration is None else "new"
    record_event(
        db,
        "registration.requested",
        actor=None,
        origin=origin,
        entity=registration,
        after={"email": email, "outcome": outcome},
    )
    if known is None:
        store_mail(db, vault, template="registration_received", to=email, values={})
    else:
        values = {"name": known.name, "link": f"{settings.base_url}/"}
        store_mail(db, vault, template="registration_known", to=known.email, values=values)


def list_registrations(db: Session, actor: Actor) -> list[RegistrationView]:
    """Return the open registrations, oldest first.

    Raises ``ForbiddenError``.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    query = (
        select(Registration, Group)
        .outerjoin(Group, Group.id == Registration.group_id)
        .where(Registration.answered_at.is_(None))
        .order_by(Registration.id)
    )
    return [RegistrationView(registration, group) for registration, group in db.execute(query)]


def answer_registration(
    db: Session,
    actor: Actor,
    *,
    settings: Settings,
    vault: Vault,
    registration_id: str,
    is_accepted: bool,
    group_id: str | None,
    new_group_name: str | None,
    message: str,
) -> None:
    """Accept or refuse a registration, once; accepted, it becomes a user.

    Raises ``ForbiddenError``, ``NotFoundError``, ``ConflictError`` for one that is answered,
    ``ValidationError`` for a group or an address that is taken, or two groups at once.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    registration = find_by_id(db, Registration, registration_id, lock=True)
    if registration.answered_at is not None:
        raise ConflictError("This request has been answered already.", code="already_answered")
    registration.answered_at = func.now()
    registration.accepted = is_accepted
    if is_accepted:
        group = _choose_group(db, actor, registration, group_id, new_group_name, settings)
        name, email = registration.name, registration.email
        user = add_user(db, actor, settings=settings, email=email, name=name, group=group, password=None)
        template = "registration_accepted"
        invite_user(db, user, settings=settings, vault=vault, template=template, message=message)
    else:
        store_mail(db, vault, template="registration_refused", to=registration.email, values={"message": message})
    db.flush()
    record_event(
        db,
        "registration.answered",
        actor=actor,
        entity=registration,
        after={"email": registration.email, "accepted": is_accepted},
    )


def remove_old_registrations(db: Session) -> int:
    """Remove registrations that nobody has answered in time, and answered ones as long after; return how many."""
    limit = func.now() - timedelta(days=get_setting(db, "registration_days"))
    since = func.coalesce(Registration.answered_at, Registration.created_at)
    gone = db.scalars(delete(Registration).where(since < limit).returning(Registration)).all()
    lapsed = [registration for registration in gone if registration.answered_at is None]
    record_events(db, "registration.lapsed", actor=None, changes=[(entity, None, None) for entity in lapsed])
    return len(gone)


def _check(db: Session, wish: Wish, group: Group | None, *, needs_agreement: bool) -> list[Problem]:
    """Return everything that is wrong with a wish."""
    problems = []
    if not wish.name.strip():
        problems.append(Problem("Give your name.", "mandatory_missing", field="name"))
    if not wish.email.strip():
        problems.append(Problem("Give your e-mail address.", "mandatory_missing", field="email"))
    elif not is_address(wish.email.strip()):
        problems.append(Problem("This is no e-mail address.", "invalid_email", field="email"))
    if wish.wants_new_group:
        name = wish.new_group_name.strip()
        if not name:
            problems.append(Problem("Give the name of the new group.", "mandatory_missing", field="org_new_name"))
        elif get_group_by_name(db, name) is not None:
            message = "There is a group with this name already; choose it from the list."
            problems.append(Problem(message, "duplicate_name", field="org_new_name"))
    elif not wish.group_id:
        problems.append(Problem("Choose a group, or ask for a new one.", "mandatory_missing", field="org_select"))
    elif group is None:
        message, entity = "There is no group with this id.", sent_identifier(wish.group_id)
        problems.append(Problem(message, "not_found", field="org_select", entity=entity))
    if needs_agreement and not wish.accepts_agreement:
        problems.append(Problem("Accept the user agreement.", "mandatory_missing", field="check_user_agreement"))
    return problems


def _store(db: Session, wish: Wish, email: str, group: Group | None) -> Registration | None:
    """Store a wish; None if the address has a user, or an open registration already. One statement for all."""
    row = {
        Registration.name: wish.name.strip(),
        Registration.email: email,
        Registration.group_id: None if group is None else group.id,
        Registration.new_group_name: wish.new_group_name.strip() if group is None else None,
    }
    is_known = exists().where(func.lower(User.email) == func.lower(email))
    values = select(*(literal(value, column.type) for column, value in row.items())).where(~is_known)
    statement = insert(Registration).from_select(list(row), values).on_conflict_do_nothing().returning(Registration)
    return db.scalars(statement).one_or_none()


def _choose_group(
    db: Session,
    actor: Actor,
    registration: Registration,
    group_id: str | None,
    new_group_name: str | None,
    settings: Settings,
) -> Group:
    """Return the group the administrator names, or else the one that was asked for; a new one is added."""
    if group_id and new_group_name:
        message = "Give the id of a group or the name of a new one, not both."
        raise ValidationError([Problem(message, "ambiguous_group", field=name) for name in ("groupId", "newGroupName")])
    if group_id:
        return find_sent_group(db, group_id)
    if not new_group_name and registration.group_id is not None:
        return db.get_one(Group, registration.group_id)
    name = new_group_name or registration.new_group_name or ""
    return add_group(db, actor, name=name, field="newGroupName", site_id_format=settings.id_groups)
