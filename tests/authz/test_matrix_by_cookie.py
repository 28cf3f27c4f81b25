"""Who may do what, by the cookie of a session; and no change by cookie without the page's own token."""

import pytest

from tests.authz.calls import prepare
from tests.authz.conftest import Check
from tests.authz.matrix import Cell, describe_operations, list_cells
from tests.authz.world import World
from tests.conftest import assert_refused

CELLS = list_cells("cookie")
WRITES = {
    operation: next(cell for cell in CELLS if cell.row.operation == operation and cell.actor == "site admin")
    for operation, (_, method, described) in describe_operations().items()
    if method != "get" and described.get("security") != []
}


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_by_cookie(check_cell: Check, cell: Cell) -> None:
    check_cell(cell)


@pytest.mark.parametrize("operation", WRITES)
def test_a_write_by_cookie_needs_the_token_of_the_page(world: World, operation: str) -> None:
    call = prepare(world, WRITES[operation])
    before = world.take_fingerprint()
    call.more["headers"] = {"X-CSRF-Token": "wrong"}
    assert_refused(call.send(), 403, ("csrf_failed", None))
    assert world.take_fingerprint() == before
