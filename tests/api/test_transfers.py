"""Bytes through the portal: nothing torn is kept, nothing confirmed is changed, and every refusal says why."""

import hashlib
import io
import string
from typing import Any

import pytest
import webtest
from sqlalchemy import text

from datameta.storage import StorageUnavailableError
from tests.conftest import API, BASE_URL, Client, FaultyStorage, Portal, announce, assert_refused, confirm, send

BOUNDARY = "=_x"
FORM = f'multipart/form-data; boundary="{BOUNDARY}"'
SAFE = string.ascii_letters + string.digits + "-._~"
NAMES = ['日本語 "x".fq', "a;b.fq", "50%.fq", "a'b.fq"]


def part(name: str, content: bytes, filename: str | None = "f") -> bytes:
    """Return one part of a form."""
    more = "" if filename is None else f'; filename="{filename}"'
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
    return head.encode() + content + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def send_form(user: Client, announced: dict[str, Any], body: bytes, content_type: str = FORM) -> webtest.TestResponse:
    """POST a form to where the announcement says."""
    path = announced["urlToUpload"].removeprefix(BASE_URL)
    headers = announced["requestHeaders"] | {"Content-Type": content_type}
    return user.portal.app.post(path, body, headers=headers, expect_errors=True)


def run_sql(portal: Portal, statement: str) -> None:
    """Change what only time or an administrator changes."""
    with portal.database.engine.begin() as connection:
        connection.execute(text(statement))


def get_url(user: Client, file: dict[str, Any], **parameters: Any) -> webtest.TestResponse:
    return user.get(f"/rpc/get-file-url/{file['id']['uuid']}", params=parameters)


def fetch(user: Client, file: dict[str, Any], method: str = "get", **headers: str) -> webtest.TestResponse:
    """Fetch the bytes of a file from a fresh address, without a credential."""
    path = get_url(user, file).json["fileUrl"].removeprefix(BASE_URL)
    return getattr(user.portal.app, method)(path, headers=headers, expect_errors=True)


@pytest.fixture
def lab(portal: Portal) -> Client:
    return portal.add_user()


# Sending.


@pytest.mark.parametrize("content", [b"ACGT", b"", bytes(range(256)) * 9000])
def test_raw_bytes_and_a_form_do_the_same(lab: Client, content: bytes) -> None:
    raw, form = announce(lab, content), announce(lab, content)
    answer = send(lab, raw, content)
    assert (answer.status_int, answer.body, answer.content_type) == (204, b"", None)
    answer = send_form(lab, form, part("file", content) + END)
    assert (answer.status_int, answer.body) == (204, b"")
    for announced in (raw, form):
        assert confirm(lab, announced).json["filesize"] == len(content)
        assert fetch(lab, announced).body == content


def test_other_parts_of_the_form_are_passed_over(lab: Client) -> None:
    announced = announce(lab)
    body = b"preamble\r\n" + part("key", b"x" * 100_000) + part("empty", b"", None)
    body += part("file", b"ACGT", None) + part("file", b"second") + part("more", b"y") + END + b"epilogue"
    assert send_form(lab, announced, body).status_int == 204
    assert confirm(lab, announced).json["filesize"] == 4


def test_bytes_that_look_like_a_boundary_are_bytes(lab: Client) -> None:
    content = f"\r\n--{BOUNDARY[:-1]}\r\n\r\n--\r--{BOUNDARY}".encode()
    announced = announce(lab, content)
    assert send_form(lab, announced, part("file", content) + END).status_int == 204
    confirm(lab, announced)
    assert fetch(lab, announced).body == content


@pytest.mark.parametrize(
    ("body", "content_type", "code", "field"),
    [
        (part("other", b"x") + END, FORM, "no_file_part", "file"),
        (END, FORM, "no_file_part", "file"),
        (b"", FORM, "malformed_form", None),
        (b"ACGT", FORM, "malformed_form", None),
        (part("file", b"torn"), FORM, "malformed_form", None),
        (part("file", b"torn")[:-3], FORM, "malformed_form", None),
        (part("file", b"whole") + part("other", b"torn"), FORM, "malformed_form", None),
        (part("file", b"whole") + END[:-4], FORM, "malformed_form", None),
        (f"--{BOUNDARY}\r\n\r\ntorn\r\n".encode() + END, FORM, "malformed_form", None),
        (part("file", b"torn").replace(b'"f"', b'"\xff"') + END, FORM, "malformed_form", None),
        (f"--{BOUNDARY}\r\nX: {'x' * 10_000}\r\n\r\n".encode() + END, FORM, "malformed_form", None),
        (part("file", b"torn") + END, "multipart/form-data", "malformed_form", None),
        (part("file", b"torn") + END, 'multipart/form-data; boundary=""', "malformed_form", None),
        (part("file", b"torn") + END, "multipart/form-data; boundary=other", "malformed_form", None),
    ],
)  # fmt: skip
def test_a_broken_form_leaves_the_former_content(
    lab: Client, body: bytes, content_type: str, code: str, field: str | None
) -> None:
    announced = announce(lab)
    send(lab, announced)
    assert_refused(send_form(lab, announced, body, content_type), 400, (code, field))
    assert confirm(lab, announced).status_int == 200


