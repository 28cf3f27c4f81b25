"""Schemathesis against a portal that is served: whoever asks for whatever, every answer is in the specification.

Six identities, each with data of its own, ask the same portal one after the other, those who can change
most for all others last. What must not be broken meanwhile stands in ``hooks.py``. Checks of Schemathesis that are
left out, each for its reason:

* ``positive_data_acceptance``: what fits the specification may still break a rule, which is a 400;
* ``ensure_resource_availability``, ``use_after_free``: they follow links between operations, which the specification
  does not have; ``test_state_machine.py`` says what is there and what is gone;
* ``ignored_auth``, ``object_level_authorization``: the authorisation matrix covers every operation, whole;
* ``missing_required_header``: the one required header is a secret; without it an upload is unknown (404).

``DATAMETA_FUZZ_CASES`` and ``DATAMETA_FUZZ_SEED`` choose another number of cases, and others.
"""

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from datameta import embedded, migrations
from datameta.database import Database
from datameta.settings import Settings
from datameta.storage import open_storage
from tests.conftest import PASSWORD, Client, Portal, announce, send, sign_in
from tests.e2e.conftest import DEADLINE_SECONDS, REPOSITORY, Served, make_environment, run_datameta, serve

CASES = int(os.environ.get("DATAMETA_FUZZ_CASES", "10000"))
SEED = int(os.environ.get("DATAMETA_FUZZ_SEED", "1"))
SPECIFICATION = REPOSITORY / "openapi.yaml"
OPERATIONS = 94
COVERAGE_CASES = 1800
"""About so many cases come from the specification's own boundaries, and cannot be chosen."""
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "documented_status",
    "refusal_is_a_list_of_problems",
    "answer_tells_no_secret",
    "answer_has_the_security_headers",
)
IDENTITIES: dict[str, dict[str, bool]] = {
    "anonymous": {},
    "user": {},
    "browser": {},
    "group_admin": {"group_admin": True},
    "site_read": {"site_read": True},
    "site_admin": {"site_admin": True},
}
LEAKS = re.compile(r"Traceback|psycopg|sqlalchemy|site-packages|/home/")
METHODS = (b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"get", b"PATCH", b"", b"G T", b"\x00", b"G\xffT")
TARGETS = (
    b"/", b"/api/v1/server", b"/api/v1/files/%00", b"/api/v1/files/%ff", b"/api/v1/files/\xff", b"//api/v1/server",
    b"/api/v1/metadatasets?limit=%ff", b"/api/v1/../server", b"http://other.example/api/v1/server", b"*",
    b"/api/v1/download/%2e%2e%2f", b"/api/v1/upload/%00", b"/api/v1/keys", b"/api/v1/sessions", b"/" + b"a" * 9000,
)  # fmt: skip
VERSIONS = (b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.1 ", b"", b"http/1.1")
HEADER_LINES = (
    b"Host: other.example", b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 5, 6", b"Content-Length: +5",
    b"Content-Length: 18446744073709551616", b"Content-Length: \xb2", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked, chunked", b"Content-Type: application/json",
    b"Content-Type: multipart/form-data; boundary=x", b"Content-Type: \xff", b"Content-Encoding: gzip",
    b"Authorization: Bearer \xff\x00", b"Authorization: Bearer " + b"a" * 64, b"Cookie: datameta=\xff", b"Cookie: ;=;",
    b"Access-Token: \xff", b"Idempotency-Key: \xff", b"Range: bytes=9-1", b"Expect: 100-continue", b" folded",
    b"No colon", b": no name", b"X: \x00", b"X-Forwarded-For: \xff", b"Origin: \xff", b"Content_Length: 5",
)  # fmt: skip
BODIES = (b"", b"{}", b'{"a"', b"\xff", b"5\r\nabcde\r\n0\r\n\r\n", b"zz\r\n", b"--x\r\n\r\n")
LAST = b"\r\n\r\nGET /api/v1/server HTTP/1.1\r\nConnection: close\r\n\r\n"
SIGNS_OUT_ALL = ("second_factor_required", "session_idle_hours", "session_max_hours")
SENDS_ALL_AWAY = ("quota_group_bytes", "quota_user_bytes")


@dataclass
class Site:
    """A portal that is served, and what each identity has there."""

    served: Served
    folder: Path
    worlds: dict[str, dict[str, Any]]
    variables: dict[str, str]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve a portal over a database in which every identity has a group, colleagues and data."""
    folder = tmp_path_factory.mktemp("fuzz")
    with embedded.running(folder / "database", durable=False) as url:
        migrations.upgrade(url)
        settings = Settings(home=folder / "home", bcrypt_cost=4)
        database = Database(url)
        portal = Portal(database, settings, open_storage(settings))
        common = make_common(portal)
        worlds = {name: make_world(portal, common, name, **roles) for name, roles in IDENTITIES.items()}
        database.dispose()
        variables = {"DATAMETA_DATABASE_URL": url}
        with serve(folder / "home", folder, "--no-worker", variables=variables) as served:
            yield Site(served, folder, worlds, variables)


def make_common(portal: Portal) -> dict[str, list[str]]:
    """Define fields, a service and settings, and let somebody wish for an account; return the ids."""
    admin = portal.add_user("Office", site_admin=True, site_read=True)
    service = admin.post("/services", {"name": "Analysis"}).json["id"]["uuid"]
    fields = [
        admin.add_field("ID", isSiteUnique=True),
        admin.add_field("Day", dateTimeFmt="%Y-%m-%d"),
        admin.add_field("File", isFile=True),
        admin.add_field("Result", serviceId=service),
    ]
    wish = {"org_create": None, "org_new_name": None, "check_user_agreement": True, "org_select": admin.group}
    for number in range(5):
        wish |= {"name": f"Applicant {number}", "email": f"applicant{number}@example.org"}
        assert portal.anonymous().post("/registrations", wish).status_int == 204
    settings = [item for item in admin.get("/appsettings").json if item["key"] not in SIGNS_OUT_ALL + SENDS_ALL_AWAY]
    return {
        "fields": [field["id"]["uuid"] for field in fields],
        "services": [service],
        "settings": [item["id"]["uuid"] for item in settings],
        "registrations": [item["id"]["uuid"] for item in admin.get("/registrations").json],
        "jobs": fail_jobs(portal),
        "admin": [admin.token or ""],
    }


def fail_jobs(portal: Portal) -> list[str]:
    """Let every job have failed, and return their numbers."""
    with portal.database.sessions.begin() as db:
        return [
            str(number) for number in db.scalars(text("UPDATE procrastinate_jobs SET status = 'failed' RETURNING id"))
        ]


def make_world(portal: Portal, common: dict[str, list[str]], name: str, **roles: bool) -> dict[str, Any]:
    """Add an identity with a colleague, keys, files, sets and a submission; return what ``hooks.py`` reads."""
    group = f"Lab {name}"
    client, colleague = portal.add_user(group, **roles), portal.add_user(group)
    other = portal.add_user(f"Other {name}")
    [service] = common["services"]
    site_admin = Client(portal, common["admin"][0], "", "", "", "")
    users = [item["uuid"] for item in site_admin.get("/services").json[0]["userIds"]]
    assert site_admin.put(f"/services/{service}", {"userIds": [*users, client.uuid]}).status_int == 200
    files, metadatasets, submissions = [], [], []
    for number in range(5):
        sent = announce(client, name=f"sent{number}.fq")
        assert send(client, sent).status_int == 204
        files.append(sent)
    for owner in (client, colleague, other):
        file = f"{owner.site_id}.fq"
        files += [owner.upload(file, b"ACGT"), owner.upload("spare.fq", b"ACGT")]
        metadatasets.append(owner.stage(ID=owner.site_id, Day="2026-03-14", File=file))
        submissions.append(owner.submit(metadatasets[-1:], files[-2:-1]).json)
        metadatasets.append(owner.stage(ID=f"staged {owner.site_id}"))
    in_parts = [open_session(client, is_sent=number % 3 == 2) for number in range(15)]
    own_key, *_ = client.get(f"/users/{client.uuid}/keys").json
    keys = [client.post("/keys", {"label": f"spare {number}"}).json["id"]["uuid"] for number in range(10)]
    own, spare = sign_in(client), sign_in(client)
    sessions = {browser.get("/sessions/current").json["id"]["uuid"]: browser for browser in (own, spare)}
    token = client.get(f"/rpc/get-file-url/{files[-6]['id']['uuid']}").json["fileUrl"].rpartition("/")[2]
    headers = {
        "anonymous": {},
        "browser": {"Cookie": f"datameta={own.cookie}", "X-CSRF-Token": own.csrf},
    }.get(name, {"Authorization": f"Bearer {client.token}"})
    own_session, spare_session = sessions
    return {
        "headers": headers,
        "own": {"user": client.uuid, "key": own_key["id"]["uuid"], "session": own_session},
        "account": {"email": colleague.email, "password": PASSWORD},
        "pools": {
            **common,
            "contents": [files[-6]["id"]["uuid"], files[-4]["id"]["uuid"]],
            "files": [file["id"]["uuid"] for file in files],
            "given_up": in_parts[0::3],
            "groups": [client.group, other.group],
            "in_parts": in_parts[1::3],
            "keys": keys,
            "metadatasets": [item["id"]["uuid"] for item in metadatasets],
            "sent": in_parts[2::3],
            "sessions": [spare_session],
            "submissions": [item["id"]["uuid"] for item in submissions],
            "tokens": [token],
            "users": [client.uuid, colleague.uuid, other.uuid],
        },
    }


def open_session(client: Client, *, is_sent: bool) -> str:
    """Announce a file and open its upload session, maybe send its one part; return its id."""
    content = b"ACGT"
    uuid: str = announce(client, content)["id"]["uuid"]
    path = f"/files/{uuid}/upload-session"
    assert client.post(path, {"size": len(content)}).status_int == 200
    if is_sent:
        wanted = [{"number": 1, "md5": hashlib.md5(content).hexdigest()}]
        [part] = client.post(f"{path}/part-urls", {"parts": wanted}).json["parts"]
        sent = send(client, {"urlToUpload": part["url"], "requestHeaders": part["requestHeaders"]}, content)
        assert sent.status_int == 204, sent.body
    return uuid


@pytest.mark.parametrize("name", IDENTITIES)
def test_every_answer_is_in_the_specification(site: Site, name: str) -> None:
    report, world = site.folder / f"{name}.report.json", site.folder / f"{name}.world.json"
    database = site.variables["DATAMETA_DATABASE_URL"].replace("+psycopg", "")
    world.write_text(json.dumps({**site.worlds[name], "database": database, "report": str(report)}), "utf-8")
    # The browser, which only its own operations tell from the user, comes on top.
    wanted = 0 if name == "browser" else CASES // (len(IDENTITIES) - 1)
    headers = site.worlds[name]["headers"]
    words = [word for header in headers.items() for word in ("-H", ": ".join(header))]
    if name != "anonymous":
        # Else keys are made up, and sent beside the cookie.
        words += ["--generation-with-security-parameters", "false"]
    if name == "browser":
        # It would sign out.
        words += ["--include-tag", "Accounts", "--exclude-operation-id", "deleteCurrentSession"]
    start = time.monotonic()
    run = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            *("run", str(SPECIFICATION), "--url", f"{site.served.address}/api/v1", *words),
            *("--phases", "coverage,fuzzing", "--checks", ",".join(CHECKS), "--continue-on-failure"),
            *("--max-examples", str(max(4, (wanted - COVERAGE_CASES) // OPERATIONS)), "--seed", str(SEED)),
            *("--generation-database", "none", "--suppress-health-check", "all", "--warnings", "off", "--no-color"),
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=site.folder,
        env=make_environment(
            PYTHONPATH=str(REPOSITORY), SCHEMATHESIS_HOOKS="tests.fuzz.hooks", DATAMETA_FUZZ_WORLD=str(world)
        ),
    )
    seconds = time.monotonic() - start
    assert run.returncode == 0, run.stdout + run.stderr
    statuses = {operation: Counter(answers) for operation, answers in json.loads(report.read_text("utf-8")).items()}
    answers = sum(statuses.values(), Counter[str]())
    cases = answers.total()
    print(f"{name}: seed {SEED}, {cases} cases, {cases / seconds:.0f}/s, {dict(sorted(answers.items()))}")
    assert cases >= wanted
    assert len(statuses) == (20 if name == "browser" else OPERATIONS)
    assert not [status for status in answers if status >= "500"]
    # Nobody has shut the door upon itself: else most of these answers were the same 401.
    allowed = [operation for operation, found in statuses.items() if any(status < "400" for status in found)]
    assert len(allowed) >= (5 if name in ("anonymous", "browser") else 25), allowed


@settings(
    max_examples=max(200, CASES // 10),
    derandomize="DATAMETA_FUZZ_SEED" not in os.environ,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    line=st.tuples(
        st.sampled_from(METHODS), st.sampled_from(TARGETS) | st.binary(max_size=20), st.sampled_from(VERSIONS)
    ),
    headers=st.lists(st.sampled_from(HEADER_LINES) | st.binary(max_size=40), max_size=4),
    body=st.sampled_from(BODIES) | st.binary(max_size=20),
)
def test_any_bytes_get_an_answer_that_is_http(
    site: Site, line: tuple[bytes, bytes, bytes], headers: list[bytes], body: bytes
) -> None:
    request = b"\r\n".join([b" ".join(line), *headers, b"", body])
    where = urlsplit(site.served.address)
    with socket.create_connection((where.hostname, where.port), timeout=DEADLINE_SECONDS) as connection:
        # Whatever the request still waits for, the last ones fulfil; the first of them that is understood ends it.
        connection.sendall(request + LAST * 8)
        answers = b""
        with suppress(ConnectionResetError):
            while received := connection.recv(65536):
                answers += received
    assert re.match(rb"HTTP/1\.[01] (?!500)[1-5]\d\d ", answers), (request, answers)
    assert b"HTTP/1.1 500" not in answers
    head, _, rest = answers.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    if status >= 400 and line[0] != b"HEAD":
        assert b"Content-Type: application/json" in head, (request, answers)
        assert rest.startswith(b'[{"exception":'), (request, answers)
    assert LEAKS.search(answers.decode("latin-1")) is None


def test_the_portal_had_no_failure_to_log(site: Site) -> None:
    assert site.served.process.poll() is None
    assert "Traceback" not in site.served.log
    levels = {json.loads(line)["level"] for line in site.served.log.splitlines()}
    assert "info" in levels
    assert not levels & {"error", "critical"}


def test_every_job_that_was_left_can_be_done(site: Site) -> None:
    done = run_datameta("worker", "--once", "--home", str(site.folder / "home"), variables=site.variables)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
