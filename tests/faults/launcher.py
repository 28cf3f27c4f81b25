"""Runs the ``datameta`` command as tests of faults need it: ``python -m tests.faults.launcher BUG COMMAND…``.

BUG is the name of a bug of ``tests.faults.planted``, or ``none``. Nothing here changes what the command does, only how
long one waits for it: ``serve`` and ``worker`` are forked from this process, which has loaded everything before, and
are started again whenever they end, as by an init system; a worker that was killed is replaced at once.
"""

import ctypes
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path

from datameta import commands, supervisor
from datameta.app import make_app
from datameta.cli import main
from datameta.database import Database
from datameta.logic import sweep
from datameta.settings import read_settings
from datameta.storage import open_storage
from tests.faults.planted import BUGS
from tests.rgw import PR_SET_PDEATHSIG

NOTHING_IS_YOUNG = "TESTS_FAULTS_NOTHING_IS_YOUNG"
"""If this variable is set, the sweeper takes also what has just come to the store for old."""
PAUSE_SECONDS = 0.1


def warm_up() -> None:
    """Build the application once, for what that leaves in memory."""
    settings = read_settings()
    make_app(settings, Database("postgresql+psycopg://nobody@127.0.0.1:1/none"), open_storage(settings))
    assert commands


def keep_running() -> None:
    """Return in a child of this process, and in another whenever that has ended."""
    libc = ctypes.CDLL(None)
    while child := os.fork():
        os.waitpid(child, 0)
        time.sleep(PAUSE_SECONDS)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    bug, words = sys.argv[1], sys.argv[2:]
    if bug != "none":
        BUGS[bug]()
    assert supervisor.LONGEST_BACKOFF_SECONDS
    supervisor.LONGEST_BACKOFF_SECONDS = 0
    if os.environ.get(NOTHING_IS_YOUNG):
        assert sweep.ORPHAN_AGE
        sweep.ORPHAN_AGE = timedelta(0)
        assert sweep.find_removal
        sweep.find_removal = lambda orphan, **more: orphan.changed_at
    sys.argv = [str(Path(sys.argv[0]).with_name("datameta")), *words]
    if words == ["worker"] or words[0] == "serve":
        warm_up()
        keep_running()
    main()
