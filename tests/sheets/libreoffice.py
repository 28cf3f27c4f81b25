"""LibreOffice without a screen: it opens what we wrote, and writes what it has read."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FILTERS = {
    "csv": "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,false,true,false,false,{sheet}",
    "xlsx": "xlsx:Calc MS Excel 2007 XML",
    "ods": "ods:calc8",
    "pdf": "pdf:calc_pdf_Export",
}


class Office:
    """LibreOffice with a profile of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def convert(self, file: Path, to: str, *, sheet: int = 0) -> Path:
        """Convert a file; of csv, ``sheet`` (from 1) is the sheet, which is in the name of the answer."""
        self._count += 1
        target = self._folder / str(self._count)
        command = ["soffice", f"-env:UserInstallation={(self._folder / 'profile').as_uri()}", "--headless"]
        command += ["--convert-to", FILTERS[to].format(sheet=sheet), "--outdir", str(target), str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
        found = list(target.glob(f"*.{to}"))
        assert len(found) == 1, done.stdout + done.stderr
        return found[0]


@pytest.fixture(scope="session")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    """LibreOffice; a machine without it runs the other tests, but not the one that decides."""
    if shutil.which("soffice") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("soffice is missing: apt-get install libreoffice-calc")
        pytest.skip("soffice is missing: apt-get install libreoffice-calc")
    return Office(tmp_path_factory.mktemp("office"))
