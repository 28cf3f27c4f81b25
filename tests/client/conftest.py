"""The client against a real portal in processes of its own, behind a network that fails as told."""

import json
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from datameta.cli import main
from datameta.client import network
from tests.e2e.conftest import Api, Served, serve_cleanly
from tests.faults.proxy import Proxy, pass_all, run_proxy

PART_BYTES = 16 << 20


@dataclass(frozen=True)
class Lab:
    """A laboratory's computer: its files, its way to the portal, and who it is there."""

    folder: Path
    proxy: Proxy
    served: Served
    api: Api

    def write(self, name: str, size: int) -> Path:
        """Write a file of random bytes, always the same for a name and a size."""
        path = self.folder / name
        path.write_bytes(random.Random(f"{name} {size}").randbytes(size))
        return path

    def run(self, *words: str | Path, patience: float = 1, key: str = "", url: str = "") -> Result:
        """Run a command of the client in this process."""
        place = ["--url", url or f"http://{self.proxy.netloc}", "--key", key or self.api.token]
        options = [*place, "--patience", str(patience)]
        return CliRunner().invoke(main, [str(word) for word in words] + options, catch_exceptions=False)

    def upload(self, *paths: Path, code: int = 0, words: tuple[str, ...] = (), patience: float = 1) -> list[Any]:
        """Upload files and return what is said of each; check the exit code."""
        done = self.run("upload", "--json", *words, *paths, patience=patience)
        assert done.exit_code == code, done.output
        return sorted((json.loads(line) for line in done.stdout.splitlines()), key=lambda each: each["path"])

    def find_staged(self, name: str) -> list[Any]:
        """Return the user's files of a name that are not submitted."""
        found: list[Any] = [file for file in self.api.call("GET", "/staged/files?limit=1000") if file["name"] == name]
        return found


@contextmanager
def serve_behind_proxy(folder: Path, **variables: str) -> Iterator[tuple[Served, Proxy]]:
    """Run a demo portal that says it is where a proxy is."""
    with run_proxy(("127.0.0.1", 1)) as proxy:
        variables["DATAMETA_BASE_URL"] = f"http://{proxy.netloc}"
        with serve_cleanly(folder / "home", folder, "--demo", variables=variables) as served:
            listening = re.search(r"listening on http://([\d.]+):(\d+)", served.printed)
            assert listening, served.printed
            proxy.target = (listening[1], int(listening[2]))
            yield served, proxy


@pytest.fixture(scope="session")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Proxy]]:
    """A demo portal behind a proxy, shared by all tests."""
    with serve_behind_proxy(tmp_path_factory.mktemp("client")) as both:
        yield both


@pytest.fixture
def lab(proxied: tuple[Served, Proxy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """The demo site's laboratory, with nothing wrong yet and little time to lose."""
    served, proxy = proxied
    monkeypatch.setattr(network, "FIRST_PAUSE_SECONDS", 0.01)
    proxy.rule = pass_all
    proxy.bytes_up = 0
    yield Lab(tmp_path, proxy, served, served.open_lab())
    proxy.rule = pass_all
