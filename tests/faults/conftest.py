"""What the tests of faults share: one PostgreSQL that can be stopped, and sites on it."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.faults.site import Postgres, Site, choose_memory, run_postgres, run_site
from tests.rgw import RGW

StartSite = Callable[..., Site]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A durable PostgreSQL, once for all tests."""
    with (
        tempfile.TemporaryDirectory(prefix="datameta-faults-", dir=choose_memory()) as folder,
        run_postgres(Path(folder)) as server,
    ):
        yield server


@pytest.fixture
def start_site(postgres: Postgres, rgw: RGW, tmp_path: Path) -> Iterator[StartSite]:
    """Return what starts a site on RGW with nothing in it; it ends with the test."""
    with ExitStack() as sites:

        def start(**more: Any) -> Site:
            more = {"postgres": postgres.add_database(), "rgw": rgw, **more}
            return sites.enter_context(run_site(tmp_path, **more))

        yield start
