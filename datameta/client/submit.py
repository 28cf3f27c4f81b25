"""A sheet and the files that it names, handed in as one submission.

The rule this module guards: all state is the portal's. A run that begins anew finds the files that are there, the
rows that are staged, and the submission whose answer was lost; so nothing is handed in twice, and what can't be
handed in is left as it was.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from datameta.client.api import Portal
from datameta.client.findings import Finding, count_words, make_error
from datameta.client.named import find_named, normalise
from datameta.client.network import ClientError, RefusedError
from datameta.client.outcome import CONFIRMED, PRESENT, REFUSED, UNFINISHED, Outcome
from datameta.client.progress import Display
from datameta.client.sheet import Sheet
from datameta.client.source import Source
from datameta.client.upload import Uploader

SUBMITTED = "already_submitted"
AMBIGUOUS = "file_ambiguous"
# The portal says so of files that are only about to be sent.
EXPECTED = (SUBMITTED, "file_not_staged", "file_not_confirmed")
MOST_DELETED = 1000


class WrongSheetError(Exception):
    """The sheet can't be submitted; the findings say why. ``report`` is the portal's, if it is its findings."""

    def __init__(self, findings: Sequence[Finding], report: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.findings = findings
        self.report = report


class Submitter:
    """One run of ``datameta submit``; its attributes are what has been reached so far."""

    def __init__(self, portal: Portal, display: Display, sheet: Sheet, *, jobs: int, may_replace: bool) -> None:
        self.report: dict[str, Any] = {}
        self.files: list[Outcome] = []
        self.rows: list[dict[str, Any]] = []
        self.submission: dict[str, Any] | None = None
        self.was_submitted = False
        self._portal = portal
        self._display = display
        self._sheet = sheet
        self._uploader = Uploader(portal, display, jobs=jobs)
        self._may_replace = may_replace

    @property
    def warnings(self) -> list[Finding]:
        """What the user is to know of a sheet that can be submitted."""
        findings: list[Finding] = self.report["findings"]
        return [each for each in findings if each["severity"] == "warning" and each["code"] not in EXPECTED]

    def check(self) -> None:
        """Check the sheet.

        Raises ``WrongSheetError``.
        """
        self.report = self._sheet.check()
        errors = [finding for finding in self.report["findings"] if finding["severity"] == "error"]
        # Of several staged files of one name those that are not meant are known once the right one is there.
        if any(finding["code"] != AMBIGUOUS for finding in errors):
            raise WrongSheetError(errors + self.warnings, self.report)
        if not self.report["rows"]:
            raise ClientError("There is no row in the sheet. Fill it in, and run the same command again.")

    def submit(self, folder: Path, label: str | None) -> Iterator[Outcome]:
        """Submit a sheet that has been checked, with the files it names below a folder; yield each file that is sent.

        Raises ``WrongSheetError``.
        """
        if self._is_submitted():
            return
        self._sheet.bar.start("finding files", self._sheet.source.size)
        cells = self._locate_files()
        sources, findings = find_named(cells, folder)
        if findings:
            raise WrongSheetError(findings)
        self._sheet.bar.start("files", self._sheet.source.size)
        yield from self._upload(sources)
        if any(outcome.state in (REFUSED, UNFINISHED) for outcome in self.files):
            return
        self._settle_names(cells)
        staged = self._stage()
        if self._take_submitted(staged):
            return
        if any(row["submissionId"] for row in self.rows):
            self._withdraw_rows()
            raise ClientError(
                "Some of the rows have been submitted meanwhile. Run the same command again to see which."
            )
        self._display.print(f"{count_words(len(self.rows), 'row')} staged")
        self._hand_in(cells, label)

    def _is_submitted(self) -> bool:
        """Say whether all rows are part of one submission, and take it up.

        Raises ``WrongSheetError`` if only some are, or of several.
        """
        told = [finding for finding in self.report["findings"] if finding["code"] == SUBMITTED]
        if not told:
            return False
        number = sum(finding["count"] for finding in told)
        # Where all rows are submitted there is nothing to stage; the answer has their ids.
        if number == self.report["rows"] and self._take_submitted(self._sheet.stage()):
            return True
        raise WrongSheetError([refuse_part(finding, self.report["rows"]) for finding in told])

    def _take_submitted(self, staged: dict[str, Any]) -> bool:
        """Say whether all rows that were staged are part of one submission, and take it up."""
        self.rows = staged["staged"]
        submissions = {row["submissionId"]["uuid"] if row["submissionId"] else None for row in self.rows}
        if len(submissions) != 1 or None in submissions:
            return False
        known = self._portal.get_submission(self.rows[0]["submissionId"]["uuid"])
        self._withdraw_files()
        files = self._portal.list_submitted(known["id"]["uuid"])
        self.files = [Outcome(None, file["name"], file["filesize"], PRESENT, file) for file in files]
        self.submission = {"id": known["id"], "label": known["label"]}
        self.was_submitted = True
        return True

    # Files.

    def _locate_files(self) -> list[dict[str, Any]]:
        """Return the cells that name files, with the field of each."""
        fields = {
            (sheet["name"], column["column"]): column["field"]
            for sheet in self.report["sheets"]
            for column in sheet["columns"]
        }
        cells = [{**cell, "column": cell["cell"].rstrip("0123456789")} for cell in self.report["files"]]
        return [{**cell, "field": fields[cell["sheet"], cell["column"]]} for cell in cells]

    def _upload(self, sources: Sequence[Source]) -> Iterator[Outcome]:
        if sources:
            for outcome in self._uploader.upload(sources):
                self.files.append(outcome)
                yield outcome

    def _settle_names(self, cells: Iterable[dict[str, Any]]) -> None:
        """Make each name mean the file that is here.

        Raises ``WrongSheetError`` if the user has staged others of these names, which differ.
        """
        meant = {outcome.name: outcome.file for outcome in self.files if outcome.file}
        others: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for file in self._portal.list_staged() if meant else ():
            name = normalise(file["name"])
            if name in meant and file["id"]["uuid"] != meant[name]["id"]["uuid"]:
                if self._may_replace or file["checksum"] == meant[name]["checksum"]:
                    self._portal.delete_file(file["id"]["uuid"])
                    self._display.print(f"{name} ({file['id']['site']}): deleted, it is not the one that is here")
                else:
                    others[name].append(file)
        findings = []
        for name, files in others.items():
            ids = ", ".join(file["id"]["site"] for file in files)
            message = (
                f"Another file of this name waits at the portal, of other content than the one here: {ids}. "
                "Run the same command with --replace to have it deleted."
            )
            named = [cell for cell in cells if normalise(cell["name"]) == name]
            findings.append(make_error(AMBIGUOUS, message, named, value=name))
        if findings:
            raise WrongSheetError(findings)

    def _withdraw_files(self) -> None:
        """Delete what this run has sent in vain: the rows are submitted, with the files that they had."""
        for outcome in self.files:
            if outcome.state == CONFIRMED and outcome.file:
                with suppress(RefusedError):
                    self._portal.delete_file(outcome.file["id"]["uuid"])

    # Rows.

    def _stage(self) -> dict[str, Any]:
        try:
            return self._sheet.stage()
        except RefusedError:
            # What the site has or wants may have changed since; the check tells it better than the refusal.
            try:
                self.check()
            except WrongSheetError:
                self._withdraw_rows()
                raise
            raise

    def _hand_in(self, cells: Sequence[dict[str, Any]], label: str | None) -> None:
        body = {
            "metadatasetIds": [row["id"]["uuid"] for row in self.rows],
            "fileIds": [outcome.file["id"]["uuid"] for outcome in self.files if outcome.file],
            "label": label,
        }
        bar = self._sheet.bar
        try:
            bar.start("validating", self._sheet.source.size)
            self._portal.prevalidate(body)
            bar.start("submitting", self._sheet.source.size)
            made = self._portal.submit(body)
            self.submission = {"id": made["id"], "label": made["label"]}
        except RefusedError as error:
            if error.status != 400:
                raise
            new = self.rows
            try:
                # A former run may have been killed while the portal was about to submit for it.
                if self._take_submitted(self._stage()):
                    return
            finally:
                self.rows = new
            self._withdraw_rows()
            findings = self._map_problems(error.problems, cells)
            self.rows = []
            raise WrongSheetError(findings) from None

    def _withdraw_rows(self) -> None:
        """Delete the sets that this run has staged, so that a corrected sheet leaves none behind."""
        set_ids = [row["id"]["uuid"] for row in self.rows if row["isNew"]]
        for start in range(0, len(set_ids), MOST_DELETED):
            with suppress(RefusedError):
                self._portal.delete_sets(set_ids[start : start + MOST_DELETED])

    def _map_problems(self, problems: Iterable[dict[str, Any]], cells: Sequence[dict[str, Any]]) -> list[Finding]:
        """Return the problems of a refused submission as findings in the cells that they are about."""
        rows = {row["id"]["uuid"]: row for row in self.rows}
        files = {outcome.file["id"]["uuid"]: outcome.name for outcome in self.files if outcome.file}
        naming: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for cell in cells:
            naming[normalise(cell["name"])].append(cell)
        columns = {
            (sheet["name"], column["field"]): column["column"]
            for sheet in self.report["sheets"]
            for column in sheet["columns"]
        }
        places: dict[tuple[str, str, str | None, str, str | None], list[dict[str, Any]]] = defaultdict(list)
        for problem in problems:
            entity, field = problem.get("entity", {}).get("uuid"), problem.get("field")
            key = (problem["error_code"], problem["message"], field)
            if entity in rows:
                sheet, number = rows[entity]["sheet"], rows[entity]["row"]
                column = columns.get((sheet, field))
                address = None if column is None else f"{column}{number}"
                place = {"sheet": sheet, "field": field, "column": column, "row": number, "cell": address}
                places[*key, sheet, None].append(place)
            elif entity in files:
                for cell in naming[files[entity]]:
                    places[*key, cell["sheet"], files[entity]].append(cell)
            else:
                # It is about the whole.
                places[*key, "", None] = []
        return [
            make_error(code, message, sorted(named, key=lambda place: place["row"]), field=field, value=value)
            for (code, message, field, _, value), named in places.items()
        ]


def refuse_part(finding: Finding, rows: int) -> Finding:
    """Return the error of a sheet whose rows are not all part of one submission."""
    message = (
        f"{finding['message']} So are {finding['count']} of the sheet's {count_words(rows, 'row')}; "
        "a row can't be submitted twice. Take these out of the sheet to submit the others."
    )
    return {**finding, "severity": "error", "message": message}
