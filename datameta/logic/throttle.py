"""Attempts are counted, and slowed down where there are too many; nobody is ever locked out for good.

Each rule is a bucket that empties at a steady rate (GCRA): so many attempts at once, so many in a
period. Buckets are kept by the database's clock, so that all processes share them. An attempt is
counted before it is made, in a transaction of its own; many at once can therefore not slip through.
"""

import hashlib
import ipaddress
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Interval, cast, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, sessionmaker

from datameta.errors import TooManyRequestsError
from datameta.models import Throttle

Sessions = sessionmaker[Session]
Attempt = tuple[str, str | None]
"""A rule's name, and who is held to it; None is nobody, whom no rule can hold."""


@dataclass(frozen=True)
class Rule:
    """So many attempts in so many seconds."""

    limit: int
    seconds: int

    @property
    def interval(self) -> timedelta:
        """Return the time in which one attempt is forgotten."""
        return timedelta(seconds=self.seconds / self.limit)


RULES = {
    "login_account": Rule(10, 15 * 60),
    "login_ip": Rule(30, 15 * 60),
    "login_site": Rule(1000, 5 * 60),
    "login_notice": Rule(1, 15 * 60),
    "otp_minutes": Rule(5, 5 * 60),
    "otp_hour": Rule(20, 3600),
    "otp_day": Rule(50, 86400),
    "reset_account": Rule(5, 86400),
    "reset_ip": Rule(20, 86400),
    "registration": Rule(5, 86400),
    "bad_key": Rule(100, 60),
}
IP_RULES = {"login_ip", "reset_ip", "registration", "bad_key"}


def take(sessions: Sessions, rule: str, subject: str | None) -> None:
    """Count one attempt; raises ``TooManyRequestsError`` if there were too many."""
    take_all(sessions, [(rule, subject)])


def take_all(sessions: Sessions, attempts: Sequence[Attempt]) -> None:
    """Count one attempt against several rules, or against none if one is exceeded.

    Raises ``TooManyRequestsError``.
    """
    # In the order of the buckets, so that two requests never wait for each other.
    buckets = {_name_bucket(rule, subject): RULES[rule] for rule, subject in attempts if subject is not None}
    with sessions() as db:
        waits = [wait for name in sorted(buckets) if (wait := _fill(db, name, buckets[name])) is not None]
        if not waits:
            db.commit()
            return
    raise TooManyRequestsError(retry_after=max(waits))


def is_free(sessions: Sessions, rule: str, subject: str | None) -> bool:
    """Count one attempt, and say whether it was within the rule."""
    try:
        take(sessions, rule, subject)
    except TooManyRequestsError:
        return False
    return True


def clear(db: Session, attempts: Sequence[Attempt]) -> None:
    """Forget the attempts by these rules."""
    names = [_name_bucket(rule, subject) for rule, subject in attempts if subject is not None]
    # Locked in the order in which ``take_all`` locks them.
    locked = select(Throttle.bucket).where(Throttle.bucket.in_(names)).order_by(Throttle.bucket).with_for_update()
    db.execute(delete(Throttle).where(Throttle.bucket.in_(locked)))


def give_back(db: Session, rule: str, subject: str | None) -> None:
    """Forget one attempt: it was none that the rule is about."""
    if subject is not None:
        name = _name_bucket(rule, subject)
        interval = RULES[rule].interval
        db.execute(update(Throttle).where(Throttle.bucket == name).values(empty_at=Throttle.empty_at - interval))


def delete_empty_buckets(db: Session) -> int:
    """Delete the buckets that are empty, and return how many; the sweep calls it."""
    emptied = delete(Throttle).where(Throttle.empty_at < func.now()).returning(Throttle.bucket)
    return len(db.scalars(emptied).all())


def _fill(db: Session, name: str, rule: Rule) -> int | None:
    """Count one attempt in a bucket; return None, or after how many seconds there is room in it."""
    clock = func.clock_timestamp()
    filled = func.greatest(Throttle.empty_at, clock) + rule.interval
    statement = (
        insert(Throttle)
        .values(bucket=name, empty_at=clock + rule.interval)
        .on_conflict_do_update(index_elements=["bucket"], set_={"empty_at": filled})
        .returning(cast(Throttle.empty_at - clock, Interval))
    )
    over = db.execute(statement).scalar_one() - timedelta(seconds=rule.seconds)
    return math.ceil(over.total_seconds()) if over > timedelta(0) else None


def _name_bucket(rule: str, subject: str) -> str:
    if rule in IP_RULES:
        return f"{rule}:{_name_network(subject)}"
    return f"{rule}:{hashlib.sha256(subject.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _name_network(ip: str) -> str:
    """Return what one may own at will: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        address = ipaddress.ip_address(ip.partition("%")[0])
    except ValueError:
        return ip[:100]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
