"""The shape of errors: every refusal, whatever raised it, is a JSON list of problems that tells no secret."""

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
import webtest
from openapi_schema_validator import OAS31Validator
from sqlalchemy import event, text
from sqlalchemy.exc import ProgrammingError

from datameta.api import iterate_operations, load_spec, serialize
from datameta.api.validation import explain_errors
from datameta.database import Database
from datameta.logic import metadatasets
from tests.conftest import API, Client, Portal, codes

SPEC = load_spec()
ERROR_LIST = OAS31Validator({"$ref": "#/components/schemas/ErrorList", "components": SPEC["components"]})
OPERATIONS = list(iterate_operations(SPEC))
PUBLIC = [(path, method) for path, method, described in OPERATIONS if described.get("security") == []]
PRIVATE = [(path, method) for path, method, described in OPERATIONS if described.get("security") != []]
DEAD_URL = "postgresql+psycopg://nobody:a-secret-password@127.0.0.1:1/nothing"


@pytest.fixture
def lab(portal: Portal) -> Client:
    return portal.add_user("Lab A")


def send(client: Client, method: str, path: str, body: bytes = b"", **headers: str) -> webtest.TestResponse:
    """Send raw bytes, below or beside the API."""
    if client.token is not None:
        headers.setdefault("Authorization", f"Bearer {client.token}")
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.portal.app.request(path, method=method, body=body, headers=sent, expect_errors=True)


def check_refusal(answer: webtest.TestResponse, status: int) -> set[tuple[str, str | None]]:
    """Check status, headers and shape; return code and field of every problem."""
    assert answer.status_int == status, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert list(ERROR_LIST.iter_errors(answer.json)) == []
    assert answer.json
    assert all(problem["message"].strip() for problem in answer.json)
    for secret in (b"Traceback", b"SELECT", b"/datameta/", b".py", b"psycopg", b"sqlalchemy", b"secret"):
        assert secret not in answer.body
    return codes(answer)


# Who are you: first of all.


def fill(path: str) -> str:
    return API + path.replace("{", "").replace("}", "")


def test_a_stranger_hears_401_before_anything_else(portal: Portal) -> None:
    stranger = portal.anonymous()
    for path, method in PRIVATE:
        for body, content_type in ((b"", "application/json"), (b"{", "application/json"), (b"x", "text/plain")):
            address = fill(path) + "?limit=x&expires=x"
            answer = send(stranger, method.upper(), address, body, Content_Type=content_type)
            assert check_refusal(answer, 401) == {("unauthenticated", None)}, (method, path)
            assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_public_operation_asks_nobody_who_they_are(portal: Portal) -> None:
    for path, method in PUBLIC:
        answer = send(portal.anonymous(), method.upper(), fill(path), b"{", Content_Type="application/json")
        assert answer.status_int != 401, (method, path)
        if answer.status_int >= 400:
            check_refusal(answer, answer.status_int)


def test_every_bad_credential_is_401(portal: Portal, lab: Client) -> None:
    token = lab.token or ""
    bad = [
        "", "Bearer", "Bearer ", f"Bearer {token[:-1]}", f"Bearer {token}x", f"Bearer {token} x", f"Basic {token}",
        token, f"Bearer {token.swapcase()}", "Bearer " + "x" * 64,
        "Bearer " + "ü" * 64, f"Bearer {token},Bearer {token}",
        "Bearer " + "x" * 100_000,
    ]  # fmt: skip
    for credential in bad:
        answer = send(lab, "GET", f"{API}/rpc/whoami", Authorization=credential.encode().decode("latin-1"))
        assert check_refusal(answer, 401) == {("unauthenticated", None)}
    for good in (f"bearer {token}", f"BEARER {token}", f"Bearer  {token} "):
        assert send(lab, "GET", f"{API}/rpc/whoami", Authorization=good).status_int == 200


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE api_keys SET expires_at = now()",
        "UPDATE users SET enabled = false",
        "DELETE FROM api_keys",
    ],
)
def test_a_credential_that_ended_is_401_at_once(portal: Portal, lab: Client, change: str) -> None:
    assert lab.get("/rpc/whoami").status_int == 200
    with portal.database.engine.begin() as connection:
        connection.execute(text(change))
    assert check_refusal(lab.get("/rpc/whoami"), 401) == {("unauthenticated", None)}


