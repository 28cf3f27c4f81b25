"""The matrix as people read it: docs/authorisation.md, one table per part of the portal."""

from itertools import groupby
from pathlib import Path

from tests.authz.matrix import ACTORS, CREDENTIALS, NOBODY, Row, describe_operations, read_lists, read_rows

PATH = Path(__file__).parents[2] / "docs" / "authorisation.md"
INTRODUCTION = """\
# Who may do what

Made by `make docs` from `tests/authz/matrix.yaml`; the tests ask the portal every question in it, by UUID and by
site id, with an API key and with a session, and check that a refused request changes nothing.

*Whose* is as the asker sees it: one's *own*, that of a colleague in the *same group*, that of a member of an *other
group*, *existing* and nobody's, or an *unknown* id. The id may also stand in the body or the query. A service user is
a user of the service in question. Rights add up in a user who has several. `key 403, session 204`: the answer depends
on the credential. Nobody is whoever comes without a credential, or with one that is unknown, expired, or of a disabled
user. A dash means that there is nothing to ask.
"""
HIDDEN = """
## What answers hide

* `GET /users/{id}`: e-mail address and roles are null, unless the asker is a site admin or admins the user's group.
* Metadatasets: values, files and executions of a service are left out, unless the asker has site read or is a user of
  the service. Searches do not look at them then, and histories and the overview do not tell of them.
* Whoever sees what was submitted, sees the names of the group and the user that submitted it.
* `GET /overview`: the site's numbers are for site admins.
* Refusals: nothing about the thing or its owner but the ids that were sent.
"""
COLUMNS = (*ACTORS, "nobody")


OWNERS = ("own", "same group", "other group")


def write_document() -> str:
    """Return the whole document."""
    operations = describe_operations()
    parts = [INTRODUCTION]
    for tag in dict.fromkeys(described["tags"][0] for _, _, described in operations.values()):
        parts.append(f"\n## {tag}\n\n")
        parts.append(_write_line("Operation", "State or case", "Whose", *map(str.capitalize, COLUMNS)))
        parts.append(_write_line(*["---"] * (3 + len(COLUMNS))))
        names = [name for name, (_, _, described) in operations.items() if described["tags"][0] == tag]
        rows = [_describe_row(row) for name in names for row in read_rows() if row.operation == name]
        for (operation, state, *answers), same in groupby(rows, lambda columns: (*columns[:2], *columns[3:])):
            parts.append(_write_line(operation, state, ", ".join(columns[2] for columns in same), *answers))
    parts.append("\n## What lists show\n\nThings, by whose they are, and the users who find them in the list.\n\n")
    parts.append(_write_line("Operation", "Things", *map(str.capitalize, OWNERS)))
    parts.append(_write_line(*["---"] * (2 + len(OWNERS))))
    for name, listed in read_lists().items():
        shown = [_describe_actors(listed.shown_to.get(relation)) for relation in OWNERS]
        parts.append(_write_line(_describe_operation(name), f"{listed.state} {listed.kind}".strip(), *shown))
    return "".join([*parts, HIDDEN])


def _describe_row(row: Row) -> tuple[str, ...]:
    whose = "" if row.relation == "always" else row.relation
    answers = (_describe_answer(row, actors) for actors in (*((actor,) for actor in ACTORS), NOBODY))
    return _describe_operation(row.operation), row.state, whose, *answers


def _describe_operation(operation: str) -> str:
    path, method, _ = describe_operations()[operation]
    return f"`{method.upper()} {path}`"


def _describe_answer(row: Row, actors: tuple[str, ...]) -> str:
    """Return the one status; or each, with the credential or the actor it is for."""
    by_credential = {name: row.get_status(actors[0], name) for name in CREDENTIALS}
    if len(set(by_credential.values())) > 1:
        return f"key {by_credential['key']}, session {by_credential['cookie']}"
    by_actor = {actor: row.get_status(actor, "key") for actor in actors}
    usual = by_actor[actors[0]]
    odd = [f"{actor} {status}" for actor, status in by_actor.items() if status != usual]
    return ", ".join(["–" if usual is None else str(usual), *odd])


def _describe_actors(actors: tuple[str, ...] | None) -> str:
    if actors is None:
        return "–"
    return "all" if actors == ACTORS else ", ".join(actors) or "nobody"


def _write_line(*columns: str) -> str:
    return f"| {' | '.join(columns)} |\n"
