"""What can go wrong, as exceptions that carry every problem found and know no HTTP.

``DataMetaError``
 ├─ ``UnauthenticatedError``          no, unknown, expired or disabled credential
 ├─ ``ForbiddenError``                known, but not allowed
 │   └─ ``ResourceNotModifiableError`` the thing can no longer be changed
 ├─ ``NotFoundError``                 the id does not exist
 ├─ ``ValidationError``               the request breaks a rule; one problem per fault
 ├─ ``ConflictError``                 the request is right, but not in this state
 ├─ ``TooLargeError``                 more bytes than the portal takes
 ├─ ``IdempotencyError``              the same Idempotency-Key came with another body
 ├─ ``TooManyRequestsError``          too many attempts; the same is answered later
 ├─ ``GoneError``                     it existed, but its time is over
 └─ ``UnavailableError``              the database or the store does not answer; try again

``datameta.api.errors`` maps each class to its status and renders the problems.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One fault: what a person reads, a stable code, and where it is.

    ``entity`` is an Identifier dict (``uuid`` and, where there is one, ``site``);
    ``field`` is the name of the field, parameter or metadatum at fault; ``suggestion`` is a value that would do,
    told where an answer has room for it.
    """

    message: str
    code: str
    field: str | None = None
    entity: dict[str, Any] | None = None
    suggestion: str | None = None


class DataMetaError(Exception):
    """The base of all refusals; ``problems`` is never empty."""

    code = "error"
    message = "The request could not be carried out."

    def __init__(self, problems: Iterable[Problem] | Problem | str | None = None, *, code: str | None = None) -> None:
        if problems is None or isinstance(problems, str):
            problems = [Problem(problems or self.message, code or self.code)]
        elif isinstance(problems, Problem):
            problems = [problems]
        self.problems = list(problems)
        assert self.problems, "a refusal without a problem"
        super().__init__("; ".join(problem.message for problem in self.problems))


class UnauthenticatedError(DataMetaError):
    code = "unauthenticated"
    message = "Sign in, or send a valid API key as 'Authorization: Bearer …'."


class ForbiddenError(DataMetaError):
    code = "forbidden"
    message = "You are not allowed to do this."


class ResourceNotModifiableError(ForbiddenError):
    code = "not_modifiable"
    message = "This can no longer be changed."


class NotFoundError(DataMetaError):
    code = "not_found"
    message = "There is nothing with this id."


class ValidationError(DataMetaError):
    code = "invalid"
    message = "The request is not valid."


class ConflictError(DataMetaError):
    code = "conflict"
    message = "The request does not fit the current state."


class IdempotencyError(DataMetaError):
    code = "idempotency_key_reused"
    message = "This Idempotency-Key was used with another body; take a new key for a new request."


class TooLargeError(DataMetaError):
    code = "too_large"
    message = "The request is larger than the portal accepts."


class GoneError(DataMetaError):
    code = "expired"
    message = "This has expired."


class TooManyRequestsError(DataMetaError):
    """``retry_after`` is in how many seconds there is room for another attempt."""

    code = "too_many_requests"
    message = "There were too many attempts. Wait before you try again."

    def __init__(self, *, retry_after: int) -> None:
        super().__init__()
        self.retry_after = retry_after


class UnavailableError(DataMetaError):
    code = "unavailable"
    message = "The portal cannot reach its database or its store at the moment. Nothing was lost; try again shortly."
