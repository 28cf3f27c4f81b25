"""What is fetched is what the portal has, under names that harm nothing; what is there stays."""

import hashlib
import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from datameta.client import download
from datameta.client.api import Portal
from datameta.client.download import make_name, name_files
from datameta.client.network import ClientError
from tests.client.conftest import Lab
from tests.e2e.conftest import RECORD
from tests.faults.proxy import HalfCloseError, Once, Way, answer, pass_all

GET = b"GET /api/v1/download/"
EXPIRED = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
BYTES = 3_000_000


def submit(lab: Lab, **contents: bytes) -> str:
    """Submit the files, each in a record of its own; return the submission's id."""
    files = [lab.api.upload(name, content) for name, content in contents.items()]
    sets = []
    for file in files:
        record = RECORD | {"Lab-ID": file["id"]["site"], "FileR1": file["name"]}
        sets.append(lab.api.call("POST", "/metadatasets", {"record": record})["id"]["site"])
    body = {"metadatasetIds": sets, "fileIds": [file["id"]["site"] for file in files]}
    submission: str = lab.api.call("POST", "/submissions", body)["id"]["site"]
    return submission


def fetch(lab: Lab, submission: str, code: int = 0, **more: Any) -> dict[str, str]:
    """Download a submission and return the state of each file."""
    done = lab.run("download", submission, "--to", lab.folder / "to", "--json", "--jobs", "2", **more)
    assert done.exit_code == code, done.output
    return {said["name"]: said["state"] for said in map(json.loads, done.stdout.splitlines())}


def check_sums(folder: Path) -> list[str]:
    """Have the folder checked by other means; return the lines."""
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def make_content(size: int = BYTES) -> bytes:
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]


def test_all_files_are_fetched_verified_and_kept(lab: Lab) -> None:
    contents = {"all_R1.fq": make_content(), "all_R2 ü.fq": make_content(17), "all_empty": b""}
    submission = submit(lab, **contents)
    assert fetch(lab, submission) == dict.fromkeys(contents, "fetched")
    folder = lab.folder / "to"
    assert {path.name for path in folder.iterdir()} == {*contents, "manifest.json", "SHA256SUMS"}
    assert {name: (folder / name).read_bytes() for name in contents} == contents
    assert check_sums(folder) == [f"{name}: OK" for name in contents]
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert manifest["submission"] == submission
    assert {file["path"]: file["filesize"] for file in manifest["files"]} == {
        name: len(content) for name, content in contents.items()
    }
    assert fetch(lab, submission) == dict.fromkeys(contents, "already_there")
    assert check_sums(folder) == [f"{name}: OK" for name in contents]


def test_what_is_there_and_wrong_is_neither_kept_nor_overwritten(lab: Lab) -> None:
    contents = {f"mine_{number}": make_content(10) for number in range(3)}
    submission = submit(lab, **contents)
    folder = lab.folder / "to"
    folder.mkdir()
    (folder / "mine_0").write_bytes(b"0123456780")
    (folder / "mine_1").write_bytes(b"short")
    assert fetch(lab, submission, 1) == {"mine_0": "refused", "mine_1": "refused", "mine_2": "fetched"}
    assert (folder / "mine_0").read_bytes() == b"0123456780"
    assert check_sums(folder) == ["mine_2: OK"]


@pytest.mark.parametrize("content", ["{}", "[1]", "MY OWN", '{"submission": "x", "files": []}', None])
@pytest.mark.parametrize("name", ["manifest.json", "SHA256SUMS"])
def test_a_manifest_of_something_else_is_not_overwritten(lab: Lab, name: str, content: str | None) -> None:
    submission = submit(lab, mine=b"ACGT")
    folder = lab.folder / "to"
    if content is None:
        fetch(lab, submit(lab, other=b"ACGA"))
    else:
        folder.mkdir()
        (folder / name).write_text(content)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = lab.run("download", submission, "--to", folder)
    assert done.exit_code == 1
    assert "not of this submission. Nothing was fetched or changed" in " ".join(done.output.split())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_manifest_of_the_same_submission_is_written_anew(lab: Lab) -> None:
    submission = submit(lab, same=b"ACGT")
    fetch(lab, submission)
    (lab.folder / "to" / "SHA256SUMS").unlink()
    assert fetch(lab, lab.api.call("GET", f"/submissions/{submission}")["id"]["uuid"]) == {"same": "already_there"}
    assert check_sums(lab.folder / "to") == ["same: OK"]


def break_once(*, after: int, times: int = 1) -> Any:
    """End connections that have carried so many bytes down, as often as told."""

    def rule(way: Way, piece: bytes, before: int) -> None:
        nonlocal times
        if way is Way.DOWN and before > after and times > 0:
            times -= 1
            raise HalfCloseError

    return rule


