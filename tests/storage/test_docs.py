"""docs/storage.md, tried out: its documents are accepted, its rights suffice, and its outputs are what is printed."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from datameta.settings import Settings
from datameta.storage import Finding, open_storage
from datameta.storage.s3 import S3Storage
from tests.rgw import RGW
from tests.storage.backends import make_s3, s3_settings, set_credentials

DOCS = (Path(__file__).parents[2] / "docs" / "storage.md").read_text()
MARKS = {True: "ok", False: "FAIL", None: "note"}


def printed_after(sentence: str) -> list[tuple[str, str]]:
    """Return the marks and names of the check's lines that the documentation shows after ``sentence``."""
    [block] = re.findall(rf"{re.escape(sentence)}\n\n```\n(.*?)\n```", DOCS, re.S)
    return [(line[:5].strip(), line[6:].split(": ")[0]) for line in block.splitlines()]


def marks(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(MARKS[finding.ok], finding.name) for finding in findings]


def make_user(rgw: RGW, name: str) -> tuple[str, str]:
    words = ["radosgw-admin", "-c", str(rgw.folder / "ceph.conf"), "-n", "client.admin", "user", "create"]
    words += [f"--uid={name}", "--display-name=DataMeta", "--max-buckets=-1"]
    made = subprocess.run(words, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    [key] = json.loads(made.stdout)["keys"]
    return key["access_key"], key["secret_key"]


def set_up_bucket(owner: Any, bucket: str, folder: Path) -> None:
    """Give an owner's bucket the documents of the page, by which it is the portal's."""
    commands = re.findall(r"```bash\n(.*?)```", DOCS, re.S)
    [make_policy] = [
        block[block.index("principal=") : block.index("s3api create")] for block in commands if "sed " in block
    ]
    subprocess.run(["bash", "-e", "-c", commands[0] + make_policy], cwd=folder, check=True)

    def load(name: str) -> str:
        text = (folder / name).read_text()
        return re.sub(r"(arn:aws:s3:::)datameta", rf"\g<1>{bucket}", text)

    owner.put_bucket_policy(Bucket=bucket, Policy=load("bucket-policy.json"))
    owner.put_bucket_cors(Bucket=bucket, CORSConfiguration=json.loads(load("cors.json")))
    owner.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=json.loads(load("lifecycle.json")))
    owner.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})


def test_documented_set_up_of_ceph(rgw: RGW, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_credentials(monkeypatch, rgw.access_key, rgw.secret_key)
    settings = s3_settings(tmp_path, rgw.endpoint, base_url="https://data.example.org")
    owner, bucket = make_s3(settings)._client, settings.s3_bucket
    set_up_bucket(owner, bucket, tmp_path)

    set_credentials(monkeypatch, *make_user(rgw, "datameta"))
    storage = open_storage(settings)
    assert isinstance(storage, S3Storage)
    assert marks(storage.check()) == printed_after("On Ceph 16.2.15 this prints:")
    for act in (
        lambda: storage._client.put_object(Bucket=bucket, Key="elsewhere", Body=b""),
        lambda: storage._client.list_object_versions(Bucket=bucket),
        lambda: storage._client.delete_bucket_policy(Bucket=bucket),
        lambda: storage._client.create_bucket(Bucket=f"{bucket}-2"),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            act()


def test_documented_output_of_a_local_folder(tmp_path: Path) -> None:
    assert marks(open_storage(Settings(home=tmp_path)).check()) == printed_after("\nThis prints:")


def test_documented_settings_exist() -> None:
    names = {name.removeprefix("DATAMETA_").lower() for name in re.findall(r"DATAMETA_[A-Z0-9_]+", DOCS)}
    assert names <= set(Settings.__dataclass_fields__)
