"""Site admins try the store over the API, and see what the command prints."""

import shutil
from pathlib import Path

import pytest

from datameta.database import Database
from datameta.storage import open_storage
from tests.conftest import BASE_URL, Portal, assert_refused
from tests.storage.backends import make_s3, s3_settings
from tests.storage.conftest import aws_environment, moto  # noqa: F401


def test_only_site_admins_try_the_store(portal: Portal) -> None:
    folder = portal.settings.home / "storage"
    shutil.rmtree(folder)
    for user in (portal.add_user(group_admin=True), portal.add_user(site_read=True)):
        assert_refused(user.post("/rpc/check-storage"), 403, ("forbidden", None))
    assert_refused(portal.anonymous().post("/rpc/check-storage"), 401, ("unauthenticated", None))
    assert not folder.exists()


def test_a_folder_that_keeps_its_promises_is_ready(portal: Portal) -> None:
    answer = portal.add_user(site_admin=True).post("/rpc/check-storage").json
    assert (answer["backend"], answer["isReady"]) == ("local", True)
    assert answer["checks"][0] == {"name": "folder", "state": "ok", "message": str(portal.settings.home / "storage")}
    states = {check["name"]: check["state"] for check in answer["checks"]}
    assert states.pop("free space") == "warning"
    assert set(states.values()) == {"ok"}
    assert list(states) == [finding.name for finding in portal.storage.check() if finding.ok is not None]
    assert not [entry for entry in portal.storage.list_objects() if entry.key.startswith("files/")]


def test_a_folder_that_can_not_be_written_has_failed(portal: Portal) -> None:
    folder = portal.settings.home / "storage"
    folder.rename(folder.with_name("moved"))
    folder.write_text("in the way")
    answer = portal.add_user(site_admin=True).post("/rpc/check-storage").json
    assert answer["isReady"] is False
    assert [(check["name"], check["state"]) for check in answer["checks"]] == [("the check ran to its end", "failed")]


@pytest.mark.usefixtures("aws_environment")
def test_an_s3_store_is_tried(database: Database, tmp_path: Path, moto: str) -> None:  # noqa: F811
    settings = s3_settings(tmp_path, moto, "presigned", base_url=BASE_URL, bcrypt_cost=4)
    portal = Portal(database, settings, make_s3(settings))
    answer = portal.add_user(site_admin=True).post("/rpc/check-storage").json
    assert answer["backend"] == "s3"
    assert answer["checks"][0] == {"name": "bucket", "state": "ok", "message": settings.s3_bucket}
    found = open_storage(settings).check()
    assert [check["name"] for check in answer["checks"]] == [finding.name for finding in found]
    assert answer["isReady"] == all(finding.ok is not False for finding in found)
