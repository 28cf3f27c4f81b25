"""Who may do what, by API key; and that the matrix is whole and published."""

import pytest

from tests.authz.conftest import Check
from tests.authz.document import PATH, write_document
from tests.authz.matrix import ACTORS, NOBODY, Cell, describe_operations, list_cells, read_lists, read_rows

CELLS = list_cells("key")


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_by_key(check_cell: Check, cell: Cell) -> None:
    check_cell(cell)


def test_every_operation_has_its_rows() -> None:
    operations = describe_operations()
    assert {row.operation for row in read_rows()} == set(operations)
    assert read_lists().keys() <= set(operations)


@pytest.mark.parametrize("operation", describe_operations())
def test_every_actor_has_an_answer(operation: str) -> None:
    assert {cell.actor for cell in CELLS if cell.row.operation == operation} == {*ACTORS, *NOBODY}


@pytest.mark.parametrize("operation", describe_operations())
def test_an_operation_that_names_a_thing_is_asked_for_an_unknown_one(operation: str) -> None:
    path, _, _ = describe_operations()[operation]
    rows = [row for row in read_rows() if row.operation == operation]
    assert "{" not in path or any("unknown" in (row.relation, *row.state.split()) for row in rows)


def test_what_is_public_is_what_the_specification_says() -> None:
    public = {name for name, (_, _, described) in describe_operations().items() if described.get("security") == []}
    assert {row.operation for row in read_rows() if row.is_public} == public


def test_the_published_table_is_current() -> None:
    assert PATH.read_text("utf-8") == write_document(), "run `make docs`"
