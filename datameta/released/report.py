"""What an import has done, or would do: how many of each kind, and everything that did not go over as it was."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

KINDS = (
    "groups",
    "users",
    "API keys",
    "registrations",
    "services",
    "fields",
    "settings",
    "submissions",
    "files",
    "metadatasets",
    "service executions",
)


def shorten(text: str, longest: int) -> str:
    """Return the beginning of a text, as it is shown."""
    return text if len(text) <= longest else f"{text[:longest]}…"


@dataclass(frozen=True)
class Remark:
    """Something that is other here than it was there, and what becomes of it."""

    subject: str
    message: str


@dataclass
class Report:
    """Counts by kind, and remarks in the order in which they came up."""

    found: Counter[str] = field(default_factory=Counter)
    new: Counter[str] = field(default_factory=Counter)
    remarks: list[Remark] = field(default_factory=list)

    def count(self, kind: str, *, found: int, new: int) -> None:
        """Count things of a kind: there, and of these not yet here."""
        self.found[kind] += found
        self.new[kind] += new

    def remark(self, subject: str, message: str) -> None:
        """Note that something is other here."""
        self.remarks.append(Remark(shorten(subject, 100), message))

    def list_lines(self) -> Iterator[str]:
        """Yield the report as lines."""
        yield f"{'there':>10}  {'new here':>10}"
        for kind in KINDS:
            yield f"{self.found[kind]:10,}  {self.new[kind]:10,}  {kind}"
        if self.remarks:
            yield ""
            yield "What is other here than it was there:"
        for remark in self.remarks:
            yield f"- {remark.subject}: {remark.message}"
