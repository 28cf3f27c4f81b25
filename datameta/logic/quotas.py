"""Room in the store: how much a user and a group may have there, where a site admin has set a limit.

What was announced with its size is refused at the announcement, never once its bytes were sent. A file
counts with its size, before its confirmation with the announced one.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from datameta.authz import Actor
from datameta.errors import Problem, TooLargeError
from datameta.logic.appsettings import get_settings
from datameta.models import File, Group, User

QUOTAS = ("quota_user_bytes", "quota_group_bytes")
HOLDERS = ("You have", "Your group has")
UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")


def check_quotas(db: Session, actor: Actor, *, size: int | None) -> None:
    """Check that there is room for ``size`` more bytes, or for anything at all if the size is not known.

    What adds nothing is never refused: its room was given before. The room is the actor's until the transaction ends.
    Raises ``TooLargeError`` naming each full quota.
    """
    [refusal] = find_full_quotas(db, actor, sizes=[size])
    if refusal is not None:
        raise refusal


def find_full_quotas(db: Session, actor: Actor, *, sizes: Sequence[int | None]) -> list[TooLargeError | None]:
    """Return for each size, as ``check_quotas`` takes it, why there is no room for it beside those before, or None."""
    found: list[TooLargeError | None] = [None] * len(sizes)
    limits = get_settings(db, *QUOTAS) if any(size is None or size > 0 for size in sizes) else {}
    if not any(limits.values()):
        return found
    # One announcement of a group at a time: else two at once would both take the last room.
    db.execute(select(Group.id).where(Group.id == actor.group_id).with_for_update(key_share=True))
    rooms = [
        (holder, limits[key], _sum_sizes(db, is_theirs))
        for (key, is_theirs), holder in zip(_list_holders(actor).items(), HOLDERS, strict=True)
        if limits[key]
    ]
    taken = 0
    for number, size in enumerate(sizes):
        if size is not None and size <= 0:
            continue
        refusals = [
            _make_refusal(holder, limit, used + taken, size)
            for holder, limit, used in rooms
            if used + taken + (1 if size is None else size) > limit
        ]
        if refusals:
            found[number] = TooLargeError(problem for refusal in refusals for problem in refusal.problems)
        else:
            taken += size or 0
    return found


def measure_usage(db: Session, actor: Actor) -> list[tuple[int, int | None]]:
    """Return the bytes and the quota (None: no limit) of the actor, and those of the actor's group."""
    limits = get_settings(db, *QUOTAS)
    return [(_sum_sizes(db, is_theirs), limits[key] or None) for key, is_theirs in _list_holders(actor).items()]


def format_size(size: int) -> str:
    """Return a number of bytes as people read it, in decimal units."""
    power = max(0, min((len(str(size)) - 1) // 3, len(UNITS) - 1))
    return f"{size / 1000**power:.3g} {UNITS[power]}"


def _make_refusal(holder: str, limit: int, used: int, size: int | None) -> TooLargeError:
    more = "" if size is None else f", and this file has {format_size(size)}"
    room, most = format_size(used), format_size(limit)
    message = f"{holder} {room} of {most} here{more}. Delete what is not needed, or ask for more."
    return TooLargeError(Problem(message, "quota_exceeded"))


def _list_holders(actor: Actor) -> dict[str, ColumnElement[bool]]:
    """Return whose files each quota is about."""
    of_group = File.user_id.in_(select(User.id).where(User.group_id == actor.group_id))
    return dict(zip(QUOTAS, (File.user_id == actor.id, of_group), strict=True))


def _sum_sizes(db: Session, is_theirs: ColumnElement[bool]) -> int:
    occupied = func.coalesce(File.size, File.announced_size, 0)
    return int(db.scalars(select(func.coalesce(func.sum(occupied), 0)).where(is_theirs)).one())
