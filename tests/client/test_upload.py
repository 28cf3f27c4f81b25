"""Whatever happens on the way, what is handed in is what was on the disk, and nothing is sent in vain."""

import hashlib
import json
import os
import time
import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from datameta.client import api, network, upload
from tests.client.conftest import PART_BYTES, Lab
from tests.faults.proxy import CutError, Once, Way, answer, cut, pass_all

LARGE = 2 * PART_BYTES + 1234
PUT = b"PUT /api/v1/upload/"
EXPIRED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"
LIMITED = BUSY.replace(b"503 Service Unavailable", b"429 Too Many Requests")


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def check_there(lab: Lab, path: Path, said: Any, state: str = "confirmed") -> None:
    """Check that a file is at the portal, and that the client says so."""
    content = path.read_bytes()
    [file] = lab.find_staged(path.name)
    assert said == {
        "path": str(path),
        "id": file["id"],
        "name": path.name,
        "size": len(content),
        "checksum": md5(content),
        "state": state,
        "error": None,
    }
    assert file["contentUploaded"]
    assert lab.api.fetch(file) == content


@pytest.mark.parametrize("size", [0, 1, PART_BYTES, PART_BYTES + 1, LARGE])
def test_a_file_of_any_size_is_handed_in_once(lab: Lab, size: int) -> None:
    path = lab.write(f"any {size} ü.bin", size)
    [said] = lab.upload(path)
    check_there(lab, path, said)
    sent = lab.proxy.bytes_up
    assert size <= sent < size + 20_000
    [said] = lab.upload(path)
    check_there(lab, path, said, "already_there")
    assert lab.proxy.bytes_up - sent < 10_000


def test_letters_with_accents_are_one_letter_in_either_form(lab: Lab) -> None:
    name = unicodedata.normalize("NFC", "Prübe é.fq")
    path = lab.write(unicodedata.normalize("NFD", name), 10)
    [said] = lab.upload(path)
    assert said["name"] == name
    [said] = lab.upload(path)
    assert said["state"] == "already_there"
    other = lab.write(name, 10)
    done = lab.run("upload", path, other)
    assert done.exit_code == 2
    assert "have one name" in done.stderr
    path.unlink()
    other.write_bytes(lab.api.fetch(lab.find_staged(name)[0]))
    [said] = lab.upload(other)
    assert said["state"] == "already_there"


def test_many_files_go_at_once_and_one_refusal_stops_no_other(lab: Lab) -> None:
    good = [lab.write(f"many-{number}", size) for number, size in enumerate([10, LARGE, 0, LARGE + 1, LARGE + 2])]
    bad = lab.write(" many-5", 5)
    refused, *said = lab.upload(bad, *good, code=1, words=("--jobs", "3"))
    for path, each in zip(good, said, strict=True):
        check_there(lab, path, each)
    assert (refused["state"], refused["id"]) == ("refused", None)
    assert refused["error"] == "A file name does not begin or end with a space."


class Flaky:
    """Cut each connection that has carried so many bytes up, as often as told."""

    def __init__(self, after: int, times: int) -> None:
        self.after = after
        self.times = times

    def __call__(self, way: Way, piece: bytes, before: int) -> None:
        if way is Way.UP and before > self.after and self.times > 0:
            self.times -= 1
            raise CutError


