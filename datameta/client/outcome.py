"""How it ended with a file, for people and for scripts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIRMED = "confirmed"
FETCHED = "fetched"
PRESENT = "already_there"
REFUSED = "refused"
UNFINISHED = "unfinished"


@dataclass(frozen=True)
class Outcome:
    """How it ended with a file; ``file`` is what the portal says of it, if it got that far.

    Without a ``path`` it was not looked for here, as the portal has it for good.
    """

    path: Path | None
    name: str
    size: int
    state: str
    file: dict[str, Any] | None = None
    error: str | None = None

    def describe(self) -> str:
        """Return a line for people."""
        site = f" ({self.file['id']['site']})" if self.file else ""
        return f"{self.name}{site}: {self.state.replace('_', ' ')}" + (f": {self.error}" if self.error else "")

    def to_dict(self) -> dict[str, Any]:
        """Return the object of ``--json``."""
        return {
            "path": None if self.path is None else str(self.path),
            "id": self.file["id"] if self.file else None,
            "name": self.name,
            "size": self.size,
            "checksum": self.file["checksum"] if self.file else None,
            "state": self.state,
            "error": self.error,
        }