def test_malformed_comes_before_unknown_and_forbidden(portal: Portal, lab: Client) -> None:
    assert check_refusal(lab.put("/services/DMP-x", {"nonsense": 1}), 400) == {("unknown_property", "nonsense")}
    assert check_refusal(lab.put("/services/DMP-x", {"name": "x"}), 403) == {("forbidden", None)}
    admin = portal.add_user(site_admin=True)
    assert check_refusal(admin.put("/services/DMP-x", {"name": ""}), 404) == {("not_found", None)}


# Where to.


def test_an_unknown_address_is_404(portal: Portal, lab: Client) -> None:
    for path in ("/api/", "/api/v2/files", f"{API}/metadatasets/", f"{API}/%2e%2e"):
        for client in (lab, portal.anonymous()):
            for method in ("GET", "POST", "DELETE"):
                assert check_refusal(send(client, method, path), 404) == {("unknown_address", None)}
    # All that is not the API's is the browser application's page, which is only read.
    assert check_refusal(send(lab, "POST", "/submit"), 404) == {("unknown_address", None)}


def test_a_wrong_method_hears_which_are_right(lab: Client) -> None:
    for path in SPEC["paths"]:
        right = {method.upper() for other, method, _ in OPERATIONS if other == path}
        for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"} - right:
            answer = send(lab, method, fill(path))
            assert check_refusal(answer, 405) == {("method_not_allowed", None)}
            assert set(answer.headers["Allow"].split(", ")) == right


def test_head_is_get_without_a_body(portal: Portal, lab: Client) -> None:
    for path, status in (("/rpc/whoami", 200), ("/services", 403), ("/nothing", 404), ("/presubvalidation", 405)):
        answer = send(lab, "HEAD", API + path)
        assert (answer.status_int, answer.body) == (status, b"")
        assert answer.headers["Content-Type"] == "application/json"
    assert send(portal.anonymous(), "HEAD", f"{API}/rpc/whoami").status_int == 401


def test_the_api_leads_to_its_version(portal: Portal) -> None:
    answer = send(portal.anonymous(), "GET", "/api")
    assert (answer.status_int, answer.location) == (302, "http://portal.test/api/v1")
    answer = send(portal.anonymous(), "POST", "/api")
    assert check_refusal(answer, 405) == {("method_not_allowed", None)}
    assert answer.headers["Allow"] == "GET"


def test_an_address_that_is_not_utf8_is_refused(lab: Client) -> None:
    for address in ("/%ff", "/%ED%A0%80", "/a%c3", "?submittedAfter=%ff", "?%ff=1"):
        assert check_refusal(send(lab, "GET", f"{API}/metadatasets{address}"), 400) == {("malformed", None)}


def test_an_address_with_a_bad_id_or_parameter_names_it(lab: Client) -> None:
    for address, field in (
        ("/%00", "id"),
        ("/" + "x" * 101, "id"),
        ("?submittedAfter=%00", "submittedAfter"),
        ("?awaitingService=%00", "awaitingService"),
    ):
        assert {name for _, name in check_refusal(lab.get(f"/metadatasets{address}"), 400)} == {field}


# What with.


def nest(depth: int, opening: bytes, closing: bytes, core: bytes = b"") -> bytes:
    return opening * depth + core + closing * depth


INVALID_JSON = [
    b"{", b"[}", b"{'record': {}}", b'{"record": {}} x', b'{"record": {"A": NaN}}', b'{"record": {"A": -Infinity}}',
    b'{"record": {"A": "\xff"}}', b'{"record": {"A": "\xed\xa0\x80"}}', b'{"record": {"A": "\\ud800"}}',
    b'{"record": {"\\udfff": "x"}}', b'{"record": {"A": "a\nb"}}', b'\xef\xbb\xbf{"record": {}}',
    '{"record": {}}'.encode("utf-16"), b"\xff", b"\x00", b"record=x", b'{"record": {"A": ' + b"9" * 4301 + b"}}",
]  # fmt: skip