@pytest.mark.parametrize("size", [PART_BYTES, LARGE])
def test_a_connection_that_breaks_costs_one_part(lab: Lab, size: int) -> None:
    path = lab.write(f"cut {size}", size)
    rule = lab.proxy.rule = Flaky(after=PART_BYTES // 2, times=5)
    [said] = lab.upload(path, words=("--jobs", "1"))
    assert rule.times == 0
    check_there(lab, path, said)
    assert size + 5 * PART_BYTES // 2 <= lab.proxy.bytes_up <= size + 5 * PART_BYTES


@pytest.mark.parametrize("reply", [BUSY, LIMITED, EXPIRED])
@pytest.mark.parametrize("size", [10, LARGE])
def test_a_refusal_that_may_pass_is_met_with_another_try(lab: Lab, size: int, reply: bytes) -> None:
    path = lab.write(f"again {size} {reply[9:12].decode()}", size)
    times = 2 if reply == EXPIRED else 5
    rule = lab.proxy.rule = Once(PUT, Way.UP, partial(answer, reply), times)
    [said] = lab.upload(path)
    assert rule.met == times
    check_there(lab, path, said)


@pytest.mark.parametrize("size", [10, LARGE])
def test_an_address_that_is_never_taken_is_a_refusal(lab: Lab, size: int) -> None:
    path = lab.write(f"never {size}", size)
    lab.proxy.rule = Once(PUT, Way.UP, partial(answer, EXPIRED), 1000)
    [said] = lab.upload(path, code=1)
    assert (said["state"], said["error"]) == ("refused", "127.0.0.1 answered 403")


@pytest.mark.parametrize(
    ("words", "size"),
    [
        (b"POST /api/v1/files ", 10),
        (PUT, 10),
        (b'{"contentUploaded":', 10),
        (b"POST /api/v1/files ", LARGE),
        (b"/upload-session ", LARGE),
        (b"/part-urls ", LARGE),
        (b"/complete ", LARGE),
        (b"GET /api/v1/files/", LARGE),
    ],
)
def test_an_answer_that_is_lost_does_nothing_twice(lab: Lab, words: bytes, size: int) -> None:
    path = lab.write(f"lost {words.decode().split('/')[-1].strip(' {:')} {size}".replace('"', ""), size)
    rule = lab.proxy.rule = Once(words, Way.UP, partial(cut, is_passed=True))
    [said] = lab.upload(path)
    assert rule.met == 1
    check_there(lab, path, said)


def test_what_was_sent_by_a_run_that_gave_up_is_not_sent_again(lab: Lab) -> None:
    path = lab.write("resumed", LARGE)

    def pass_some(way: Way, piece: bytes, before: int) -> None:
        if lab.proxy.bytes_up > PART_BYTES * 3 // 2:
            raise CutError

    lab.proxy.rule = pass_some
    [said] = lab.upload(path, code=3, words=("--jobs", "1"), patience=0)
    assert said["state"] == "unfinished"
    before = lab.proxy.bytes_up
    assert before > PART_BYTES
    lab.proxy.rule = pass_all
    [said] = lab.upload(path)
    check_there(lab, path, said)
    assert lab.proxy.bytes_up - before < LARGE - PART_BYTES + 20_000


def send_parts(lab: Lab, path: Path, content: bytes, numbers: list[int]) -> str:
    """Begin to send a file as the client does, with some parts of ``content``; return its id."""
    announced = {"name": path.name, "checksum": md5(path.read_bytes()[:PART_BYTES])}
    file_id: str = lab.api.call("POST", "/files", announced)["id"]["site"]
    session = f"/files/{file_id}/upload-session"
    opened = lab.api.call("POST", session, {"size": len(content)})
    assert opened["partSize"] == PART_BYTES
    send_some(lab, session, content, numbers)
    return file_id


def send_some(lab: Lab, session: str, content: bytes, numbers: list[int]) -> None:
    """Send some parts of ``content``."""
    for number in numbers:
        part = content[(number - 1) * PART_BYTES : number * PART_BYTES]
        window = lab.api.call("POST", f"{session}/part-urls", {"parts": [{"number": number, "md5": md5(part)}]})
        [request] = window["parts"]
        assert requests.put(request["url"], data=part, headers=request["requestHeaders"], timeout=60).ok


def test_a_part_that_arrived_and_differs_is_sent_again(lab: Lab) -> None:
    path = lab.write("differs", LARGE)
    file_id = send_parts(lab, path, bytes(LARGE), [2])
    [said] = lab.upload(path)
    check_there(lab, path, said)
    assert said["id"]["site"] == file_id


def test_parts_that_have_all_arrived_are_only_compared(lab: Lab) -> None:
    path = lab.write("arrived", LARGE)
    file_id = send_parts(lab, path, path.read_bytes(), [1, 2, 3])
    before = lab.proxy.bytes_up
    [said] = lab.upload(path)
    check_there(lab, path, said)
    assert said["id"]["site"] == file_id
    assert lab.proxy.bytes_up - before < 20_000


def test_a_file_that_was_only_announced_is_gone_on_with(lab: Lab) -> None:
    path = lab.write("only announced", LARGE)
    announced = lab.api.announce(path.name, path.read_bytes()[:PART_BYTES])
    [said] = lab.upload(path)
    check_there(lab, path, said)
    assert said["id"] == announced["id"]


def test_an_upload_of_another_size_is_not_gone_on_with(lab: Lab) -> None:
    path = lab.write("grown", LARGE)
    file_id = send_parts(lab, path, bytes(LARGE - 1), [1])
    [said] = lab.upload(path)
    assert said["state"] == "confirmed"
    assert said["id"]["site"] != file_id


def test_content_that_failed_its_verification_is_sent_anew(lab: Lab) -> None:
    path = lab.write("failed", LARGE)
    file_id = send_parts(lab, path, bytes(LARGE), [1, 2, 3])
    session = f"/files/{file_id}/upload-session"
    checksum = md5(path.read_bytes())
    assert lab.api.call("POST", f"{session}/complete", {"checksum": checksum})["state"] == "failed"
    [said] = lab.upload(path)
    check_there(lab, path, said)
    assert said["id"]["site"] != file_id


@pytest.mark.parametrize("size", [10, LARGE])
def test_a_file_that_changes_meanwhile_is_refused(lab: Lab, size: int) -> None:
    path = lab.write(f"changing {size}", size)

    def change() -> None:
        with path.open("ab") as file:
            file.write(b"more")

    lab.proxy.rule = Once(PUT, Way.UP, change)
    [said] = lab.upload(path, code=1)
    assert (said["state"], said["error"]) == (
        "refused",
        "The file changes while it is sent. Upload it again once it is complete.",
    )
    lab.proxy.rule = pass_all
    [said] = lab.upload(path)
    assert said["checksum"] == md5(path.read_bytes())


def test_a_change_that_hides_itself_is_found_by_the_portal(lab: Lab) -> None:
    path = lab.write("hiding", LARGE)

    def change() -> None:
        # After the third part was sent, and before the whole was hashed so far, or after: both are found.
        found = path.stat()
        with path.open("r+b") as file:
            file.seek(PART_BYTES // 2)
            file.write(b"other")
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))

    lab.proxy.rule = Once(PUT, Way.UP, change)
    done = lab.run("upload", path)
    assert done.exit_code in (0, 1), done.output
    lab.proxy.rule = pass_all
    [said] = lab.upload(path)
    assert said["checksum"] == md5(path.read_bytes())
    assert lab.api.fetch(said) == path.read_bytes()