def test_a_torn_transfer_leaves_the_former_content(lab: Client) -> None:
    announced = announce(lab)
    send(lab, announced)
    assert_refused(send(lab, announced, b"torn", **{"Content-Length": "400"}), 400, ("incomplete_transfer", None))
    assert confirm(lab, announced).status_int == 200


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/x-www-form-urlencoded", "", "multipart/mixed"]
)
def test_what_is_posted_is_a_form(lab: Client, content_type: str) -> None:
    assert_refused(send_form(lab, announce(lab), b"x", content_type), 415, ("unsupported_type", None))


def test_the_last_bytes_count(lab: Client) -> None:
    announced = announce(lab)
    for content in (b"first", b"", b"ACGT"):
        assert send(lab, announced, content).status_int == 204
    assert confirm(lab, announced).status_int == 200


def test_only_the_token_of_the_upload_opens_it(lab: Client) -> None:
    announced, other = announce(lab), announce(lab)
    path = announced["urlToUpload"].removeprefix(BASE_URL)
    tokens = [other["requestHeaders"]["Access-Token"], "", "x", "é", "\xff", lab.token or ""]
    for headers in [{}, {"Authorization": f"Bearer {lab.token}"}, *({"Access-Token": token} for token in tokens)]:
        assert_refused(lab.portal.app.put(path, b"ACGT", headers=headers, expect_errors=True), 404, ("not_found", None))
    assert_refused(confirm(lab, announced), 400, ("no_data", "contentUploaded"))


@pytest.mark.parametrize(
    "file_id", ["DMF-00000000", "3f0e9a3b-0000-4000-8000-000000000000", "%00", "a" * 5000, "%F0%9F%98%80"]
)
def test_an_unknown_upload_is_not_found(lab: Client, file_id: str) -> None:
    headers = announce(lab)["requestHeaders"]
    for send_to in (lab.portal.app.put, lab.portal.app.post):
        answer = send_to(
            f"{API}/upload/{file_id}",
            part("file", b"x") + END,
            headers=headers | {"Content-Type": FORM},
            expect_errors=True,
        )
        assert_refused(answer, 404, ("not_found", None))


def test_an_upload_is_known_by_its_site_id(lab: Client) -> None:
    announced = announce(lab)
    announced["urlToUpload"] = f"{API}/upload/{announced['id']['site']}"
    assert send(lab, announced).status_int == 204


def test_an_upload_past_its_time_is_not_found(lab: Client) -> None:
    announced = announce(lab)
    run_sql(lab.portal, "UPDATE files SET upload_expires_at = now() - interval '1 second'")
    assert_refused(send(lab, announced), 404, ("upload_expired", None))
    renewal = lab.post(f"/files/{announced['id']['uuid']}/upload-url")
    assert_refused(renewal, 410, ("expired", None))


def test_a_renewed_upload_ends_the_former_token(lab: Client) -> None:
    announced = announce(lab)
    send(lab, announced)
    renewed = lab.post(f"/files/{announced['id']['site']}/upload-url").json
    assert renewed.keys() == announced.keys()
    assert renewed["id"] == announced["id"]
    assert_refused(send(lab, announced, b"late"), 404, ("not_found", None))
    assert confirm(lab, announced).status_int == 200
    assert_refused(lab.post(f"/files/{announced['id']['site']}/upload-url"), 403, ("not_modifiable", None))


def test_an_upload_is_renewed_by_its_owner_alone(lab: Client) -> None:
    announced = announce(lab)
    other = lab.portal.add_user(site_admin=True)
    assert_refused(other.post(f"/files/{announced['id']['uuid']}/upload-url"), 403, ("forbidden", None))
    assert_refused(lab.post("/files/DMF-00000000/upload-url"), 404, ("not_found", None))


def test_bytes_sent_after_the_confirmation_change_nothing(lab: Client) -> None:
    announced = announce(lab)
    send(lab, announced)
    confirm(lab, announced)
    for content in (b"other", b"ACGT", b""):
        assert_refused(send(lab, announced, content), 409, ("already_confirmed", None))
        assert_refused(send_form(lab, announced, part("file", content) + END), 409, ("already_confirmed", None))
    run_sql(lab.portal, "UPDATE files SET upload_expires_at = now() - interval '1 second'")
    assert_refused(send(lab, announced, b"late"), 409, ("already_confirmed", None))
    assert fetch(lab, announced).body == b"ACGT"
    storage = lab.portal.storage
    assert [b"".join(storage.read(entry.key)) for entry in storage.list_objects()] == [b"ACGT"]
    assert list(storage.list_uploads()) == []


