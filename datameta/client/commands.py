"""The commands of those who hand in files and fetch them."""

import inspect
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from datameta.client.api import Portal
from datameta.client.download import Downloader
from datameta.client.network import ClientError, Network, UnfinishedError
from datameta.client.outcome import REFUSED, UNFINISHED, Outcome
from datameta.client.progress import Display
from datameta.client.upload import Uploader, open_sources

# Beside the transfers: polls of verifications, and the calls of files that are being prepared.
CONNECTIONS_BESIDE = 4
REFUSAL = 1
TO_BE_RESUMED = 3
EXIT_CODES = """
\b
Exit codes:
  0  all files are {done}
  1  something was refused; the message says why
  2  the command was not understood
  3  no connection, or interrupted: run the same command again, it resumes
"""


def client_command(done: str) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function a command with the options of both."""

    def decorate(command: Callable[..., None]) -> click.Command:
        options = [
            click.option("--url", envvar="DATAMETA_URL", required=True, help="The portal; or DATAMETA_URL."),
            click.option(
                "--key", envvar="DATAMETA_TOKEN", required=True, help="Your API key; better in DATAMETA_TOKEN."
            ),
            click.option(
                "--jobs", type=click.IntRange(1, 64), default=4, show_default=True, help="Transfers at the same time."
            ),
            click.option(
                "--patience",
                type=click.FloatRange(0),
                default=60,
                show_default=True,
                help="Minutes without any progress after which to give up.",
            ),
            click.option(
                "--json", "as_json", is_flag=True, help="Write a JSON object for each file to standard output."
            ),
        ]
        for option in reversed(options):
            command = option(command)
        command.__doc__ = f"{inspect.getdoc(command)}\n{EXIT_CODES.format(done=done)}"
        return click.command()(command)

    return decorate


@client_command("confirmed")
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

        code = run(start, display, url=url, key=key, jobs=jobs, patience=patience, as_json=as_json)
    sys.exit(code)


@client_command("there and right")
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

        code = run(start, display, url=url, key=key, jobs=jobs, patience=patience, as_json=as_json)
    sys.exit(code)


def run(
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
    network = Network(connections=jobs + CONNECTIONS_BESIDE, patience=patience * 60, report=display.report)
    try:
        portal = Portal(url, key, network)
    except ClientError as error:
        raise click.UsageError(str(error)) from None
    states = set()
    try:
        for outcome in start(portal):
            states.add(outcome.state)
            display.print(outcome.describe())
            if as_json:
                click.echo(json.dumps(outcome.to_dict()))
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
    if UNFINISHED in states:
        display.print("Run the same command again: it goes on from here.")
        return TO_BE_RESUMED
    return REFUSAL if REFUSED in states else 0