def test_small_files_that_were_announced_are_gone_on_with(lab: Lab) -> None:
    path = lab.write("announced", 10)
    announced = lab.api.announce(path.name, path.read_bytes())
    [said] = lab.upload(path)
    check_there(lab, path, said)
    assert said["id"] == announced["id"]


def make_refusal(status: str, code: str) -> bytes:
    """Return a refusal in the portal's place."""
    body = json.dumps([{"exception": "X", "error_code": code, "message": code}]).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize("code", ["confirmation_running", "verification_in_progress"])
def test_a_small_file_whose_bytes_are_there_is_only_confirmed(lab: Lab, code: str) -> None:
    path = lab.write(f"sent {code}", 5_000_000)
    announced = lab.api.announce(path.name, path.read_bytes())
    request = {"data": path.read_bytes(), "headers": announced["requestHeaders"], "timeout": 60}
    assert requests.put(announced["urlToUpload"], **request).ok
    before = lab.proxy.bytes_up
    lab.proxy.rule = Once(b"PUT /api/v1/files/", Way.UP, partial(answer, make_refusal("409 Conflict", code)), times=99)
    [said] = lab.upload(path, code=3, patience=0)
    assert said["error"] == "The portal has all bytes, but does not go on with confirming them."
    lab.proxy.rule = Once(b"PUT /api/v1/files/", Way.UP, partial(answer, make_refusal("409 Conflict", code)), times=2)
    [said] = lab.upload(path)
    check_there(lab, path, said)
    assert said["id"] == announced["id"]
    assert lab.proxy.bytes_up - before < 20_000