def test_bytes_in_flight_when_the_file_is_confirmed_are_refused(lab: Client) -> None:
    announced = announce(lab)
    send(lab, announced)

    class Body(io.BytesIO):
        """A body in the midst of which its file is confirmed."""

        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 0:
                confirm(lab, announced)
            return super().read(5)

    path = announced["urlToUpload"].removeprefix(BASE_URL)
    environ = {"wsgi.input": Body(b"first other"), "CONTENT_LENGTH": "11"}
    request = webtest.TestRequest.blank(path, environ, method="PUT", headers=announced["requestHeaders"])
    answer = lab.portal.app.do_request(request, expect_errors=True)
    assert_refused(answer, 409, ("already_confirmed", None))
    assert fetch(lab, announced).body == b"ACGT"


def test_bytes_for_a_deleted_file_are_refused(lab: Client) -> None:
    announced = announce(lab)
    lab.delete(f"/files/{announced['id']['uuid']}")
    assert_refused(send(lab, announced), 404, ("not_found", None))


def test_too_many_bytes_are_refused(lab: Client) -> None:
    announced = announce(lab)
    send(lab, announced)
    object.__setattr__(lab.portal.settings, "upload_max_bytes", 10)
    assert_refused(send(lab, announced, b"x" * 11), 413, ("too_large", None))
    assert_refused(send_form(lab, announced, part("file", b"x" * 11) + END), 413, ("too_large", None))
    assert confirm(lab, announced).status_int == 200
    assert send(lab, announce(lab), b"x" * 10).status_int == 204


# Fetching.


@pytest.mark.parametrize("name", NAMES)
def test_a_download_has_the_announced_name_and_no_type(lab: Client, name: str) -> None:
    answer = fetch(lab, lab.upload(name, b"ACGT"))
    assert answer.body == b"ACGT"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Length"] == "4"
    disposition = answer.headers["Content-Disposition"]
    encoded = "".join(chr(byte) if chr(byte) in SAFE else f"%{byte:02X}" for byte in name.encode())
    assert disposition.endswith(f"; filename*=UTF-8''{encoded}")


@pytest.mark.parametrize(
    ("header", "expected"),
    [("bytes=0-0", (0, 1)), ("bytes=2-5", (2, 6)), ("bytes=7-", (7, 10)), ("bytes=0-", (0, 10)), ("bytes=-3", (7, 10)),
     ("bytes=-99", (0, 10)), ("bytes=5-99", (5, 10)), ("bytes=9-9", (9, 10))],
)  # fmt: skip
def test_a_range_is_given(lab: Client, header: str, expected: tuple[int, int]) -> None:
    start, stop = expected
    answer = fetch(lab, lab.upload("a", b"0123456789"), Range=header)
    assert (answer.status_int, answer.body) == (206, b"0123456789"[start:stop])
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/10"
    assert answer.headers["Content-Length"] == str(stop - start)


@pytest.mark.parametrize(
    "header", ["bytes=0-1,4-5", "bytes=5-2", "bytes=-", "bytes=", "lines=0-1", "bytes=a-b", "nonsense", ""]
)
def test_what_is_no_single_range_gives_the_whole(lab: Client, header: str) -> None:
    answer = fetch(lab, lab.upload("a", b"0123456789"), Range=header)
    assert (answer.status_int, answer.body) == (200, b"0123456789")


@pytest.mark.parametrize(
    ("content", "header"), [(b"0123456789", "bytes=10-"), (b"0123456789", "bytes=-0"), (b"", "bytes=0-")]
)
def test_a_range_outside_the_file_is_refused(lab: Client, content: bytes, header: str) -> None:
    answer = fetch(lab, lab.upload("a", content), Range=header)
    assert_refused(answer, 416, ("range_not_satisfiable", None))
    assert answer.headers["Content-Range"] == f"bytes */{len(content)}"


def test_head_tells_without_bytes(lab: Client) -> None:
    answer = fetch(lab, lab.upload("a", b"ACGT"), "head")
    assert (answer.status_int, answer.body, answer.headers["Content-Length"]) == (200, b"", "4")
    assert answer.headers["Accept-Ranges"] == "bytes"


def test_a_download_address_ends_and_says_so(lab: Client) -> None:
    path = get_url(lab, lab.upload("a", b"ACGT"), expires=10080).json["fileUrl"].removeprefix(BASE_URL)
    assert lab.portal.app.get(path).body == b"ACGT"
    run_sql(lab.portal, "UPDATE download_tokens SET expires_at = expires_at - interval '10080 minutes'")
    assert_refused(lab.portal.app.get(path, expect_errors=True), 410, ("expired", None))