def test_a_body_that_is_not_json_is_refused(lab: Client) -> None:
    for body in INVALID_JSON:
        answer = send(lab, "POST", f"{API}/metadatasets", body, Content_Type="application/json")
        assert check_refusal(answer, 400) == {("invalid_json", None)}, body


def test_a_body_nested_too_deeply_is_refused(lab: Client) -> None:
    # From about 100 levels on the validator would recurse too deeply, from about 1,000 on the decoder.
    for depth in (20, 100, 300, 900, 950, 990, 1000, 100_000):
        for body in (
            nest(depth, b"[", b"]"),
            nest(depth, b'{"a":', b"}", b"1"),
            b'{"record":{"A":' + nest(depth, b"[", b"]") + b"}}",
            b'{"record":' + nest(depth, b'{"a":', b"}", b"1") + b"}",
        ):
            answer = send(lab, "POST", f"{API}/metadatasets", body, Content_Type="application/json")
            assert check_refusal(answer, 400) == {("invalid_json", None)}


def test_a_key_that_occurs_twice_is_named(lab: Client) -> None:
    body = b'{"record": {"A": 1, "A": 2, "B": 1, "B\\u0000": 1}}'
    answer = send(lab, "POST", f"{API}/metadatasets", body, Content_Type="application/json")
    assert check_refusal(answer, 400) == {("duplicate_key", "A")}
    body = b'{"metadatasetIds": [], "fileIds": [], "fileIds": ["x"]}'
    answer = send(lab, "POST", f"{API}/submissions", body, Content_Type="application/json")
    assert check_refusal(answer, 400) == {("duplicate_key", "fileIds")}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([], {("wrong_type", None)}),
        (None, {("wrong_type", None)}),
        ({}, {("missing", "metadatasetIds"), ("missing", "fileIds")}),
        ({"metadatasetIds": []}, {("missing", "fileIds")}),
        ({"metadatasetIds": [], "file_ids": []}, {("missing", "fileIds"), ("unknown_property", "file_ids")}),
        (
            {"metadatasetIds": None, "fileIds": "x", "label": 1},
            {("wrong_type", "metadatasetIds"), ("wrong_type", "fileIds"), ("wrong_type", "label")},
        ),
        (
            {"metadatasetIds": ["x", 1], "fileIds": [["x"], "x" * 101], "label": "a\0"},
            {
                ("wrong_type", "metadatasetIds/1"),
                ("wrong_type", "fileIds/0"),
                ("too_long", "fileIds/1"),
                ("invalid_text", "label"),
            },
        ),
        (
            {"metadatasetIds": [10**400], "fileIds": [True]},
            {("wrong_type", "metadatasetIds/0"), ("wrong_type", "fileIds/0")},
        ),
        ({"metadatasetIds": [], "fileIds": [], "a\0": 1}, {("unknown_property", "a\\0")}),
    ],
)
def test_a_body_that_does_not_fit_the_specification_is_told_all(
    lab: Client, body: Any, expected: set[tuple[str, str | None]]
) -> None:
    for path in ("submissions", "presubvalidation"):
        answer = send(lab, "POST", f"{API}/{path}", json.dumps(body).encode(), Content_Type="application/json")
        assert check_refusal(answer, 400) == expected


def test_a_list_that_is_too_long_is_named(lab: Client) -> None:
    for length, expected in ((100_001, {("too_many", "fileIds")}), (100_000, {("not_found", "fileIds")})):
        answer = lab.post("/presubvalidation", {"metadatasetIds": [], "fileIds": ["x"] * length})
        assert check_refusal(answer, 400) == expected


def test_what_the_validator_says_itself_is_not_told() -> None:
    [problem] = explain_errors([ValueError("a secret")])
    assert "secret" not in problem.message


