"""A sample sheet on this computer, and what the portal says of it.

The rule this module guards: the sheet itself is read, and never written. What is said is of one state of it.
"""

from pathlib import Path
from typing import Any

from datameta.client.api import Portal, read_json
from datameta.client.network import ClientError
from datameta.client.progress import Display
from datameta.client.saving import save, save_beside
from datameta.client.source import open_source

# Of these the portal gives the findings as a file of their own.
PLAIN_FORMATS = ("csv", "tsv")


class Sheet:
    """A sheet's file; ``name`` says which of its sheets is meant, None that it is all that have a header."""

    def __init__(self, path: Path, name: str | None, portal: Portal, display: Display) -> None:
        self.source = open_source(path)
        self.bar = display.add(self.source.name, self.source.size, is_counted=False)
        self._name = name
        self._portal = portal
        self._display = display
        if is_open(path):
            display.print(f"{path} is open in another program: what is not saved there is not seen here.")

    def check(self) -> dict[str, Any]:
        """Return the portal's report; nothing is staged."""
        return self._ask("check")

    def stage(self) -> dict[str, Any]:
        """Stage all rows, or none; return the report with the set of each row.

        Rows that were staged before stay what they are.
        """
        return self._ask("stage")

    def annotate(self, report: dict[str, Any], path: Path | None, *, may_replace: bool) -> Path:
        """Save the sheet with its findings marked, beside it or at ``path``; return where."""
        content = self._send("annotate").content
        if path is not None:
            save(path, content, may_replace=may_replace)
            return path
        kind, suffix = ("findings", "csv") if report["format"] in PLAIN_FORMATS else ("checked", report["format"])
        return save_beside(self.source.path, content, kind, suffix)

    def end(self) -> None:
        """Take the bars away: what comes now are results."""
        self.bar.finish()
        self._display.stop()

    def _ask(self, action: str) -> dict[str, Any]:
        said: dict[str, Any] = read_json(self._send(action))
        return said

    def _send(self, action: str) -> Any:
        if open_source(self.source.path) != self.source:
            raise ClientError(f"{self.source.path} has been changed meanwhile. Run the same command again.")
        return self._portal.send_sheet(action, self.source, self._name, self.bar)


def is_open(path: Path) -> bool:
    """Say whether LibreOffice or Excel has left its mark that it has a file open."""
    return any(path.with_name(name).exists() for name in (f".~lock.{path.name}#", f"~${path.name}"))
