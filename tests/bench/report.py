"""What a benchmark yields, and the table that shows it."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ROUNDS = 5
HEADER = ("figure", "measured", "unit", "to reach", "bare limit", "ratio")
WIDTHS = (64, 10, 6, 10, 10, 6)


@dataclass(frozen=True)
class Figure:
    """One measured number; ``bare`` is what the machine does without a portal.

    The value must stay under ``below``, and its ratio to ``bare`` must be ``least_ratio`` or more.
    """

    name: str
    value: float
    unit: str
    below: float | None = None
    bare: float | None = None
    least_ratio: float = 0

    @property
    def is_missed(self) -> bool:
        """Say whether the limit was not reached."""
        is_too_high = self.below is not None and self.value >= self.below
        return is_too_high or (self.bare is not None and self.value < self.least_ratio * self.bare)


def measure_seconds(action: Callable[[], Any]) -> float:
    """Return how long an action takes."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def median_seconds(action: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """Return the median of how long an action takes."""
    return statistics.median(measure_seconds(action) for _ in range(rounds))


def format_header() -> str:
    """Return the first two lines of the table, in Markdown."""
    return _format_row(HEADER) + "\n" + _format_row(["-" * width for width in WIDTHS])


def format_figure(figure: Figure) -> str:
    """Return a figure as a line of the table."""
    limit = "" if figure.below is None else f"< {figure.below:g}"
    limit += f"≥ {figure.least_ratio:.0%}" if figure.least_ratio else ""
    limit += " MISSED" if figure.is_missed else ""
    bare, ratio = (
        ("", "") if figure.bare is None else (_format_number(figure.bare), f"{figure.value / figure.bare:.2f}")
    )
    return _format_row((figure.name, _format_number(figure.value), figure.unit, limit, bare, ratio))


def _format_row(cells: Any) -> str:
    return "| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True)) + " |"


def _format_number(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
