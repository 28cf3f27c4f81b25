"""The drill: hand in, back up, change a thousand things more, destroy, restore, prove, sign in and submit."""

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.conftest import RECORD, Api, Served, run_datameta, serve_cleanly


def submit(lab: Api, name: str) -> str:
    """Hand in a sample with a file; return the submission's id."""
    file = lab.upload(f"{name}.fq", f"@{name}".encode())
    record = {**RECORD, "Lab-ID": name, "FileR1": f"{name}.fq"}
    staged = lab.call("POST", "/metadatasets", {"record": record})
    body = {"metadatasetIds": [staged["id"]["site"]], "fileIds": [file["id"]["site"]], "label": name}
    submission: str = lab.call("POST", "/submissions", body)["id"]["site"]
    return submission


def change(lab: Api, number: int) -> None:
    """Make one change: most stage, some upload, some submit."""
    if number % 50 == 0:
        submit(lab, f"L{number}")
    elif number % 20 == 0:
        lab.upload(f"more{number}.fq", b"more")
    else:
        lab.call("POST", "/metadatasets", {"record": {**RECORD, "Lab-ID": f"M{number}", "FileR1": "x.fq"}})


def run(home: Path, *words: str | Path) -> str:
    done = run_datameta(*words, "--home", str(home))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sign_in(served: Served) -> None:
    email, password = "lab@demo.example", served.read_demo()["passwords"]["lab@demo.example"]
    body = {"email": email, "password": password}
    assert Api(served.address, "").request("POST", "/sessions", body).status_code == 200


@pytest.mark.parametrize(("loses_store", "changes"), [(False, 1000), (True, 50)])
def test_the_drill(tmp_path: Path, loses_store: bool, changes: int) -> None:
    home, backup = tmp_path / "home", tmp_path / "backup"
    with serve_cleanly(home, tmp_path, "--demo") as served:
        lab = served.open_lab()
        before = {submit(lab, f"S{number}") for number in range(10)}
        loose = [lab.upload(f"loose{number}.fq", f"@{number}".encode()) for number in range(10)]
        said = run(home, "backup", backup, *(["--objects"] if loses_store else []))
        assert re.search(r"and 20 objects of [0-9]+ bytes, (copied|which stay in the store)", said)
        for file in loose:
            lab.call("DELETE", f"/files/{file['id']['site']}", status=204)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: change(lab, number), range(changes)))
    shutil.rmtree(home / "postgres")
    if loses_store:
        shutil.rmtree(home / "storage")
    said = run(home, "restore", backup, *([] if loses_store else ["--adopt"]))
    assert "'datameta fsck' finds nothing wrong" in said
    assert ("20 objects were written to the store" in said) == loses_store
    run(home, "fsck", "--content")
    run(home, "audit", "check")
    run(home, "sweep")
    with serve_cleanly(home, tmp_path, "--demo") as served:
        lab = served.open_lab()
        group = lab.call("GET", "/rpc/whoami")["group"]["id"]["site"]
        assert {each["id"]["site"] for each in lab.call("GET", f"/groups/{group}/submissions")} == before
        url = lab.call("GET", f"/rpc/get-file-url/{loose[3]['id']['site']}")["fileUrl"]
        assert lab.request("GET", url.split("/api/v1")[1]).content == b"@3"
        sign_in(served)
        # The values that were submitted after the backup are free again, those before are not.
        submit(lab, "L0")
        with pytest.raises(AssertionError, match="not_unique_in_site"):
            submit(lab, "S0")
    run(home, "fsck", "--content")
