"""Groups: the organisations of the site. Each has a name of its own."""

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from datameta.authz import Actor, may_administer_site, may_view_all_groups, may_view_group
from datameta.errors import ForbiddenError, NotFoundError, Problem, ValidationError
from datameta.identifiers import find_by_id, insert_with_site_ids, matches_id, sent_identifier
from datameta.logic.audit import record_event
from datameta.models import Group
from datameta.settings import SiteIdFormat


def get_group(db: Session, actor: Actor, *, group_id: str) -> Group:
    """Load a group.

    Raises ``NotFoundError``, ``ForbiddenError``.
    """
    group = find_by_id(db, Group, group_id)
    if not may_view_group(actor, group.id):
        raise ForbiddenError
    return group


def list_groups(db: Session, actor: Actor) -> Sequence[Group]:
    """Return the groups the actor may see, by name."""
    query = select(Group).order_by(Group.name)
    return db.scalars(query if may_view_all_groups(actor) else query.where(Group.id == actor.group_id)).all()


def create_group(db: Session, actor: Actor, *, name: str, site_id_format: SiteIdFormat) -> Group:
    """Add a group.

    Raises ``ForbiddenError``, ``ValidationError`` for a name that is empty or taken.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    return add_group(db, actor, name=name, field="name", site_id_format=site_id_format)


def add_group(db: Session, actor: Actor, *, name: str, field: str, site_id_format: SiteIdFormat) -> Group:
    """Add a group whose name was sent in ``field``.

    Raises ``ValidationError`` for a name that is empty or taken.
    """
    if not name.strip():
        raise ValidationError(Problem("A group needs a name.", "mandatory_missing", field=field))
    group, is_new = find_or_add_group(db, actor, name=name, site_id_format=site_id_format)
    if not is_new:
        raise ValidationError(_name_taken(field))
    return group


def rename_group(db: Session, actor: Actor, *, group_id: str, name: str) -> None:
    """Rename a group.

    Raises ``ForbiddenError``, ``NotFoundError``, ``ValidationError`` for a name that is empty or taken.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    group = find_by_id(db, Group, group_id, lock=True)
    if not name.strip():
        raise ValidationError(Problem("A group needs a name.", "mandatory_missing", field="name"))
    if group.name == name:
        return
    before = {"name": group.name}
    try:
        db.execute(update(Group).where(Group.id == group.id).values(name=name))
    except IntegrityError:
        raise ValidationError(_name_taken("name")) from None
    record_event(db, "group.changed", actor=actor, entity=group, before=before, after={"name": name})


def find_sent_group(db: Session, group_id: str, *, field: str = "groupId") -> Group:
    """Load the group that was sent in ``field``; raises ``NotFoundError`` that says so."""
    group = get_sent_group(db, group_id)
    if group is None:
        message = "There is no group with this id."
        raise NotFoundError(Problem(message, "not_found", field=field, entity=sent_identifier(group_id)))
    return group


def get_sent_group(db: Session, group_id: str) -> Group | None:
    """Load the group with this id, or None."""
    return db.scalars(select(Group).where(matches_id(Group, group_id))).one_or_none()


def get_group_by_name(db: Session, name: str) -> Group | None:
    """Load the group with this name, or None."""
    return db.scalars(select(Group).where(Group.name == name)).one_or_none()


def find_or_add_group(
    db: Session, actor: Actor | None = None, *, name: str, site_id_format: SiteIdFormat
) -> tuple[Group, bool]:
    """Return the group with this name, and whether it was added now."""
    try:
        with db.begin_nested():
            [group] = insert_with_site_ids(db, Group, site_id_format, [{"name": name}])
    except IntegrityError:
        return db.scalars(select(Group).where(Group.name == name)).one(), False
    record_event(db, "group.created", actor=actor, entity=group, after={"name": name})
    return group, True


def _name_taken(field: str) -> Problem:
    return Problem("There is a group with this name already.", "duplicate_name", field=field)