def test_a_download_that_breaks_goes_on_where_it_was(lab: Lab) -> None:
    submission = submit(lab, broken=make_content())
    lab.proxy.rule = break_once(after=BYTES // 2, times=3)
    before = lab.proxy.bytes_down
    assert fetch(lab, submission) == {"broken": "fetched"}
    assert lab.proxy.bytes_down - before < BYTES * 3 // 2
    assert check_sums(lab.folder / "to") == ["broken: OK"]


@pytest.mark.parametrize("is_spoilt", [False, True])
def test_what_a_former_run_has_left_is_gone_on_with_if_it_is_right(lab: Lab, is_spoilt: bool) -> None:
    name = f"left_{is_spoilt}"
    submission = submit(lab, **{name: make_content()})
    lab.proxy.rule = break_once(after=BYTES // 2, times=100)
    assert fetch(lab, submission, 3, patience=0) == {name: "unfinished"}
    [part] = (lab.folder / "to").glob("*.part")
    left = part.stat().st_size
    assert left > 0
    if is_spoilt:
        part.write_bytes(bytes(left))
    lab.proxy.rule = pass_all
    before = lab.proxy.bytes_down
    assert fetch(lab, submission) == {name: "fetched"}
    assert (lab.proxy.bytes_down - before > BYTES) == is_spoilt
    assert (lab.folder / "to" / name).read_bytes() == make_content()
    assert not part.exists()


def test_a_part_that_is_too_long_is_thrown_away(lab: Lab) -> None:
    submission = submit(lab, longer=make_content(10))
    [file] = lab.api.call("GET", f"/submissions/{submission}/files")
    (lab.folder / "to").mkdir()
    (lab.folder / "to" / f"{file['id']['uuid']}.part").write_bytes(make_content(11))
    assert fetch(lab, submission) == {"longer": "fetched"}
    assert (lab.folder / "to" / "longer").read_bytes() == make_content(10)


def test_an_address_that_expired_is_asked_for_again(lab: Lab) -> None:
    submission = submit(lab, expired=make_content(10))
    rule = lab.proxy.rule = Once(GET, Way.UP, partial(answer, EXPIRED), 2)
    assert fetch(lab, submission) == {"expired": "fetched"}
    assert rule.met == 2
    (lab.folder / "to" / "expired").unlink()
    lab.proxy.rule = Once(GET, Way.UP, partial(answer, EXPIRED), 1000)
    assert fetch(lab, submission, 1) == {"expired": "refused"}


@pytest.mark.parametrize("reply", [b"other bytes", b"short", b"much more than the file has"])
def test_other_bytes_are_never_given_the_name(lab: Lab, reply: bytes) -> None:
    name = f"other_{len(reply)}"
    submission = submit(lab, **{name: make_content(11)})
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(reply)}\r\nConnection: close\r\n\r\n".encode()
    lab.proxy.rule = Once(GET, Way.UP, partial(answer, head + reply), 1000)
    state = "unfinished" if reply == b"short" else "refused"
    assert fetch(lab, submission, 3 if reply == b"short" else 1, patience=0) == {name: state}
    assert not (lab.folder / "to" / name).exists()


def test_a_store_without_ranges_is_no_obstacle(lab: Lab) -> None:
    submission = submit(lab, rangeless=make_content(11))
    [file] = lab.api.call("GET", f"/submissions/{submission}/files")
    (lab.folder / "to").mkdir()
    (lab.folder / "to" / f"{file['id']['uuid']}.part").write_bytes(make_content(4))
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + make_content(11)
    lab.proxy.rule = Once(GET, Way.UP, partial(answer, whole))
    assert fetch(lab, submission) == {"rangeless": "fetched"}


def test_a_submission_that_is_none_or_a_folder_that_can_not_be_is_told(lab: Lab) -> None:
    done = lab.run("download", "DMS-00000000")
    assert (done.exit_code, done.stdout) == (1, "")
    submission = submit(lab, homeless=b"x")
    (lab.folder / "file").write_bytes(b"")
    done = lab.run("download", submission, "--to", lab.folder / "file" / "below")
    assert done.exit_code == 1
    assert "can't be written" in done.stderr


def test_a_file_that_can_not_be_written_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    submission = submit(lab, full=b"x")

    def refuse(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download.Digests, "match", lambda *words: refuse(1))
    assert fetch(lab, submission, 1) == {"full": "refused"}


def test_a_failure_of_the_program_itself_is_not_hidden(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    submission = submit(lab, bug=b"x")
    monkeypatch.setattr(Portal, "get_download_url", lambda *words: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fetch(lab, submission)


def describe(name: str, number: int = 1) -> dict[str, Any]:
    """Return a file as a portal would tell of it that means harm."""
    identifier = {"uuid": f"00000000-0000-0000-0000-{number:012}", "site": f"DMF-{number}"}
    return {"name": name, "id": identifier, "filesize": 0, "checksum": hashlib.md5().hexdigest(), "sha256": None}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("reads_R1.fastq.gz", "reads_R1.fastq.gz"),
        ("../../etc/passwd", "__.._etc_passwd"),
        ("/etc/passwd", "_etc_passwd"),
        ("C:\\a", "C__a"),
        ("..", "_"),
        (".", "_"),
        ("", "_"),
        (".bashrc", "_bashrc"),
        ("a\nb\0c\u202ed", "a_b_c_d"),
        ("end. ", "end"),
        ("ü" * 150 + ".gz", "ü" * 98 + ".gz"),
    ],
)
def test_a_name_never_leads_anywhere(name: str, expected: str) -> None:
    made = make_name(name)
    assert made == expected
    assert len(made.encode()) <= 200


def test_names_that_a_file_system_takes_for_equal_get_the_id() -> None:
    names = ["a", "A", "b", "manifest.json", "sha256sums", "c.part", "\u00e9", "e\u0301"]
    entries = name_files([describe(name, number) for number, name in enumerate(names)])
    assert [entry.name for entry in entries] == [
        "DMF-0_a",
        "DMF-1_A",
        "b",
        "DMF-3_manifest.json",
        "DMF-4_sha256sums",
        "DMF-5_c.part",
        "DMF-6_\u00e9",
        "DMF-7_e\u0301",
    ]


def test_names_made_to_be_mixed_up_are_refused() -> None:
    files = [describe("a", 1), describe("a", 2), describe("DMF-1_a", 3)]
    with pytest.raises(ClientError, match="told apart"):
        name_files(files)