@pytest.mark.parametrize("token", ["x", "%00", "%C3%A9", "a" * 5000])
def test_an_unknown_download_address_is_not_found(lab: Client, token: str) -> None:
    assert_refused(lab.portal.anonymous().get(f"/download/{token}"), 404, ("not_found", None))


def test_the_address_of_a_deleted_file_is_not_found(lab: Client) -> None:
    file = lab.upload("a", b"ACGT")
    path = get_url(lab, file).json["fileUrl"].removeprefix(BASE_URL)
    lab.delete(f"/files/{file['id']['uuid']}")
    assert_refused(lab.portal.app.get(path, expect_errors=True), 404, ("not_found", None))


@pytest.mark.parametrize("statement", ["UPDATE files SET state = 'deleting'", "SELECT 1"])
def test_a_download_that_a_deletion_overtakes_is_not_found(lab: Client, statement: str) -> None:
    file = lab.upload("a", b"ACGT")
    path = get_url(lab, file).json["fileUrl"].removeprefix(BASE_URL)
    run_sql(lab.portal, statement)
    lab.portal.storage.delete(f"files/{file['id']['uuid']}")
    assert_refused(lab.portal.app.get(path, expect_errors=True), 404, ("not_found", None))


def test_a_silent_store_gives_no_bytes(portal: Portal) -> None:
    portal = Portal(portal.database, portal.settings, FaultyStorage(portal.storage, error=StorageUnavailableError()))
    lab = portal.add_user()
    file = lab.upload("a", b"ACGT")
    portal.storage.method = "read"
    answer = fetch(lab, file)
    assert_refused(answer, 503, ("unavailable", None))
    assert answer.headers["Retry-After"]


# Addresses.


def test_an_address_is_given_for_confirmed_content(lab: Client) -> None:
    announced = announce(lab)
    assert_refused(get_url(lab, announced), 400, ("not_confirmed", None))
    send(lab, announced)
    assert_refused(get_url(lab, announced), 400, ("not_confirmed", None))
    confirm(lab, announced)
    answer = get_url(lab, announced).json
    assert answer.keys() == {"fileId", "fileUrl", "expires", "checksum"}
    assert answer["fileId"] == announced["id"]
    assert answer["checksum"] == hashlib.md5(b"ACGT").hexdigest()
    by_site_id = lab.get(f"/rpc/get-file-url/{announced['id']['site']}").json
    assert by_site_id["fileId"] == announced["id"]


@pytest.mark.parametrize("minutes", ["0", "10081", "abc", "-1", "1.5", "", "9" * 40])
def test_a_wrong_life_is_refused(lab: Client, minutes: str) -> None:
    answer = get_url(lab, lab.upload("a", b"ACGT"), expires=minutes)
    assert answer.status_int == 400
    assert [problem["field"] for problem in answer.json] == ["expires"]


def test_an_address_is_redirected_to_if_asked(lab: Client) -> None:
    file = lab.upload("a", b"ACGT")
    answer = get_url(lab, file, redirect="true")
    assert answer.status_int == 307
    assert answer.location == answer.json["fileUrl"]
    assert lab.portal.app.get(answer.location.removeprefix(BASE_URL)).body == b"ACGT"
    assert get_url(lab, file, redirect="false").status_int == 200
    answer = get_url(lab, file, redirect="maybe")
    assert answer.status_int == 400
    assert [problem["field"] for problem in answer.json] == ["redirect"]


def test_an_address_is_given_to_whoever_may_read_the_file(lab: Client) -> None:
    admin = lab.portal.add_user("Office", site_admin=True)
    reader = lab.portal.add_user("Office", site_read=True)
    colleague, stranger = lab.portal.add_user(), lab.portal.add_user("Lab B")
    file = lab.upload("a", b"ACGT")
    for other in (admin, reader, colleague, stranger):
        assert_refused(get_url(other, file), 403, ("forbidden", None))
    admin.add_field("F", isFile=True)
    assert lab.submit([lab.stage(F="a")], [file]).status_int == 200
    assert [get_url(user, file).status_int for user in (lab, reader, colleague)] == [200] * 3
    for other in (admin, stranger):
        assert_refused(get_url(other, file), 403, ("forbidden", None))
    assert_refused(lab.get("/rpc/get-file-url/DMF-00000000"), 404, ("not_found", None))


def test_a_range_of_the_headers_alone_is_the_whole(lab: Client) -> None:
    file = lab.upload("a.fq", b"ACGT")
    url = lab.get(f"/rpc/get-file-url/{file['id']['uuid']}").json["fileUrl"].removeprefix(BASE_URL)
    answer = lab.portal.app.head(url, headers={"Range": "bytes=1-2"})
    assert (answer.status_int, answer.headers["Content-Length"]) == (200, "4")
