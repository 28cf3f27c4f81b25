"""Where bytes are kept: one interface (``base``), a local and an S3 backend.

The rule this module guards: the rest of the portal knows the interface only, never a backend.
"""

from datameta.settings import Settings
from datameta.storage.base import (
    ChecksumMismatchError,
    Finding,
    NoDataError,
    OpenUpload,
    Part,
    PresignedRequest,
    Storage,
    StorageError,
    StorageUnavailableError,
    StoredEntry,
    StoredObject,
    UploadGoneError,
    checksum_algorithm,
)

__all__ = [
    "ChecksumMismatchError",
    "Finding",
    "NoDataError",
    "OpenUpload",
    "Part",
    "PresignedRequest",
    "Storage",
    "StorageError",
    "StorageUnavailableError",
    "StoredEntry",
    "StoredObject",
    "UploadGoneError",
    "checksum_algorithm",
    "open_storage",
]


def open_storage(settings: Settings, *, proves_md5: bool = True) -> Storage:
    """Return the store that the settings name; nothing is read or written yet.

    ``proves_md5`` is what a former ``check`` found out about this S3 store.
    """
    if settings.storage == "s3":
        # Loading boto3 takes a quarter of a second, which an installation without S3 need not wait for.
        from datameta.storage.s3 import S3Storage

        return S3Storage(settings, proves_md5=proves_md5)
    from datameta.storage.local import LocalStorage

    return LocalStorage(settings.home / "storage")
