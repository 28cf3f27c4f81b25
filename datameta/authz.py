"""Who may do what: every right of the portal, on one page.

A right is a pure predicate on the actor and the entity. Where a list is read, its SQL scope stands
beside the predicate and says the same; a truth table in the tests compares the two.

==============  =====================================================================
staged          the owner alone; administrators included in the refusal
submitted       members of the group that submitted, and whoever has site read
service values  whoever has site read, and the users of that service
==============  =====================================================================
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, false, true

from datameta.models import File, MetaDataSet, MetaDatum, ServiceExecution, Submission, User


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request came from, for the log and the audit."""

    ip: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Actor:
    """The user behind a request, as the database had them when it began.

    Either ``key_id`` or ``session_id`` says by what they were known.
    """

    id: int
    uuid: UUID
    site_id: str
    name: str
    email: str
    group_id: int
    group_uuid: UUID
    group_site_id: str
    group_name: str
    group_admin: bool
    site_admin: bool
    site_read: bool
    service_ids: frozenset[int]
    key_id: int | None = None
    key_uuid: UUID | None = None
    key_expires_at: datetime | None = None
    session_id: int | None = None
    session_uuid: UUID | None = None
    origin: Origin = Origin()


def may_view_metadataset(actor: Actor, metadataset: MetaDataSet) -> bool:
    if metadataset.submission is None:
        return metadataset.user_id == actor.id
    return actor.site_read or metadataset.submission.group_id == actor.group_id


def visible_submitted(actor: Actor) -> ColumnElement[bool]:
    """Return the condition on ``Submission`` for what ``may_view_metadataset`` grants of submitted sets."""
    return true() if actor.site_read else Submission.group_id == actor.group_id


def may_view_file(actor: Actor, file: File) -> bool:
    if file.service_execution is not None:
        return may_view_service(actor, file.service_execution.service_id)
    if file.submission is None:
        return file.user_id == actor.id
    return actor.site_read or file.submission.group_id == actor.group_id


def may_view_service(actor: Actor, service_id: int) -> bool:
    """Say whether the actor sees what this service answered."""
    return actor.site_read or service_id in actor.service_ids


def visible_executions(actor: Actor) -> ColumnElement[bool]:
    """Return the condition on ``ServiceExecution`` for what ``may_view_service`` grants."""
    return true() if actor.site_read else ServiceExecution.service_id.in_(actor.service_ids)


def may_view_metadatum(actor: Actor, metadatum: MetaDatum) -> bool:
    """Say whether the actor sees values of this field (its definition is for everybody)."""
    return metadatum.service_id is None or may_view_service(actor, metadatum.service_id)


def may_execute_service(actor: Actor, service_id: int) -> bool:
    return service_id in actor.service_ids


def may_query_awaiting(actor: Actor, service_id: int) -> bool:
    """Say whether the actor may ask which sets await this service."""
    return actor.site_read or service_id in actor.service_ids


def may_change_file(actor: Actor, file: File) -> bool:
    return file.user_id == actor.id


def may_change_metadataset(actor: Actor, metadataset: MetaDataSet) -> bool:
    return metadataset.user_id == actor.id


def may_administer_site(actor: Actor) -> bool:
    """Say whether the actor defines fields and services, renames groups, and changes settings."""
    return actor.site_admin


def may_view_group(actor: Actor, group_id: int) -> bool:
    return actor.site_admin or actor.site_read or actor.group_id == group_id


def may_view_group_submissions(actor: Actor, group_id: int) -> bool:
    return actor.site_read or actor.group_id == group_id


def may_view_user(actor: Actor, user_id: int, group_id: int) -> bool:
    return actor.id == user_id or actor.site_read or may_view_user_roles(actor, group_id)


def may_view_user_roles(actor: Actor, group_id: int) -> bool:
    """Say whether the actor sees a user's e-mail and roles, not only the name."""
    return actor.site_admin or (actor.group_admin and actor.group_id == group_id)


def may_view_user_events(actor: Actor, user_id: int) -> bool:
    """Say whether the actor sees a user's security events."""
    return actor.id == user_id or actor.site_admin


def may_view_all_groups(actor: Actor) -> bool:
    """Say whether the actor sees every group, not only the own one."""
    return actor.site_admin or actor.site_read


def may_list_users(actor: Actor) -> bool:
    return actor.site_admin or actor.group_admin


def visible_users(actor: Actor) -> ColumnElement[bool]:
    """Return the condition on ``User`` for whom ``may_view_user_roles`` grants."""
    if actor.site_admin:
        return true()
    return User.group_id == actor.group_id if actor.group_admin else false()


def may_change_user(actor: Actor, user: User, name: str) -> bool:
    """Say whether the actor may change this property of a user."""
    is_self = actor.id == user.id
    is_leader = may_view_user_roles(actor, user.group_id)
    return {
        "name": is_self or is_leader,
        "group_id": actor.site_admin,
        "group_admin": is_leader,
        "site_admin": actor.site_admin and not is_self,
        "site_read": actor.site_admin,
        "enabled": is_leader and not is_self and (actor.site_admin or not user.site_admin),
    }[name]