@pytest.mark.parametrize(
    "refusal",
    [
        make_refusal("410 Gone", "expired"),
        make_refusal("409 Conflict", "size_mismatch"),
        make_refusal("409 Conflict", "session_over"),
    ],
)
def test_an_upload_that_is_over_is_announced_anew(lab: Lab, refusal: bytes) -> None:
    path = lab.write(f"over {len(refusal)}", LARGE)
    file_id = send_parts(lab, path, path.read_bytes(), [1])
    lab.proxy.rule = Once(b"POST /api/v1/files/", Way.UP, partial(answer, refusal))
    [said] = lab.upload(path)
    assert (said["state"], said["checksum"]) == ("confirmed", md5(path.read_bytes()))
    assert said["id"]["site"] != file_id
    other = lab.write(f"over {len(refusal)} twice", LARGE)
    lab.proxy.rule = Once(b"POST /api/v1/files/", Way.UP, partial(answer, refusal))
    [said] = lab.upload(other, code=1)
    assert said["error"] == "The portal has ended this upload. Run the same command again."


@pytest.mark.parametrize("is_complete", [True, False])
def test_who_sends_the_same_file_later_waits_for_the_first(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, is_complete: bool
) -> None:
    path = lab.write(f"twice {is_complete}", LARGE)
    content = path.read_bytes()
    file_id = send_parts(lab, path, content, [1])
    real, calls = upload.UploadSession.request_parts, []

    def be_overtaken(self: Any, md5s: Any) -> Any:
        calls.append(md5s)
        if len(calls) == 1 and is_complete:
            session = f"/files/{file_id}/upload-session"
            send_some(lab, session, content, [2, 3])
            lab.api.call("POST", f"{session}/complete", {"checksum": md5(content)})
        elif len(calls) <= 2 and not is_complete:
            raise network.RefusedError("running", 409, [{"error_code": "confirmation_running"}])
        return real(self, md5s)

    monkeypatch.setattr(upload.UploadSession, "request_parts", be_overtaken)
    [said] = lab.upload(path, words=("--jobs", "1"))
    check_there(lab, path, said)
    assert said["id"]["site"] == file_id


