"""Sessions of browsers: each has a token of its own, in a cookie, and ends by itself, by its user, or with a right."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from datameta.authz import Actor
from datameta.credentials import hash_token, make_token
from datameta.errors import ForbiddenError, NotFoundError
from datameta.identifiers import find_by_id
from datameta.logic.appsettings import get_setting
from datameta.logic.audit import record_event
from datameta.models import LoginSession

MAX_USER_AGENT = 1000


def create_session(db: Session, actor: Actor, *, user_agent: str | None) -> tuple[LoginSession, str]:
    """Begin a session; return it and its token, which only the cookie holds."""
    token = make_token()
    session = LoginSession(
        user_id=actor.id,
        token_hash=hash_token(token),
        expires_at=func.now() + timedelta(hours=get_setting(db, "session_max_hours")),
        ip=actor.origin.ip,
        user_agent=user_agent and user_agent[:MAX_USER_AGENT],
    )
    db.add(session)
    db.flush()
    return session, token


def list_sessions(db: Session, actor: Actor) -> Sequence[LoginSession]:
    """Return the actor's sessions that have not ended, newest first."""
    idle = timedelta(hours=get_setting(db, "session_idle_hours"))
    live = (LoginSession.expires_at > func.now(), LoginSession.last_seen_at >= func.now() - idle)
    own = select(LoginSession).where(LoginSession.user_id == actor.id, *live)
    return db.scalars(own.order_by(LoginSession.id.desc())).all()


def find_current_session(db: Session, actor: Actor) -> LoginSession:
    """Load the session that the actor came with.

    Raises ``NotFoundError`` if it was a key, or if the session has ended meanwhile.
    """
    session = None if actor.session_id is None else db.get(LoginSession, actor.session_id)
    if session is None:
        raise NotFoundError("The request did not come with a session.")
    return session


def end_current_session(db: Session, actor: Actor) -> None:
    """Sign out.

    Raises ``NotFoundError``.
    """
    session = find_current_session(db, actor)
    db.execute(delete(LoginSession).where(LoginSession.id == session.id))
    record_event(db, "logout", actor=actor, entity=session)


def end_session(db: Session, actor: Actor, *, session_id: str) -> None:
    """End one of the actor's own sessions.

    Raises ``NotFoundError``, ``ForbiddenError``.
    """
    session = find_by_id(db, LoginSession, session_id, lock=True)
    if session.user_id != actor.id:
        raise ForbiddenError
    db.execute(delete(LoginSession).where(LoginSession.id == session.id))
    record_event(db, "session.ended", actor=actor, entity=session)


def end_sessions(db: Session, user_id: int, except_id: int | None = None) -> int:
    """End all sessions of a user, but for the one that may stay; return how many."""
    ended = delete(LoginSession).where(LoginSession.user_id == user_id, LoginSession.id.is_distinct_from(except_id))
    return len(db.scalars(ended.returning(LoginSession.id)).all())
