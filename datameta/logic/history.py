"""What has happened to a set, for whoever may see it: what the audit has of it, without where it came from.

The rule this module guards: that a service has answered, is told to those alone who may see its answers.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session, joinedload

from datameta.authz import Actor, may_view_metadataset, visible_executions
from datameta.errors import ForbiddenError
from datameta.identifiers import find_by_id
from datameta.models import AuditEvent, MetaDataSet, Service, ServiceExecution, User

MOST_EVENTS = 1000
ANSWERED = "service.executed"


def list_history(db: Session, actor: Actor, *, metadataset_id: str) -> Sequence[Any]:
    """Return the last events of a set, oldest first, each with who caused it (no ``user_uuid``: nobody).

    Raises ``NotFoundError``, ``ForbiddenError``.
    """
    metadataset = find_by_id(db, MetaDataSet, metadataset_id, joinedload(MetaDataSet.submission))
    if not may_view_metadataset(actor, metadataset):
        raise ForbiddenError
    concerned = [metadataset.uuid] + ([metadataset.submission.uuid] if metadataset.submission is not None else [])
    told = (
        select(Service.site_id)
        .join(ServiceExecution, ServiceExecution.service_id == Service.id)
        .where(ServiceExecution.metadataset_id == metadataset.id, visible_executions(actor))
    )
    is_told = or_(AuditEvent.event != ANSWERED, AuditEvent.after["service"].astext.in_(told))
    query = (
        select(
            AuditEvent.at,
            AuditEvent.event,
            AuditEvent.before,
            AuditEvent.after,
            User.uuid.label("user_uuid"),
            User.site_id.label("user_site_id"),
            User.name.label("user_name"),
        )
        .outerjoin(User, User.uuid == AuditEvent.actor_uuid)
        .where(AuditEvent.entity_uuid.in_(concerned), is_told)
        .order_by(AuditEvent.id.desc())
        .limit(MOST_EVENTS)
    )
    return db.execute(query).all()[::-1]
