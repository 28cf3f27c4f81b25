"""The demo site: added once, and at once usable in every role."""

from dataclasses import replace

import pytest

from datameta.logic import demo
from datameta.logic.demo import Demo
from tests.conftest import Portal


@pytest.fixture
def site(portal: Portal) -> Demo:
    with portal.database.sessions.begin() as db:
        added = demo.add_demo(db, portal.settings)
    assert added is not None
    return added


def test_the_demo_site_is_added_once(portal: Portal, site: Demo) -> None:
    with portal.database.sessions.begin() as db:
        assert demo.add_demo(db, portal.settings) is None
    assert Demo(**demo.to_dict(site)) == site


def test_the_demo_site_leaves_the_fields_that_are_there(portal: Portal) -> None:
    mine = portal.add_user(site_admin=True).add_field("Lab-ID", longDescription="mine")
    with portal.database.sessions.begin() as db:
        demo.add_demo(db, portal.settings)
    fields = portal.add_user().get("/metadata").json
    assert [field for field in fields if field["name"] == "Lab-ID"] == [mine]
    assert len(fields) == 8


def test_every_role_signs_in_and_the_keys_work(portal: Portal, site: Demo) -> None:
    roles = {}
    for email, password in site.passwords.items():
        portal.app.reset()
        assert portal.anonymous().post("/sessions", {"email": email, "password": password}).status_int == 200
        me = portal.anonymous().get("/rpc/whoami").json
        roles[email.partition("@")[0]] = (me["groupAdmin"], me["siteAdmin"], me["siteRead"])
    portal.app.reset()
    assert roles == {
        "lab": (False, False, False),
        "group.admin": (True, False, False),
        "site.read": (False, False, True),
        "site.admin": (False, True, False),
        "other.lab": (False, False, False),
        "bot": (False, False, True),
    }
    lab, bot = (replace(portal.anonymous(), token=token) for token in (site.lab_key, site.bot_key))
    examples = {field["name"]: field["example"] for field in lab.get("/metadata").json if not field["serviceId"]}
    assert lab.stage(**examples)["record"] == examples
    assert bot.get("/rpc/whoami").json["email"] == "bot@demo.example"
