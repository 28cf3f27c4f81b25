"""Repeated requests: the same ``Idempotency-Key`` and body get the same answer, and nothing happens twice.

The answer is kept in the transaction of what was done: both exist or neither does. A second request
with the key waits for the first; after a refusal, which has changed nothing, the key is free again.
"""

import hashlib

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from datameta.authz import Actor
from datameta.errors import IdempotencyError
from datameta.models import IdempotentAnswer
from datameta.vault import Vault

LIFE = text("interval '24 hours'")


def find_answer(db: Session, actor: Actor, vault: Vault, *, operation: str, key: str, body: bytes) -> bytes | None:
    """Return the answer that was given before, or None after the key has been taken for this transaction.

    Raises ``IdempotencyError`` if the key came with another body.
    """
    mine = (
        IdempotentAnswer.user_id == actor.id,
        IdempotentAnswer.operation == operation,
        IdempotentAnswer.key == key,
    )
    body_hash = hashlib.sha256(body).digest()
    db.execute(delete(IdempotentAnswer).where(*mine, IdempotentAnswer.created_at < func.now() - LIFE))
    row = {"user_id": actor.id, "operation": operation, "key": key, "body_hash": body_hash}
    taken = db.scalar(insert(IdempotentAnswer).values(row).on_conflict_do_nothing().returning(IdempotentAnswer.user_id))
    if taken is not None:
        return None
    former = db.scalars(select(IdempotentAnswer).where(*mine)).one()
    if former.body_hash != body_hash:
        raise IdempotencyError
    return vault.decrypt(former.answer) if former.answer is not None else None


def keep_answer(db: Session, actor: Actor, vault: Vault, *, operation: str, key: str, answer: bytes) -> None:
    """Keep the answer for 24 hours, encrypted: it may hold a token."""
    statement = update(IdempotentAnswer).where(
        IdempotentAnswer.user_id == actor.id,
        IdempotentAnswer.operation == operation,
        IdempotentAnswer.key == key,
    )
    db.execute(statement.values(answer=vault.encrypt(answer)))
