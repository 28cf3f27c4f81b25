"""Named places at which a test may end the process, to prove that a crash there repairs itself.

Nothing happens unless the environment names a file; a process that passes the place whose name the
file holds removes it and is gone, without a word to anybody, as if the machine had lost its power.
"""

import os
from pathlib import Path

VARIABLE = "DATAMETA_CRASH_FILE"
EXIT_CODE = 137


def crash_point(name: str) -> None:
    """End the process here if the test asks for it."""
    place = os.environ.get(VARIABLE)
    if place is None:
        return
    try:
        if Path(place).read_text("utf-8").strip() != name:
            return
        Path(place).unlink()
    except FileNotFoundError:
        return
    os._exit(EXIT_CODE)
