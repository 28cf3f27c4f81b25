"""DataMeta: the portal through which sequencing labs hand in data."""

from importlib.metadata import version
from typing import Any

__version__ = version("datameta")


def main(global_config: dict[str, str], **ini: str) -> Any:
    """Build the WSGI application from an ini file (PasteDeploy's entry point)."""
    from datameta.app import open_app
    from datameta.settings import read_settings

    return open_app(read_settings(ini))
