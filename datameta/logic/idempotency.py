"""Repeated requests: the same ``Idempotency-Key`` and body get the same answer, and nothing happens twice.

The answer is kept in the transaction of what was done: both exist or neither does. A second request
with the key waits for the first; after a refusal, which has changed nothing, the key is free again.
"""

import hashlib

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from datameta.authz import Actor
from datameta.errors import ConflictError, IdempotencyError
from datameta.models import IdempotentAnswer
from datameta.vault import Vault

LIFE = text("interval '24 hours'")


def find_answer(db: Session, actor: Actor, vault: Vault, *, operation: str, key: str, body: bytes) -> bytes | None:
    """Return the answer that was given before, or None after the key has been taken for this transaction.

    Raises ``IdempotencyError`` if the key came with another body, ``ConflictError`` if the site's key no
    longer opens the answer.
    """
    mine = (
        IdempotentAnswer.user_id == actor.id,
        IdempotentAnswer.operation == operation,
        IdempotentAnswer.key == key,
    )
    body_hash = hashlib.sha256(body).digest()
    row = {"user_id": actor.id, "operation": operation, "key": key, "body_hash": body_hash}
    # The conflict locks the former row, also where it is not replaced: nobody removes it before it is read.
    take = insert(IdempotentAnswer).on_conflict_do_update(
        index_elements=["user_id", "operation", "key"],
        set_={"body_hash": body_hash, "answer": None, "created_at": func.now()},
        where=IdempotentAnswer.created_at < func.now() - LIFE,
    )
    if db.scalar(take.values(row).returning(IdempotentAnswer.user_id)) is not None:
        return None
    former = db.scalars(select(IdempotentAnswer).where(*mine)).one()
    if former.body_hash != body_hash:
        raise IdempotencyError
    answer = None if former.answer is None else vault.decrypt(former.answer)
    if answer is None:
        message = "This was done before, but its answer can no longer be read; look at what there is."
        raise ConflictError(message, code="answer_unreadable")
    return answer


def keep_answer(db: Session, actor: Actor, vault: Vault, *, operation: str, key: str, answer: bytes) -> None:
    """Keep the answer for 24 hours, encrypted: it may hold a token."""
    statement = update(IdempotentAnswer).where(
        IdempotentAnswer.user_id == actor.id,
        IdempotentAnswer.operation == operation,
        IdempotentAnswer.key == key,
    )
    db.execute(statement.values(answer=vault.encrypt(answer)))
