"""The arithmetic of uploads in parts: how large, how many, and how long each is.

Within the limits of S3: 10,000 parts of at most 5 GiB, all but the last of at least 5 MiB, 5 TiB in all.
"""

from collections.abc import Iterable

from datameta.models import File

MIB = 1024**2
MAX_SIZE = 5 * 1024**4
SMALLEST_PART = 16 * MIB
USUAL_PARTS = 2000
"""Parts grow with the file, so that there are about so many at most: what is lost with a connection stays small."""


def choose_part_size(size: int) -> int:
    """Return the size of the parts, in bytes, for a file of ``size`` bytes: a multiple of 1 MiB."""
    return max(SMALLEST_PART, -(-size // (USUAL_PARTS * MIB)) * MIB)


def count_parts(file: File) -> int:
    """Return how many parts a session's file has; an empty one has one, empty."""
    size, part_size = sizes_of(file)
    return max(1, -(-size // part_size))


def part_length(file: File, number: int) -> int:
    """Return how many bytes a part has."""
    size, part_size = sizes_of(file)
    return min(part_size, size - (number - 1) * part_size)


def sizes_of(file: File) -> tuple[int, int]:
    """Return size and part size of a session's file, in bytes."""
    assert file.announced_size is not None, "no session"
    assert file.part_size is not None, "no session"
    return file.announced_size, file.part_size


def format_numbers(numbers: Iterable[int]) -> str:
    """Return ascending numbers as people write them: ``1, 3-5, 9``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
