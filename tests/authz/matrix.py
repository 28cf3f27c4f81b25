"""The authorisation matrix, read: rows as they are written, and one cell for every question they answer."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from datameta.api import iterate_operations, load_spec

ACTORS = ("user", "group admin", "site read", "site admin", "service user")
NOBODY = ("no credential", "unknown credential", "expired credential", "disabled user")
CREDENTIALS = ("key", "cookie")
RELATIONS = {
    "own": ("own",),
    "same group": ("same group",),
    "other group": ("other group",),
    "foreign": ("same group", "other group"),
    "any": ("own", "same group", "other group"),
    "existing": ("existing",),
    "unknown": ("unknown",),
    "always": ("always",),
}
WITHOUT_SITE_ID = ("key", "session", "metadatum", "setting", "registration", "job")
MATRIX = Path(__file__).with_name("matrix.yaml")
Answer = int | dict[str, Any]


@dataclass(frozen=True)
class Row:
    """What one operation answers for things of one relation and state, to each actor."""

    operation: str
    kind: str
    is_public: bool
    state: str
    relation: str
    answer: Answer

    def get_status(self, actor: str, credential: str) -> int | None:
        """Return the status this actor gets by this credential; None if the row is not about this actor."""
        if actor in NOBODY and not self.is_public:
            return 401
        answer: Answer | None = self.answer
        names = (actor, *(("nobody",) if actor in NOBODY else ()), "others", credential)
        while isinstance(answer, dict):
            answer = next((answer[name] for name in names if name in answer), None)
        return answer


@dataclass(frozen=True)
class List:
    """Of which kind of thing a list is, and to which actors it shows those of each relation."""

    kind: str
    state: str
    shown_to: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Cell:
    """One question to the portal, and the status of the answer."""

    row: Row
    actor: str
    id_kind: str
    credential: str
    status: int

    def __str__(self) -> str:
        parts = (self.row.operation, self.actor, self.row.relation, self.row.state, self.id_kind, self.credential)
        return " / ".join(part for part in parts if part)


@cache
def read_rows() -> list[Row]:
    """Return every row of the matrix, in its order."""
    matrix, _ = yaml.safe_load_all(MATRIX.read_text("utf-8"))
    return [row for operation, described in matrix.items() for row in _read_operation(operation, described)]


@cache
def read_lists() -> dict[str, "List"]:
    """Return whose things each list shows to whom."""
    _, lists = yaml.safe_load_all(MATRIX.read_text("utf-8"))
    return {operation: _read_list(described) for operation, described in lists.items()}


def list_cells(credential: str) -> list[Cell]:
    """Return every cell of the matrix by key, or by cookie."""
    return [cell for row in read_rows() for cell in _list_cells(row, credential)]


def describe_operations() -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Return path, method and description of each operation of the specification by its id."""
    operations = iterate_operations(load_spec())
    return {described["operationId"]: (path, method, described) for path, method, described in operations}


def _read_operation(operation: str, described: dict[str, Any]) -> Iterator[Row]:
    kind, is_public = described.get("of", ""), described.get("public", False)
    for key, value in described.items():
        if key in ("of", "public"):
            continue
        state, answers = ("", {key: value}) if key in RELATIONS else (key, value)
        for name, answer in answers.items():
            for relation in RELATIONS[name]:
                yield Row(operation, kind, is_public, state, relation, answer)


def _read_list(described: dict[str, Any]) -> List:
    everybody = {"all": ACTORS, "none": ()}
    shown_to = {
        relation: everybody[whom] if isinstance(whom, str) else tuple(whom)
        for name, whom in described.items()
        if name in RELATIONS
        for relation in RELATIONS[name]
    }
    return List(described["of"], described.get("state", ""), shown_to)


def _list_cells(row: Row, credential: str) -> Iterator[Cell]:
    named = row.relation != "always"
    id_kinds = [""] if not named else ["uuid"] if row.kind in WITHOUT_SITE_ID else ["uuid", "site"]
    for actor in (*ACTORS, *NOBODY):
        status = row.get_status(actor, credential)
        is_same_as_by_key = actor == NOBODY[0] and credential == "cookie"
        if status is None or is_same_as_by_key:
            continue
        # A stranger is refused before an id is read, so that one kind of id stands for both.
        is_stranger = actor in NOBODY and not row.is_public
        for id_kind in id_kinds[:1] if is_stranger else id_kinds:
            yield Cell(row, actor, id_kind, credential, status)