def test_a_value_or_null_is_told_as_a_value(portal: Portal) -> None:
    admin = portal.add_user(site_admin=True)
    answer = admin.put("/services/DMP-x", {"name": 3, "userIds": ["x", 3]})
    assert check_refusal(answer, 400) == {("wrong_type", "name"), ("wrong_type", "userIds/1")}


def test_a_number_out_of_bounds_is_named(portal: Portal) -> None:
    admin = portal.add_user(site_admin=True)
    field = {**admin.add_field("A"), "order": 2**31}
    del field["id"]
    field = {name: "" if value is None else value for name, value in field.items()}
    assert check_refusal(admin.post("/metadata", field), 400) == {("out_of_range", "order")}
    assert check_refusal(admin.post("/metadata", {**field, "order": 1.5}), 400) == {("wrong_type", "order")}


def test_a_record_out_of_bounds_is_refused(portal: Portal, lab: Client) -> None:
    portal.add_user(site_admin=True).add_field("A")
    for record, field in (
        ({"A": "a\0"}, "A"),
        ({"A": "x" * 10_001}, "A"),
        ({"A\0": 1}, "record"),
        ({"x" * 256: 1}, "record"),
        ({str(number): 1 for number in range(1001)}, "record"),
    ):
        assert {name for _, name in check_refusal(lab.post("/metadatasets", {"record": record}), 400)} == {field}


def test_another_content_type_is_415(lab: Client) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "x", ""):
        answer = send(lab, "POST", f"{API}/metadatasets", b'{"record": {}}', Content_Type=content_type)
        assert check_refusal(answer, 415) == {("unsupported_type", None)}


def test_the_content_type_may_say_more(lab: Client) -> None:
    for content_type in ("application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"):
        assert send(lab, "POST", f"{API}/metadatasets", b'{"record": {}}', Content_Type=content_type).status_int == 200


def test_no_body_may_be_omitted(portal: Portal) -> None:
    admin = portal.add_user(site_admin=True)
    refused = 0
    for path, method, described in OPERATIONS:
        if "requestBody" not in described or path.startswith("/upload/"):
            continue
        for headers in ({}, {"Content_Type": "application/json"}):
            query = "?filename=run.csv" if path.startswith("/sheets/") else ""
            answer = send(admin, method.upper(), fill(path) + query, b"", **headers)
            if answer.status_int != 501:
                assert check_refusal(answer, 400) == {("missing_body", None)}, (method, path)
                refused += 1
    assert refused > 20


# What fails here.


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.DEBUG)
    return lambda: "\n".join(logging.Formatter().format(record) for record in caplog.records)


def count_sets(portal: Portal) -> int:
    with portal.database.engine.connect() as connection:
        return connection.execute(text("SELECT count(*) FROM metadatasets")).scalar_one()


