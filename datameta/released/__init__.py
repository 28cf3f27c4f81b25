"""From a released DataMeta 1.1.1 to this portal: its database and its folder of files are read, and nothing else.

    old.py        the old database
    contents.py   the old folder of files
    people.py     groups, users, keys, registrations
    catalogue.py  services, definitions, settings
    data.py       submissions, files, metadatasets, executions
    move.py       all of it, in one transaction

The rules this package guards: UUIDs and site ids stay what they are, so a thing is known by its UUID and imported
once, however often the import is repeated; the old portal is only read; what does not fit the rules of this one is kept
as far as it can be, and named in the report with what has become of it.
"""

from datameta.released.move import Import, import_portal
from datameta.released.old import OldPortalError
from datameta.released.report import Report

__all__ = ["Import", "OldPortalError", "Report", "import_portal"]
