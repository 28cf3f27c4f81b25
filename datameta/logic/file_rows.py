"""What all modules on files share: the states that clients see, loading under a lock, errors of the store.

The rule of them all: no call to the store stands inside a transaction, and each is announced by the
transaction before it, so that ``logic/sweep.py`` can finish or undo it after a crash.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import delete, func
from sqlalchemy.orm import Session

from datameta.authz import Actor, may_change_file
from datameta.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
    Problem,
    ResourceNotModifiableError,
    TooLargeError,
    UnavailableError,
)
from datameta.identifiers import find_by_id, to_identifier
from datameta.logic import audit
from datameta.metrics import CONFIRMED_BYTES
from datameta.models import File, FileState, UploadPart
from datameta.storage import StorageUnavailableError

log = logging.getLogger(__name__)

EXISTING = (
    FileState.ANNOUNCED,
    FileState.CONFIRMING,
    FileState.VERIFYING,
    FileState.FAILED,
    FileState.CONFIRMED,
)


@dataclass(frozen=True)
class Announced:
    """What the owner may still change of a file."""

    name: str
    checksum: str


def lock_changeable(db: Session, actor: Actor, file_id: str) -> File:
    """Load and lock a file that the actor may still change.

    Raises ``NotFoundError``, ``ForbiddenError``, ``ResourceNotModifiableError`` once it is confirmed.
    """
    file = find_by_id(db, File, file_id, lock=True)
    if file.state not in EXISTING:
        raise NotFoundError
    if not may_change_file(actor, file):
        raise ForbiddenError
    if file.state == FileState.CONFIRMED:
        raise not_modifiable(file)
    return file


def make_suffix() -> str:
    """Return what tells the storage key of another upload of a file from those before."""
    return f".{uuid4().hex}"


def set_state(file: File, state: FileState) -> None:
    """Change the state, and note when."""
    file.state = state
    file.state_changed_at = func.now()


def return_to_announced(file: File) -> None:
    """Make a locked file ``announced`` again, as what it was before who wanted it confirmed changed it."""
    set_state(file, FileState.ANNOUNCED)
    if file.former is not None:
        file.name, file.checksum, file.former = file.former["name"], file.former["checksum"], None


def confirm(db: Session, file: File, actor: Actor | None) -> None:
    """Make a locked file with proven content ``confirmed``."""
    before, file.former = file.former, None
    file.confirmed_at = func.now()
    set_state(file, FileState.CONFIRMED)
    db.flush()
    CONFIRMED_BYTES.labels("single" if file.part_size is None else "parts").inc(file.size or 0)
    if file.part_size is not None:
        db.execute(delete(UploadPart).where(UploadPart.file_id == file.id))
    audit.record_event(
        db,
        "file.confirmed",
        actor=actor,
        entity=file,
        before=before,
        after={**describe(file), "size": file.size, "storage_key": file.storage_key},
    )


def describe(file: File) -> dict[str, str]:
    """Return what the audit says of a file."""
    return {"name": file.name, "checksum": file.checksum}


def is_bound(file: Any) -> bool:
    """Say whether the file, an entity or a row, is part of a submission or of a service's answer."""
    return file.submission_id is not None or file.service_execution_id is not None


def not_modifiable(file: File) -> ResourceNotModifiableError:
    """Return the refusal to change a confirmed file."""
    message = "The file is part of a submission." if is_bound(file) else "The file is confirmed already."
    return ResourceNotModifiableError(Problem(message, "not_modifiable", entity=to_identifier(file)))


def busy(file: File) -> ConflictError:
    """Return the refusal to change a file whose content is being confirmed or verified, or was found wrong."""
    entity = to_identifier(file)
    if file.state == FileState.VERIFYING:
        message = "The content of this file is being verified. Ask again later; nothing is to be sent again."
        return ConflictError(Problem(message, "verification_in_progress", entity=entity))
    if file.state == FileState.FAILED:
        return checksum_mismatch(file)
    message = "The file is being confirmed at this moment; try again."
    return ConflictError(Problem(message, "confirmation_running", entity=entity))


def is_same_upload(file: File, other: File) -> bool:
    """Say whether two states of a row are of one upload."""
    return (file.upload_key, file.upload) == (other.upload_key, other.upload)


def upload_replaced(file: File) -> ConflictError:
    """Return the refusal to confirm an upload in whose place another was opened meanwhile."""
    message = "Another upload of this file was opened at this moment. Send the file there."
    return ConflictError(Problem(message, "upload_replaced", entity=to_identifier(file)))


def checksum_mismatch(file: File) -> ConflictError:
    """Return the refusal of content that is not what was announced."""
    message = "The checksum of the uploaded data is not the announced one. Upload the file again, or correct it."
    return ConflictError(Problem(message, "checksum_mismatch", "checksum", to_identifier(file)))


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn a store that does not answer into ``UnavailableError``."""
    try:
        yield
    except StorageUnavailableError as error:
        log.warning("the store does not answer: %s", error)
        raise UnavailableError from None


def try_store(action: Callable[..., None], *arguments: str) -> None:
    """Do what would be nice to have done now; the sweeper does it later otherwise."""
    try:
        action(*arguments)
    except StorageUnavailableError:
        log.warning("the store did not answer while cleaning up %s; the sweeper will", arguments[0])


def limit_bytes(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """Yield the chunks; raise ``TooLargeError`` before more than ``limit`` bytes have passed."""
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit:
            raise TooLargeError(f"This upload takes at most {limit:,} bytes.")
        yield chunk
