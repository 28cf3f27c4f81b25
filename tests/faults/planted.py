"""Bugs to plant, so that the checker can show that it finds them.

Each is a way in which a portal could well have been written. Where only a crash at the wrong moment shows it, that
moment is made longer.
"""

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from sqlalchemy import delete, make_url

from datameta.identifiers import find_by_id
from datameta.logic import claims, files
from datameta.logic.file_rows import EXISTING, is_bound
from datameta.models import File
from datameta.storage import ChecksumMismatchError, NoDataError, PresignedRequest, StorageError, StoredObject
from datameta.storage.s3 import STAGED, S3Storage

WINDOW_SECONDS = 0.3


def plant_plain_put() -> None:
    """Let clients PUT to the file's own key, by an address that outlives the confirmation."""
    presign = S3Storage.presign_upload

    def begin_upload(store: S3Storage, key: str, checksum: str) -> str:
        return STAGED

    def presign_upload(
        store: S3Storage, key: str, upload: str, checksum: str, *, seconds: int, size: int | None = None
    ) -> PresignedRequest:
        request = presign(store, key, STAGED, checksum, seconds=seconds)
        target = {"Bucket": store._bucket, "Key": key}
        url = store._public.generate_presigned_url("put_object", target, ExpiresIn=seconds)
        return dataclasses.replace(request, url=url, headers={})

    def complete(store: S3Storage, key: str, upload: str, checksum: str) -> StoredObject:
        if store.size(key) is None:
            raise NoDataError
        content = b"".join(store.read(key))
        md5, sha256 = hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()
        if checksum not in (md5, sha256):
            raise ChecksumMismatchError
        return StoredObject(key, len(content), md5, sha256)

    _replace(S3Storage, begin_upload, presign_upload, complete)


def plant_early_state() -> None:
    """Say that a file is confirmed, and then ask the store to complete it."""
    real = S3Storage.complete
    confirm = (
        "UPDATE files SET state = 'confirmed', storage_key = %(key)s, size = 0, confirmed_at = now() "
        "WHERE 'files/' || uuid = %(key)s AND state = 'confirming'"
    )
    undo = (
        "UPDATE files SET state = 'confirming', storage_key = NULL, size = NULL, confirmed_at = NULL "
        "WHERE 'files/' || uuid = %(key)s AND state = 'confirmed' AND size = 0"
    )
    note = "UPDATE files SET size = %(size)s, md5 = %(md5)s WHERE 'files/' || uuid = %(key)s"

    def complete(store: S3Storage, key: str, upload: str, checksum: str) -> StoredObject:
        if len(checksum) != 32:
            return real(store, key, upload, checksum)
        _execute(confirm, key=key)
        time.sleep(WINDOW_SECONDS)
        try:
            stored = real(store, key, upload, checksum)
        except StorageError:
            _execute(undo, key=key)
            raise
        _execute(note, key=key, size=stored.size, md5=checksum)
        return stored

    _replace(S3Storage, complete)


def plant_check_then_insert() -> None:
    """Look whether a value is taken, and if not take it."""

    def insert_claims(db: Any, wanted: Sequence[claims.Claim]) -> list[claims.Claim]:
        taken = claims.find_taken(db, wanted)
        if not taken:
            time.sleep(WINDOW_SECONDS)
            real(db, wanted)
        return taken

    real = claims.insert_claims
    _replace(claims, insert_claims)


def plant_no_intent() -> None:
    """Delete the bytes of a file, and then say so in its row."""

    def delete_files(sessions: Any, actor: Any, *, storage: Any, file_ids: Sequence[str]) -> None:
        with sessions() as db:
            found = [find_by_id(db, File, file_id) for file_id in file_ids]
        if any(is_bound(file) or file.state not in EXISTING or file.user_id != actor.id for file in found):
            real(sessions, actor, storage=storage, file_ids=file_ids)
            return
        for file in found:
            storage.abort(file.upload_key, file.upload)
            storage.delete(file.storage_key or file.upload_key)
        time.sleep(WINDOW_SECONDS)
        with sessions.begin() as db:
            db.execute(delete(File).where(File.id.in_([file.id for file in found]), File.submission_id.is_(None)))

    real = files.delete_files
    _replace(files, delete_files)


BUGS: dict[str, Callable[[], None]] = {
    "plain-put": plant_plain_put,
    "early-state": plant_early_state,
    "check-then-insert": plant_check_then_insert,
    "no-intent": plant_no_intent,
}


def _replace(where: Any, *functions: Callable[..., Any]) -> None:
    for function in functions:
        setattr(where, function.__name__, function)


def _execute(statement: str, **values: Any) -> None:
    url = make_url(os.environ["DATAMETA_DATABASE_URL"]).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False)) as connection:
        connection.execute(statement, values)