def test_a_crash_tells_nothing_and_changes_nothing(
    portal: Portal, lab: Client, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    stage = metadatasets.stage_metadataset

    def stage_and_crash(*arguments: Any, **more: Any) -> Any:
        stage(*arguments, **more)
        raise RuntimeError("a secret")

    monkeypatch.setattr(metadatasets, "stage_metadataset", stage_and_crash)
    assert check_refusal(lab.post("/metadatasets", {"record": {}}), 500) == {("internal_error", None)}
    assert "a secret" in logged()
    assert count_sets(portal) == 0


def test_an_answer_that_breaks_the_specification_is_500_and_not_committed(
    portal: Portal, lab: Client, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    show = serialize.show_metadataset
    monkeypatch.setattr(serialize, "show_metadataset", lambda *arguments: {**show(*arguments), "extra": "a secret"})
    assert check_refusal(lab.post("/metadatasets", {"record": {}}), 500) == {("internal_error", None)}
    assert "extra: unknown_property" in logged()
    assert "a secret" not in logged()
    assert count_sets(portal) == 0
    monkeypatch.undo()
    assert lab.post("/metadatasets", {"record": {}}).status_int == 200
    assert count_sets(portal) == 1


def test_a_crash_behind_the_views_is_500_and_not_committed(
    portal: Portal, lab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(response: Any) -> Any:
        raise RuntimeError("a secret")

    monkeypatch.setattr("pyramid_openapi3.tween.PyramidOpenAPIResponse", crash)
    assert check_refusal(lab.post("/metadatasets", {"record": {}}), 500) == {("internal_error", None)}
    assert count_sets(portal) == 0


def test_an_answer_that_cannot_be_written_is_500_and_not_committed(
    portal: Portal, lab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serialize, "show_metadataset", lambda *arguments: {"record": object()})
    assert check_refusal(lab.post("/metadatasets", {"record": {}}), 500) == {("internal_error", None)}
    assert count_sets(portal) == 0


def test_a_failing_statement_tells_nobody_what_was_sent(
    portal: Portal, lab: Client, monkeypatch: pytest.MonkeyPatch, logged: Callable[[], str]
) -> None:
    def fail(db: Any, actor: Any, *, record: dict[str, str], **more: Any) -> Any:
        db.execute(text("SELECT no_such_column, :value"), {"value": record["A"]})

    monkeypatch.setattr(metadatasets, "stage_metadataset", fail)
    assert check_refusal(lab.post("/metadatasets", {"record": {"A": "a secret"}}), 500) == {("internal_error", None)}
    assert ProgrammingError.__name__ in logged()
    assert "a secret" not in logged()


def test_a_refused_body_is_not_logged(portal: Portal, lab: Client, logged: Callable[[], str]) -> None:
    assert lab.post("/keys", {"label": ["a secret"], "password": 3}).status_int == 400
    answer = send(lab, "POST", f"{API}/keys", b'{"password": "a secret"', Content_Type="application/json")
    assert check_refusal(answer, 400) == {("invalid_json", None)}
    assert "a secret" not in logged()
    assert (lab.token or "") not in logged()


def test_a_database_that_is_away_is_503(portal: Portal, logged: Callable[[], str]) -> None:
    dead = Database(DEAD_URL)
    client = Portal(dead, portal.settings, portal.storage).anonymous()
    client.token = "x" * 64
    for method, path in (("get", "/rpc/whoami"), ("get", "/metadatasets"), ("post", "/submissions")):
        answer = client.request(method, path)
        assert check_refusal(answer, 503) == {("unavailable", None)}
        assert answer.headers["Retry-After"] == "5"
    dead.dispose()
    assert "a-secret-password" not in logged()


def test_a_connection_lost_in_the_request_is_503_and_nothing_is_kept(
    portal: Portal, lab: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = metadatasets.stage_metadataset

    def stage_and_lose(db: Any, *arguments: Any, **more: Any) -> Any:
        row = stage(db, *arguments, **more)
        end_connection(portal, db.scalar(text("SELECT pg_backend_pid()")))
        db.execute(text("SELECT 1"))
        return row

    monkeypatch.setattr(metadatasets, "stage_metadataset", stage_and_lose)
    assert check_refusal(lab.post("/metadatasets", {"record": {}}), 503) == {("unavailable", None)}
    assert count_sets(portal) == 0


def test_a_connection_lost_at_the_commit_is_503_and_nothing_is_kept(portal: Portal, lab: Client) -> None:
    def lose(connection: Any) -> None:
        end_connection(portal, connection.scalar(text("SELECT pg_backend_pid()")))

    event.listen(portal.database.engine, "commit", lose)
    try:
        answer = lab.post("/metadatasets", {"record": {}})
    finally:
        event.remove(portal.database.engine, "commit", lose)
    assert check_refusal(answer, 503) == {("unavailable", None)}
    assert count_sets(portal) == 0
    assert lab.post("/metadatasets", {"record": {}}).status_int == 200


def end_connection(portal: Portal, process: int) -> None:
    """Let the server end a connection, and wait until it has."""
    with portal.database.autocommit.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:process, 10000)"), {"process": process})
