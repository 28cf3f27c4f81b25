"""However many things a request is about, it takes the same number of statements."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from tests.conftest import Client, Portal, counted, set_setting

MD5 = "0" * 32
COUNTS = (1, 50)
ADD_FILES = """
INSERT INTO files (site_id, user_id, name, checksum, state, upload_expires_at, storage_key, size)
SELECT sent.name, users.id, sent.name, repeat('0', 32), 'confirmed', now(), 'files/' || gen_random_uuid(), 1
FROM users, unnest(CAST(:names AS text[])) AS sent (name) WHERE users.site_id = :user RETURNING files.site_id
"""


@pytest.fixture
def lab(portal: Portal) -> Client:
    admin = portal.add_user("Office", site_admin=True)
    admin.add_field("ID", isSiteUnique=True)
    admin.add_field("Reads", isFile=True)
    admin.add_field("Day", dateTimeFmt="%d.%m.%Y")
    return portal.add_user("Lab A")


def make_records(count: int, name: str) -> list[dict[str, str]]:
    names = [f"{name}-{number}" for number in range(count)]
    return [{"ID": name, "Reads": f"{name}.fq", "Day": "01.02.2026"} for name in names]


def stage(lab: Client, count: int, name: str) -> list[str]:
    answer = lab.post("/rpc/stage-metadatasets", {"records": make_records(count, name)})
    assert answer.status_int == 200, answer.body
    return [result["id"]["site"] for result in answer.json["results"]]


def add_files(lab: Client, count: int, name: str) -> list[str]:
    names = [record["Reads"] for record in make_records(count, name)]
    with lab.portal.database.engine.begin() as connection:
        return list(connection.scalars(text(ADD_FILES), {"names": names, "user": lab.site_id}))


def make_submission(lab: Client, count: int, name: str) -> dict[str, Any]:
    return {"metadatasetIds": stage(lab, count, name), "fileIds": add_files(lab, count, name)}


def submit(lab: Client, count: int, name: str) -> str:
    answer = lab.post("/submissions", make_submission(lab, count, name))
    assert answer.status_int == 200, answer.body
    site: str = answer.json["id"]["site"]
    return site


def count_statements(lab: Client, method: str, path: str, body: Any = None) -> int:
    # When somebody was seen last is noted now and then.
    lab.get("/rpc/whoami")
    with counted(lab.portal) as statements:
        answer = lab.request(method, path, body)
    assert answer.status_int in (200, 204), answer.body
    return len(statements)


DEEDS: dict[str, Callable[[Client, int, str], Any]] = {
    "/rpc/stage-metadatasets": lambda lab, count, name: {"records": make_records(count, name)},
    "/rpc/stage-metadatasets?only=good": lambda lab, count, name: {
        "records": [*make_records(count, name), *({"Day": "no day"} for _ in range(count))]
    },
    "/rpc/announce-files": lambda lab, count, name: {
        "files": [{"name": f"{name}-{number}.fq", "checksum": MD5, "size": 1} for number in range(count)]
    },
    "/rpc/delete-metadatasets": lambda lab, count, name: {"metadatasetIds": stage(lab, count, name)},
    "/rpc/delete-files": lambda lab, count, name: {"fileIds": add_files(lab, count, name)},
    "/presubvalidation": make_submission,
    "/submissions": make_submission,
}


@pytest.mark.parametrize("path", DEEDS)
def test_to_do_something_with_many_takes_as_many_statements_as_with_one(lab: Client, path: str) -> None:
    counts = [count_statements(lab, "post", path, DEEDS[path](lab, count, f"n{count}")) for count in COUNTS]
    assert counts[0] == counts[1] <= 20


def test_a_quota_takes_as_many_statements_for_many_files_as_for_one(portal: Portal, lab: Client) -> None:
    set_setting(portal, "quota_group_bytes", "1000")
    make = DEEDS["/rpc/announce-files"]
    counts = [count_statements(lab, "post", "/rpc/announce-files", make(lab, count, f"n{count}")) for count in COUNTS]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("path", ["/staged/metadatasets?limit=100", "/staged/files?limit=100"])
def test_to_list_what_is_staged_takes_as_many_statements_for_many_as_for_one(lab: Client, path: str) -> None:
    counts = []
    for count in COUNTS:
        stage(lab, count, f"n{count}")
        add_files(lab, count, f"n{count}")
        counts.append(count_statements(lab, "get", path))
    assert counts[0] == counts[1] <= 4


@pytest.mark.parametrize(
    "path",
    [
        "/metadatasets",
        "/metadatasets?limit=100",
        "/search?limit=100",
        "/search?q=n&sort=field:ID&limit=100",
        "/search/export?format=csv",
        "/submissions/{}",
        "/submissions/{}/files?limit=100",
        "/groups/{}/submissions",
        "/submissions?limit=100",
        "/overview",
    ],
)
def test_to_read_a_large_submission_takes_as_many_statements_as_a_small_one(lab: Client, path: str) -> None:
    counts = []
    for count in COUNTS:
        site = submit(lab, count, f"n{count}")
        counts.append(count_statements(lab, "get", path.format(lab.group if "groups" in path else site)))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    "path", ["/metadatasets", "/search?limit=100", "/groups/{}/submissions", "/submissions?limit=100", "/overview"]
)
def test_to_read_many_submissions_takes_as_many_statements_as_one(lab: Client, path: str) -> None:
    counts = []
    for count in COUNTS:
        for number in range(count):
            submit(lab, 1, f"n{count}-{number}")
        counts.append(count_statements(lab, "get", path.format(lab.group)))
    assert counts[0] == counts[1]


def test_to_read_many_fields_takes_as_many_statements_as_a_few(portal: Portal, lab: Client) -> None:
    admin = portal.add_user("Office", site_admin=True)
    lab.get("/metadata")
    counts = []
    for few in (1, 20):
        for number in range(few):
            admin.add_field(f"Field {few}.{number}")
        counts.append(count_statements(lab, "get", "/metadata"))
    assert counts[0] == counts[1] <= 6
    # Who asks, and whether anything has changed.
    assert count_statements(lab, "get", "/metadata") == 2
