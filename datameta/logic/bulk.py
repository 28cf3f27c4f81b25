"""Many things in one call: each is judged as if it came alone; then all are made, or only those that are right.

What is wrong is told at its place: of the fourth record's field ``Lab-ID`` as ``records/3/Lab-ID``, as the check
of the specification does.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Generic, NoReturn, TypeVar

from datameta.errors import DataMetaError

Made = TypeVar("Made")


@dataclass(frozen=True)
class Outcome(Generic[Made]):
    """What was made of one thing, or (``made`` is None) why nothing was."""

    made: Made | None = None
    error: DataMetaError | None = None


def refuse_all(errors: Mapping[int, DataMetaError], *, place: str) -> NoReturn:
    """Raise one error with what is wrong with each thing of the list ``place``, by its number from 0."""
    kind = type(next(iter(errors.values())))
    raise kind(
        replace(problem, field="/".join(filter(None, (place, str(number), problem.field))))
        for number, error in errors.items()
        for problem in error.problems
    )


def list_outcomes(made: Iterator[Made], errors: Mapping[int, DataMetaError], *, count: int) -> list[Outcome[Made]]:
    """Return what became of so many things: of each without an error, the next of what was made."""
    return [Outcome(error=errors[number]) if number in errors else Outcome(next(made)) for number in range(count)]