def test_a_portal_that_always_says_that_others_are_at_it_is_not_asked_for_ever(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = lab.write("always running", PART_BYTES + 1)

    def refuse(self: Any, md5s: Any) -> Any:
        raise network.RefusedError("running", 409, [{"error_code": "confirmation_running"}])

    monkeypatch.setattr(upload.UploadSession, "request_parts", refuse)
    [said] = lab.upload(path, code=1)
    assert (said["state"], said["error"]) == ("refused", "running")


def test_a_large_file_handed_in_by_other_means_is_known(lab: Lab) -> None:
    path = lab.write("known", PART_BYTES + 1)
    file = lab.api.upload(path.name, path.read_bytes(), "sha256")
    [said] = lab.upload(path)
    assert (said["state"], said["id"]) == ("already_there", file["id"])
    other = lab.write("known", PART_BYTES + 1)
    other.write_bytes(other.read_bytes()[::-1])
    [said] = lab.upload(other)
    assert said["state"] == "confirmed"
    assert said["id"] != file["id"]


def test_a_verification_that_stands_still_is_not_waited_for_for_ever(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lab.write("slow", LARGE)
    file_id = send_parts(lab, path, path.read_bytes(), [1, 2, 3])
    lab.api.call("POST", f"/files/{file_id}/upload-session/complete", {"checksum": md5(path.read_bytes())})
    session = lab.api.call("GET", f"/files/{file_id}/upload-session")
    [file] = lab.find_staged(path.name)
    # The job is slow at will only in the answers.
    monkeypatch.setattr(upload.Portal, "get_session", lambda self, each: session | {"state": "verifying"})
    monkeypatch.setattr(upload.Portal, "list_staged", lambda self: [file | {"contentUploaded": False}])
    [said] = lab.upload(path, code=3, patience=0)
    assert said["error"] == "The portal has all bytes, but does not go on with verifying them."


def test_a_verification_under_way_is_waited_for(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lab.write("waiting", LARGE)
    file_id = send_parts(lab, path, path.read_bytes(), [1, 2, 3])
    lab.api.call("POST", f"/files/{file_id}/upload-session/complete", {"checksum": md5(path.read_bytes())})
    [file] = lab.find_staged(path.name)
    # It was confirmed only after the list had been read.
    monkeypatch.setattr(upload.Portal, "list_staged", lambda self: [file | {"contentUploaded": False}])
    before = lab.proxy.bytes_up
    [said] = lab.upload(path)
    check_there(lab, path, said)
    assert lab.proxy.bytes_up - before < PART_BYTES


def find_stored(lab: Lab, content: bytes) -> Path:
    """Return where the portal keeps a part of this content."""
    [stored] = lab.served.home.rglob(f"00001.{md5(content)}")
    return stored


def test_a_part_that_the_store_loses_is_sent_again(lab: Lab) -> None:
    path = lab.write("losing", LARGE)
    rule = lab.proxy.rule = Once(
        b"/complete ", Way.UP, lambda: find_stored(lab, path.read_bytes()[:PART_BYTES]).unlink()
    )
    [said] = lab.upload(path)
    assert rule.met == 1
    check_there(lab, path, said)
    assert lab.proxy.bytes_up > LARGE + PART_BYTES


def test_a_part_that_the_store_always_loses_is_a_refusal(lab: Lab) -> None:
    path = lab.write("always losing", LARGE)
    lab.proxy.rule = Once(
        b"/complete ", Way.UP, lambda: find_stored(lab, path.read_bytes()[:PART_BYTES]).unlink(), 1000
    )
    [said] = lab.upload(path, code=1)
    assert said["state"] == "refused"


def test_content_that_the_store_changes_is_never_confirmed(lab: Lab) -> None:
    path = lab.write("rotting", LARGE)
    rotten = Once(
        b"/complete ", Way.UP, lambda: find_stored(lab, path.read_bytes()[:PART_BYTES]).write_bytes(bytes(PART_BYTES))
    )
    lab.proxy.rule = rotten
    [said] = lab.upload(path, code=1)
    assert rotten.met == 1
    assert "The portal has read other bytes" in said["error"]
    lab.proxy.rule = pass_all
    [said] = lab.upload(path)
    check_there(lab, path, said)


def test_lists_of_several_pages_are_read_to_their_end(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [lab.write(f"page-{number}", 5) for number in range(3)]
    lab.upload(*paths)
    monkeypatch.setattr(api, "PAGE", 1)
    assert {said["state"] for said in lab.upload(*paths)} == {"already_there"}


def test_the_portal_must_say_what_was_taken_here(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lab.write("other content", 10)
    confirm: Callable[..., Any] = upload.Portal.confirm_file
    monkeypatch.setattr(upload.Portal, "confirm_file", lambda self, file_id: confirm(self, file_id) | {"filesize": 11})
    [said] = lab.upload(path, code=1)
    assert said["error"].endswith("than was sent.")


def test_a_wrong_key_is_refused_at_once(lab: Lab) -> None:
    done = lab.run("upload", lab.write("keyless", 1), key="x" * 64)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert "Error: " in done.stderr


def test_a_slow_line_is_progress_before_a_part_has_gone(lab: Lab) -> None:
    path = lab.write("slow line", 15 << 20)
    cuts = []

    def crawl(way: Way, piece: bytes, before: int) -> None:
        if way is Way.UP and len(piece) > 20_000:
            time.sleep(0.01)
        if way is Way.UP and before > 14 << 20 and not cuts:
            cuts.append(before)
            raise CutError

    lab.proxy.rule = crawl
    began_at = time.monotonic()
    # Less than the time until the connection breaks.
    [said] = lab.upload(path, patience=0.01)
    check_there(lab, path, said)
    assert cuts
    assert time.monotonic() - began_at > 0.6


def test_without_a_connection_it_gives_up_in_the_end(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.proxy.rule = Once(b"GET", Way.UP, cut, 1000)
    done = lab.run("upload", lab.write("offline", 1), patience=0.001)
    assert done.exit_code == 3
    assert "trying again" in done.stderr
    assert "Run the same command again" in done.stderr


def test_what_is_no_portal_is_told(lab: Lab) -> None:
    path = lab.write("strange", 1)
    for reply, words in (
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "no DataMeta portal"),
        (b"HTTP/1.1 301 Moved\r\nLocation: https://a.example/\r\nContent-Length: 0\r\n\r\n", "https://a.example/"),
    ):
        lab.proxy.rule = Once(b"GET", Way.UP, partial(answer, reply))
        done = lab.run("upload", path)
        assert done.exit_code == 1, done.output
        assert words in done.stderr


@pytest.mark.parametrize("url", ["portal.example.org", "ftp://portal.example.org", "https://", "https://a.example/?b"])
def test_a_wrong_address_is_a_wrong_word(lab: Lab, url: str) -> None:
    done = lab.run("upload", lab.write("misled", 1), url=url)
    assert done.exit_code == 2
    assert "no address of a portal" in done.stderr


@pytest.mark.parametrize("key", ["two words", "schlüssel", "\n"])
def test_a_key_that_can_not_be_one_is_a_wrong_word(lab: Lab, key: str) -> None:
    done = lab.run("upload", lab.write("locked", 1), key=key)
    assert done.exit_code == 2
    assert "no API key" in done.stderr


def test_a_key_may_have_come_with_the_end_of_its_line(lab: Lab) -> None:
    done = lab.run("upload", lab.write("unlocked", 1), key=f"{lab.api.token}\n")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("suffix", ["/", "/api", "/api/v1", "/api/v1/"])
def test_the_address_may_be_the_portals_or_the_apis(lab: Lab, suffix: str) -> None:
    done = lab.run("upload", lab.write("addressed", 1), url=f"http://{lab.proxy.netloc}{suffix}")
    assert done.exit_code == 0, done.output


def test_names_must_differ_and_files_be_files(lab: Lab) -> None:
    path = lab.write("twin", 1)
    (lab.folder / "sub").mkdir()
    other = lab.folder / "sub" / "twin"
    other.write_bytes(b"")
    assert "have one name" in lab.run("upload", path, other).stderr
    os.mkfifo(lab.folder / "fifo")
    done = lab.run("upload", lab.folder / "fifo")
    assert done.exit_code == 2
    assert "no regular file" in done.stderr
    assert lab.run("upload", lab.folder / "missing").exit_code == 2


@pytest.mark.parametrize("size", [1000, PART_BYTES + 1])
def test_a_name_that_is_not_utf8_is_refused_and_the_others_go(lab: Lab, size: int) -> None:
    good = lab.write(f"good{size}.fq", 1000)
    bad = lab.folder / os.fsdecode(b"M\xfcller.fq")
    bad.write_bytes(b"x" * size)
    said = lab.upload(bad, good, code=1)
    assert {each["state"] for each in said if each["name"] == good.name} == {"confirmed"}
    [refused] = [each for each in said if each["state"] == "refused"]
    assert refused["error"] == "The name of this file is not UTF-8. Rename the file, then upload it."


def test_a_failure_of_the_program_itself_is_not_hidden(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network.Network, "put", lambda *words, **more: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        lab.run("upload", lab.write("bug", 1))
