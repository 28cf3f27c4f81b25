"""Backups: the database in one snapshot, and a manifest of the objects that belong to it.

    backup.json      what it is, and the SHA-256 of the two others; written last
    database.dump    of pg_dump, in its own format
    objects.jsonl    key, size and SHA-256 of each object, one a line
    objects/         the objects themselves, if they were copied

The rule this package guards: a folder is a whole backup, or no backup. It is written under another name, and gets its
own when all of it is on the disk.
"""

from datameta.backup.folder import Backup, BackupError, read_backup
from datameta.backup.make import make_backup
from datameta.backup.restore import restore_backup

__all__ = ["Backup", "BackupError", "make_backup", "read_backup", "restore_backup"]
