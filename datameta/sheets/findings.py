"""Findings: what is wrong with a sheet, where, and how to mend it; identical ones are one, with all their cells."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from datameta.sheets.values import Severity, to_letters

MOST_FINDINGS = 10_000
"""Different findings of each severity that are told; the rest is counted. No warning takes the place of an error."""


@dataclass(frozen=True)
class Place:
    """A cell: ``row`` from 1, ``column`` from 0; a whole row or column has no other, a sheet neither."""

    sheet: str
    row: int | None = None
    column: int | None = None


@dataclass
class Finding:
    """One finding. ``rows`` are ascending; without any it is about the sheet, or the whole column."""

    severity: Severity
    code: str
    message: str
    sheet: str
    column: int | None = None
    field: str | None = None
    value: str | None = None
    suggestion: str | None = None
    rows: list[int] = dataclasses.field(default_factory=list)

    @property
    def count(self) -> int:
        """How many cells it is about."""
        return max(1, len(self.rows))

    @property
    def cell(self) -> str | None:
        """The first cell, as ``B17``; None if it is about no single cell."""
        return f"{to_letters(self.column)}{self.rows[0]}" if self.rows and self.column is not None else None

    def list_areas(self) -> list[str]:
        """Return all cells (of a whole row: ``17:17``), runs as ``B17:B19``."""
        runs: list[list[int]] = []
        for row in self.rows:
            if runs and row == runs[-1][1] + 1:
                runs[-1][1] = row
            else:
                runs.append([row, row])
        letters = "" if self.column is None else to_letters(self.column)
        return [
            f"{letters}{first}" if first == last and letters else f"{letters}{first}:{letters}{last}"
            for first, last in runs
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the finding as it passes between processes."""
        return {**vars(self), "severity": str(self.severity)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Finding":
        """Return the finding that ``to_json`` wrote."""
        return cls(**{**value, "severity": Severity(value["severity"])})


class Findings:
    """The findings of one check: grouped as they come, in bounded memory, and counted all."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(Severity, 0)
        self.omitted = 0
        self._groups: dict[tuple[Any, ...], Finding] = {}
        self._room = dict.fromkeys(Severity, MOST_FINDINGS)

    def add(self, finding: Finding, *, is_counted: bool = True) -> None:
        """Add a finding to the one that differs in its rows only; count it, unless it is counted with others."""
        if is_counted:
            self.counts[finding.severity] += finding.count
        key = (finding.code, finding.sheet, finding.column, finding.value, finding.message, finding.suggestion)
        known = self._groups.get(key)
        if known is not None:
            known.rows.extend(finding.rows)
        elif self._room[finding.severity]:
            self._room[finding.severity] -= 1
            self._groups[key] = finding
        else:
            self.omitted += finding.count

    def count(self, counts: dict[str, int], *, omitted: int) -> None:
        """Count what another process has found, and left out."""
        for severity, count in counts.items():
            self.counts[Severity(severity)] += count
        self.omitted += omitted

    def __iter__(self) -> Iterator[Finding]:
        """Yield errors first, then by sheet and place."""
        severities = list(Severity)

        def order(finding: Finding) -> tuple[Any, ...]:
            column = -1 if finding.column is None else finding.column
            return severities.index(finding.severity), finding.sheet, finding.rows[:1], column

        for finding in self._groups.values():
            finding.rows.sort()
        return iter(sorted(self._groups.values(), key=order))
