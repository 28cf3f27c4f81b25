"""docs/errors.md lists every error code there is, and one code has one sense."""

import ast

from tests.docs import check_document
from tests.docs.errors import WORD, collect_codes, render_errors
from tests.unit.test_architecture import parse_modules

SEVERAL_STATUSES = {
    "not_a_service_user": "the contract makes it 400 where it only narrows a list, 403 where it is the right itself",
    "not_found": "the contract makes it 400 where the id stands in the body of a submission or a service",
    "not_unique_in_site": "400 for the submission, 409 for the definition that would make what is submitted collide",
    "otp_invalid": "401 at sign-in, 400 at enrolment, where the user is known",
    "upload_expired": "404 for the bytes, as for every dead address; 409 for the confirmation of a file that exists",
}
"""The codes that come with more than one status, and why it is the same sense."""
COMPUTED = {"api/validation.py", "errors.py", "logic/records.py", "logic/services.py", "logic/sheets.py"}
"""Where a problem gets a code from a table or a pair beside its message, which the reader knows too; or from what is
found in a sheet (docs/sheets.md)."""


def test_the_document_is_what_the_source_says() -> None:
    check_document("errors.md", render_errors(collect_codes()))


def test_codes_are_words_in_snake_case() -> None:
    assert [code for code in collect_codes() if not WORD.fullmatch(code)] == []


def test_one_code_has_one_sense() -> None:
    found = collect_codes()
    several = {code for code, entry in found.items() if len({status for status, _ in entry.answers}) > 1}
    assert several == set(SEVERAL_STATUSES)
    sentences = [(message, code) for code, entry in found.items() for message in entry.messages]
    assert len(dict(sentences)) == len(sentences), "one message under two codes"


def test_codes_stand_in_the_source_as_words() -> None:
    computed = {
        name
        for name, tree in parse_modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Problem"
        if not isinstance(node.args[1], ast.Constant)
    }
    assert computed == COMPUTED
