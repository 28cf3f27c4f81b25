"""The commands of those who hand in sheets and files, and fetch them."""

import inspect
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from datameta.client.api import Portal
from datameta.client.download import Downloader
from datameta.client.findings import Finding, count_words, print_findings, summarise
from datameta.client.network import ClientError, Network, RefusedError, UnfinishedError
from datameta.client.outcome import REFUSED, UNFINISHED, Outcome
from datameta.client.progress import Display
from datameta.client.saving import check_free, save
from datameta.client.sheet import PLAIN_FORMATS, Sheet
from datameta.client.submit import Submitter, WrongSheetError
from datameta.client.upload import Uploader, open_sources

# Beside the transfers: polls of verifications, and the calls of files that are being prepared.
CONNECTIONS_BESIDE = 4
REFUSAL = 1
TO_BE_RESUMED = 3
FORMATS = ("xlsx", "csv")
LABEL_LENGTH = 100
EXIT_CODES = """
\b
Exit codes:
  0  {done}
  1  {refused}
  2  the command was not understood
  3  no connection, or interrupted: run the same command again, it resumes
"""

Command = TypeVar("Command", bound=Callable[..., None])


def client_command(
    done: str,
    *,
    refused: str = "something was refused; the message says why",
    json_help: str | None = "Write a JSON object for each file to standard output.",
    sends_files: bool = True,
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function a command with the options that all have, and those of the ones that transfer files."""

    def decorate(command: Callable[..., None]) -> click.Command:
        options = [
            click.option("--url", envvar="DATAMETA_URL", required=True, help="The portal; or DATAMETA_URL."),
            click.option(
                "--key", envvar="DATAMETA_TOKEN", required=True, help="Your API key; better in DATAMETA_TOKEN."
            ),
            click.option(
                "--patience",
                type=click.FloatRange(0),
                default=60,
                show_default=True,
                help="Minutes without any progress after which to give up.",
            ),
        ]
        if sends_files:
            jobs_help = "Transfers at the same time."
            options.append(
                click.option("--jobs", type=click.IntRange(1, 64), default=4, show_default=True, help=jobs_help)
            )
        if json_help:
            options.append(click.option("--json", "as_json", is_flag=True, help=json_help))
        for option in reversed(options):
            command = option(command)
        command.__doc__ = f"{inspect.getdoc(command)}\n{EXIT_CODES.format(done=done, refused=refused)}"
        return click.command()(command)

    return decorate


def sheet_options(command: Command) -> Command:
    """Add the argument and the options of what reads a sheet."""
    options = [
        click.argument("path", metavar="SHEET", type=click.Path(path_type=Path, exists=True, dir_okay=False)),
        click.option("--sheet", "name", help="The one of the file's sheets that is meant; default: all with a header."),
        click.option(
            "--annotated",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Where to save the marked copy of a sheet that has errors or warnings; default: beside it.",
        ),
        click.option("--no-annotated", is_flag=True, help="Save no marked copy."),
        click.option("--force", is_flag=True, help="Replace what --annotated names."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@dataclass(frozen=True)
class Marking:
    """What the user wants of the marked copy of a sheet."""

    path: Path | None
    is_wanted: bool
    may_replace: bool

    @classmethod
    def read(cls, sheet: Path, path: Path | None, no_annotated: bool, force: bool) -> "Marking":
        """Return what the options say.

        Raises ``click.UsageError``.
        """
        if path is not None and no_annotated:
            raise click.UsageError("--annotated and --no-annotated exclude each other.")
        if path is not None and path.exists():
            if path.samefile(sheet):
                raise click.UsageError("--annotated names the sheet itself, which is never written.")
            if not force:
                raise click.UsageError(f"{path} is there already. Name another file, or say --force to replace it.")
        return cls(path, not no_annotated, force)

    def save(self, sheet: Sheet, report: dict[str, Any]) -> Path | None:
        """Save the marked copy, if one is wanted and there is something to mark; return where."""
        if not self.is_wanted or not (report["errors"] or report["warnings"]):
            return None
        try:
            return sheet.annotate(report, self.path, may_replace=self.may_replace)
        except RefusedError as error:
            raise ClientError(f"The copy with the cells marked can't be made: {error}") from error


def describe_copy(saved: Path, report: dict[str, Any]) -> str:
    """Return a line that says what was saved."""
    what = "the findings, cell by cell" if report["format"] in PLAIN_FORMATS else "a copy with the cells marked"
    return f"{saved}: {what}"


@client_command("all files are confirmed")
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
def upload(files: tuple[Path, ...], url: str, key: str, jobs: int, patience: float, as_json: bool) -> None:
    """Hand in files: send them, have them verified and confirmed.

    What was sent stays sent: after any interruption run the same command again, here or on another computer, and
    only what is missing is sent.
    """
    try:
        sources = open_sources(files)
    except ClientError as error:
        raise click.UsageError(str(error)) from None
    with Display() as display:

        def start(portal: Portal) -> Iterable[Outcome]:
            return Uploader(portal, display, jobs=jobs).upload(sources)

        code = transfer(start, display, url=url, key=key, jobs=jobs, patience=patience, as_json=as_json)
    sys.exit(code)


@client_command("all files are there and right")
@click.argument("submission")
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False), default=".", help="Default: here.")
def download(submission: str, folder: Path, url: str, key: str, jobs: int, patience: float, as_json: bool) -> None:
    """Fetch all files of a submission into a folder, and verify them.

    Files that are there and right are kept; what was fetched in part is gone on with. Writes manifest.json, and
    SHA256SUMS for 'sha256sum -c'.
    """
    with Display() as display:

        def start(portal: Portal) -> Iterable[Outcome]:
            return Downloader(portal, display, jobs=jobs).download(submission, folder)

        code = transfer(start, display, url=url, key=key, jobs=jobs, patience=patience, as_json=as_json)
    sys.exit(code)


@client_command("the template is saved", json_help=None, sends_files=False)
@click.option("--format", "file_format", type=click.Choice(FORMATS), help="Default: as --to ends, else xlsx.")
@click.option(
    "--to", "path", type=click.Path(path_type=Path, dir_okay=False), help="Default: samples.xlsx or samples.csv."
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def template(file_format: str | None, path: Path | None, force: bool, url: str, key: str, patience: float) -> None:
    """Fetch a sheet to fill in, made from the site's fields of today."""
    ending = path.suffix[1:].lower() if path else ""
    if file_format and ending in FORMATS and ending != file_format:
        raise click.UsageError(f"{path} does not end in .{file_format}.")
    chosen = file_format or (ending if ending in FORMATS else FORMATS[0])
    path = path or Path(f"samples.{chosen}")

    def work(portal: Portal) -> int:
        if not force:
            check_free(path)
        save(path, portal.get_template(chosen), may_replace=force)
        fields = "its sheet 'Fields' says what each column takes" if chosen == "xlsx" else "keep the line of headers"
        display.print(f"{path}: one row for each sample, in place of the example row; {fields}.")
        display.print(f"Then: datameta check {shlex.quote(str(path))}")
        return 0

    with Display() as display:
        code = run(work, display, url=url, key=key, patience=patience)
    sys.exit(code)


@client_command(
    "no errors; there may be warnings",
    refused="errors in the sheet, or it was refused",
    json_help="Write the report as a JSON object to standard output.",
    sends_files=False,
)
@sheet_options
def check(
    path: Path,
    name: str | None,
    annotated: Path | None,
    no_annotated: bool,
    force: bool,
    url: str,
    key: str,
    patience: float,
    as_json: bool,
) -> None:
    """Check a sample sheet: xlsx, xlsm, ods, csv or tsv. Nothing is handed in, and the sheet is left as it is.

    Lists what is wrong, cell by cell, and saves a copy with these cells marked: run7.checked.xlsx beside run7.xlsx;
    of a csv the findings, as run7.findings.csv.
    """
    marking = Marking.read(path, annotated, no_annotated, force)

    def work(portal: Portal) -> int:
        sheet = Sheet(path, name, portal, display)
        report = sheet.check()
        try:
            saved = marking.save(sheet, report)
        finally:
            # The report is told even if the copy can't be saved.
            sheet.end()
            if as_json:
                click.echo(json.dumps(report))
            else:
                print_findings(report["findings"], omitted=report["findingsOmitted"])
            display.print(summarise(report))
        if saved:
            display.print(describe_copy(saved, report))
        if report["errors"]:
            again = f"datameta check {shlex.quote(str(path))}"
            display.print(f"Correct the errors in {path}, and check it again: {again}")
        return REFUSAL if report["errors"] else 0

    with Display() as display:
        code = run(work, display, url=url, key=key, patience=patience)
    sys.exit(code)


@client_command(
    "the sheet and its files are submitted",
    refused="errors in the sheet, or something was refused; nothing is submitted",
    json_help="Write one JSON object to standard output, at the end.",
)
@sheet_options
@click.option(
    "--files",
    "folder",
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where the files that the sheet names are, at any depth.",
)
@click.option("--label", help="How you want to find the submission again.")
@click.option("--replace", is_flag=True, help="Delete staged files of the same names that have other content.")
def submit(
    path: Path,
    name: str | None,
    annotated: Path | None,
    no_annotated: bool,
    force: bool,
    folder: Path,
    label: str | None,
    replace: bool,
    url: str,
    key: str,
    patience: float,
    jobs: int,
    as_json: bool,
) -> None:
    """Submit a sample sheet with the files that it names.

    The sheet is checked, the files are found and sent, and all becomes one submission; if anything is wrong, none.
    After any interruption run the same command again: it goes on from there, and nothing is submitted twice.
    """
    if label is not None and len(label) > LABEL_LENGTH:
        raise click.UsageError(f"A label has {LABEL_LENGTH} characters at most.")
    marking = Marking.read(path, annotated, no_annotated, force)
    receipt = Receipt()

    def work(portal: Portal) -> int:
        sheet = Sheet(path, name, portal, display)
        receipt.submitter = submitter = Submitter(portal, display, sheet, jobs=jobs, may_replace=replace)
        try:
            submitter.check()
            receipt.findings = submitter.warnings
            display.print(f"{sheet.source.name}: {summarise(submitter.report)}")
            code = tell(submitter.submit(folder, label), display)
        except WrongSheetError as error:
            receipt.findings = error.findings
            try:
                saved = marking.save(sheet, error.report) if error.report else None
            finally:
                sheet.end()
                if not as_json:
                    print_findings(error.findings, omitted=error.report["findingsOmitted"] if error.report else 0)
            if error.report:
                display.print(f"{sheet.source.name}: {summarise(error.report)}")
            if saved and error.report:
                display.print(describe_copy(saved, error.report))
            display.print("Nothing was submitted. Correct this, and run the same command again.")
            return REFUSAL
        sheet.end()
        if code == 0:
            if not as_json:
                print_findings(receipt.findings)
            receipt.print(as_json=as_json)
        elif code == REFUSAL:
            display.print("Nothing was submitted: the sheet needs all the files that it names.")
        return code

    with Display() as display:
        code = run(work, display, url=url, key=key, jobs=jobs, patience=patience)
        if as_json:
            click.echo(json.dumps(receipt.to_dict()))
    sys.exit(code)


@dataclass
class Receipt:
    """What a run of ``submit`` says at its end."""

    submitter: Submitter | None = None
    findings: Sequence[Finding] = ()

    def print(self, *, as_json: bool) -> None:
        """Say how the submission is called, and how it is fetched; for scripts this is no result."""
        assert self.submitter is not None, "what was run"
        assert self.submitter.submission is not None, "what was submitted"
        site = self.submitter.submission["id"]["site"]
        verb = "already submitted" if self.submitter.was_submitted else "submitted"
        rows = count_words(len(self.submitter.rows), "row")
        files = count_words(len(self.submitter.files), "file")
        click.echo(f"{verb} as {site}: {rows}, {files}", err=as_json)
        click.echo(f"To fetch it: datameta download {site} --to {site}", err=as_json)

    def to_dict(self) -> dict[str, Any]:
        """Return the object of ``--json``."""
        submitter = self.submitter
        return {
            "submission": submitter.submission if submitter else None,
            "alreadySubmitted": submitter.was_submitted if submitter else False,
            "files": [outcome.to_dict() for outcome in submitter.files] if submitter else [],
            "rows": submitter.rows if submitter else [],
            "findings": list(self.findings),
        }


def transfer(
    start: Callable[[Portal], Iterable[Outcome]],
    display: Display,
    *,
    url: str,
    key: str,
    jobs: int,
    patience: float,
    as_json: bool,
) -> int:
    """Do the work, tell of each file as it ends, and return the exit code."""

    def work(portal: Portal) -> int:
        return tell(start(portal), display, as_json=as_json)

    return run(work, display, url=url, key=key, jobs=jobs, patience=patience)


def tell(outcomes: Iterable[Outcome], display: Display, *, as_json: bool = False) -> int:
    """Tell of each file as it ends, and return the exit code."""
    states = set()
    for outcome in outcomes:
        states.add(outcome.state)
        display.print(outcome.describe())
        if as_json:
            click.echo(json.dumps(outcome.to_dict()))
    if UNFINISHED in states:
        display.print("Run the same command again: it goes on from here.")
        return TO_BE_RESUMED
    return REFUSAL if REFUSED in states else 0


def run(work: Callable[[Portal], int], display: Display, *, url: str, key: str, patience: float, jobs: int = 0) -> int:
    """Do the work and return its exit code, or that of what it ended with."""
    network = Network(connections=jobs + CONNECTIONS_BESIDE, patience=patience * 60, report=display.report)
    try:
        portal = Portal(url, key, network)
    except ClientError as error:
        raise click.UsageError(str(error)) from None
    try:
        return work(portal)
    except KeyboardInterrupt:
        network.stop()
        display.print("Interrupted. Run the same command again: it goes on from here.")
        return TO_BE_RESUMED
    except UnfinishedError as error:
        display.print(f"{error}. Run the same command again: it goes on from here.")
        return TO_BE_RESUMED
    except ClientError as error:
        display.print(f"Error: {error}")
        return REFUSAL
    finally:
        network.close()
