"""The world of the authorisation matrix, built once for a module, and the check of one cell."""

from collections.abc import Callable

import pytest

from datameta.database import Database
from datameta.settings import Settings
from datameta.storage import open_storage
from tests.authz.calls import check_answer, check_refusal, prepare
from tests.authz.matrix import Cell
from tests.authz.world import World
from tests.conftest import BASE_URL, Portal, empty_tables

Check = Callable[[Cell], None]


@pytest.fixture(scope="module")
def world(shared_database: Database, tmp_path_factory: pytest.TempPathFactory) -> World:
    empty_tables(shared_database)
    settings = Settings(home=tmp_path_factory.mktemp("portal"), base_url=BASE_URL, bcrypt_cost=4)
    return World(Portal(shared_database, settings, open_storage(settings)))


@pytest.fixture
def check_cell(world: World) -> Check:
    """Return what asks a cell's question: the status, what the answer holds, and that a refusal changed nothing."""

    def check(cell: Cell) -> None:
        call = prepare(world, cell)
        world.forget_attempts()
        before, world.fingerprint = world.fingerprint or world.take_fingerprint(), None
        response = call.send()
        assert response.status_int == cell.status, response.body
        if not call.changes:
            after = world.take_fingerprint()
            assert after == before
            world.fingerprint = after
        if cell.status < 400:
            check_answer(call, response)
        else:
            check_refusal(response)

    return check
