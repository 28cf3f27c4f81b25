"""What S3 stores answer, and what it means.

The rule this module guards: whatever the store or the way to it refuses, and nobody expected, is
``StorageUnavailableError``; it is logged by its code, since the messages of botocore name addresses and keys.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import urllib3
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from datameta.storage.base import StorageUnavailableError

logger = logging.getLogger(__name__)


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn whatever nobody expected into ``StorageUnavailableError``."""
    try:
        yield
    except ClientError as error:
        logger.error("The store refused %s: %s (HTTP %d)", error.operation_name, code_of(error), _status(error))
        raise StorageUnavailableError(f"{error.operation_name}: {code_of(error)}") from error
    except ParamValidationError:
        raise
    except (BotoCoreError, urllib3.exceptions.HTTPError) as error:
        logger.error("The store does not answer: %s", type(error).__name__)
        raise StorageUnavailableError(type(error).__name__) from error


def code_of(error: ClientError) -> str:
    """Return the store's word for what is wrong."""
    return error.response["Error"]["Code"]


def is_missing(error: ClientError) -> bool:
    """Say whether the object or upload that was named is not there."""
    return _status(error) == 404 and code_of(error) != "NoSuchBucket"


def _status(error: ClientError) -> int:
    return error.response["ResponseMetadata"]["HTTPStatusCode"]


def md5_of(data: bytes) -> str:
    """Return the lower-case hex MD5 of ``data``."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def etag_of(text: str) -> str:
    """Return an ETag as stores compare it."""
    return text.strip('"').lower()


def find_proofs(md5s: Sequence[str]) -> set[str]:
    """Return the ETags by which a store says that an object consists of parts with these MD5s."""
    composite = md5_of(b"".join(bytes.fromhex(md5) for md5 in md5s))
    # Some say of a single part what they say of an object that was put at once.
    return {f"{composite}-{len(md5s)}", *(md5s if len(md5s) == 1 else ())}
