"""The ``datameta`` command.

Each command is loaded when it is named, so that a laboratory's computer needs the client's packages
only, and a server its own.
"""

from importlib import import_module

import click

from datameta import __version__

# Module and the extra of the package it needs; a command is the module's function of the same name, dashes aside.
SERVER = ("datameta.commands", "server")
KEEPING = ("datameta.keeping", "server")
CLIENT = ("datameta.client.commands", "client")
COMMANDS = {
    "audit": SERVER,
    "backup": KEEPING,
    "check": CLIENT,
    "config": SERVER,
    "db": SERVER,
    "download": CLIENT,
    "fsck": SERVER,
    "import-datameta": KEEPING,
    "key": SERVER,
    "restore": KEEPING,
    "serve": SERVER,
    "storage": SERVER,
    "submit": CLIENT,
    "sweep": SERVER,
    "template": CLIENT,
    "upload": CLIENT,
    "user": SERVER,
    "worker": SERVER,
}


class LazyGroup(click.Group):
    """The commands by name; the module of one is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, extra = COMMANDS[cmd_name]
        try:
            command: click.Command = getattr(import_module(module), cmd_name.replace("-", "_"))
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] == "datameta":
                raise
            return _make_absent(cmd_name, extra, error.name)
        return command


def _make_absent(name: str, extra: str, package: str) -> click.Command:
    """Return a command that says what is to be installed for it, whatever it is told."""

    def refuse() -> None:
        raise click.ClickException(f"'{name}' needs the package {package}: pip install 'datameta[{extra}]'")

    return click.Command(
        name,
        callback=refuse,
        params=[click.Argument(["words"], nargs=-1, type=click.UNPROCESSED, expose_value=False)],
        context_settings={"ignore_unknown_options": True},
        add_help_option=False,
        short_help=f"Needs: pip install 'datameta[{extra}]'",
    )


@click.group(cls=LazyGroup)
@click.version_option(__version__)
def main() -> None:
    """Hand in sample sheets and files to a DataMeta portal, and fetch them; or run a portal and look after it."""
