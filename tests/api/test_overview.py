"""The overview: numbers of one's own, of what one may see, and of the site for its admins."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from datameta.logic import overview
from tests.conftest import Client, Portal, announce, counted, set_setting

NOTHING = {"metadatasets": 0, "files": 0, "bytes": 0}


def look(client: Client) -> dict[str, Any]:
    answer = client.get("/overview")
    assert answer.status_int == 200, answer.body
    seen: dict[str, Any] = answer.json
    return seen


def submit(client: Client, label: str | None = None, *sizes: int) -> dict[str, Any]:
    """Submit a set for each file of such a size, or one without; return the submission."""
    names = [f"{number}.fq" for number in range(len(sizes))]
    files = [client.upload(name, b"x" * size) for name, size in zip(names, sizes, strict=True)]
    sets = [client.stage(File=name) for name in names] or [client.stage()]
    answer = client.submit(sets, files, label=label)
    assert answer.status_int == 200, answer.body
    submission: dict[str, Any] = answer.json
    return submission


def move(portal: Portal, submission: dict[str, Any], instant: str) -> None:
    """Make it as if a submission were of that instant."""
    with portal.database.engine.begin() as connection:
        statement = "UPDATE submissions SET submitted_at = :instant WHERE uuid = :uuid"
        connection.execute(text(statement), {"instant": instant, "uuid": submission["id"]["uuid"]})


@pytest.fixture
def admin(portal: Portal) -> Client:
    admin = portal.add_user("Office", site_admin=True)
    admin.add_field("File", isFile=True)
    return admin


@pytest.fixture
def lab(portal: Portal, admin: Client) -> Client:
    return portal.add_user("Lab A")


def test_a_newcomer_has_nothing(portal: Portal, lab: Client) -> None:
    nobody = {"bytes": 0, "quota": None}
    assert look(lab) == {
        "staged": {**NOTHING, "filesOpen": 0},
        "submissions": {**NOTHING, "count": 0},
        "lastSubmissions": [],
        "lastAnswers": [],
        "usage": {"user": nobody, "group": nobody},
        "site": None,
    }
    assert portal.anonymous().get("/overview").status_int == 401


def test_what_is_staged_is_ones_own(portal: Portal, lab: Client) -> None:
    lab.stage()
    lab.stage()
    lab.upload("a.fq", b"12345")
    announce(lab)
    known = lab.post("/files", {"name": "c.fq", "checksum": "0" * 32}, headers={"DataMeta-File-Size": "100"})
    assert known.status_int == 200
    gone = announce(lab)
    lab.delete(f"/files/{gone['id']['uuid']}")
    submit(lab, None, 7)
    assert look(lab)["staged"] == {"metadatasets": 2, "files": 3, "filesOpen": 2, "bytes": 105}
    for roles in ({}, {"group_admin": True}, {"site_admin": True, "site_read": True}):
        assert look(portal.add_user("Lab A", **roles))["staged"] == {**NOTHING, "filesOpen": 0}


def test_what_was_submitted_is_that_of_the_group_or_all(portal: Portal, admin: Client, lab: Client) -> None:
    stranger = portal.add_user("Lab B")
    first, second = submit(lab, "First", 5, 7), submit(lab)
    theirs = submit(stranger, "Theirs", 1)
    mine = {"count": 2, "metadatasets": 3, "files": 2, "bytes": 12}
    for client in (lab, portal.add_user("Lab A")):
        seen = look(client)
        assert seen["submissions"] == mine
        assert [item["id"] for item in seen["lastSubmissions"]] == [second["id"], first["id"]]
    assert look(admin)["submissions"] == {**NOTHING, "count": 0}
    assert look(admin)["lastSubmissions"] == []
    seen = look(portal.add_user("Office", site_read=True))
    assert seen["submissions"] == {"count": 3, "metadatasets": 4, "files": 3, "bytes": 13}
    assert [item["id"] for item in seen["lastSubmissions"]] == [theirs["id"], second["id"], first["id"]]
    detail = lab.get(f"/submissions/{first['id']['site']}").json
    assert seen["lastSubmissions"][2] == {
        "id": first["id"],
        "label": "First",
        "submittedAt": detail["submittedAt"],
        "group": {"id": detail["groupId"], "name": "Lab A"},
        "user": {"id": detail["userId"], "name": lab.get("/rpc/whoami").json["name"]},
        "metadatasets": 2,
        "files": 2,
        "bytes": 12,
    }


def test_the_last_ten_are_listed(lab: Client) -> None:
    submitted = [submit(lab, str(number))["id"] for number in range(11)]
    assert [item["id"] for item in look(lab)["lastSubmissions"]] == submitted[:0:-1]


def test_answers_are_for_those_who_may_see_them(portal: Portal, admin: Client, lab: Client) -> None:
    bot, stranger = portal.add_user("Lab A"), portal.add_user("Lab B")
    reader = portal.add_user("Office", site_read=True)
    service = admin.post("/services", {"name": "Analysis"}).json["id"]
    admin.put(f"/services/{service['site']}", {"userIds": [bot.uuid]})
    admin.add_field("Report", isFile=True, serviceId=service["site"])
    sets = []
    for client in [stranger, *[lab] * 11]:
        [metadataset] = submit(client)["metadatasetIds"]
        report = bot.upload("report.txt", b"123")
        body = {"record": {"Report": "report.txt"}, "fileIds": [report["id"]["uuid"]]}
        answer = bot.post(f"/service-execution/{service['uuid']}/{metadataset['uuid']}", body)
        assert answer.status_int == 200, answer.body
        sets.append(metadataset)
    for client in (bot, reader):
        answers = look(client)["lastAnswers"]
        assert [item["metadatasetId"] for item in answers] == sets[:1:-1]
        assert {str(item["service"]) for item in answers} == {str({"id": service, "name": "Analysis"})}
        assert datetime.fromisoformat(answers[0]["at"]) >= datetime.fromisoformat(answers[9]["at"])
    for client in (lab, stranger, admin):
        assert look(client)["lastAnswers"] == []
    # A service's files are nobody's submission, nor staged any more; their room is that of who sent them.
    assert look(reader)["submissions"]["files"] == 0
    assert look(bot)["staged"]["files"] == 0
    assert look(bot)["usage"]["user"]["bytes"] == 36


def test_a_service_user_sees_no_answers_for_sets_of_other_groups(portal: Portal, admin: Client, lab: Client) -> None:
    bot = portal.add_user("Bots")
    service = admin.post("/services", {"name": "Analysis"}).json["id"]["site"]
    admin.put(f"/services/{service}", {"userIds": [bot.uuid]})
    admin.add_field("Result", serviceId=service)
    [metadataset] = submit(lab)["metadatasetIds"]
    body = {"record": {"Result": "fine"}, "fileIds": []}
    assert bot.post(f"/service-execution/{service}/{metadataset['uuid']}", body).status_int == 200
    assert look(bot)["lastAnswers"] == []


def test_usage_is_ones_own_and_the_groups_against_the_quotas(portal: Portal, lab: Client) -> None:
    colleague, stranger = portal.add_user("Lab A"), portal.add_user("Lab B")
    lab.upload("a.fq", b"12345")
    submit(lab, None, 7)
    colleague.upload("b.fq", b"123")
    stranger.upload("c.fq", b"1")
    set_setting(portal, "quota_user_bytes", "100")
    assert look(lab)["usage"] == {"user": {"bytes": 12, "quota": 100}, "group": {"bytes": 15, "quota": None}}
    set_setting(portal, "quota_group_bytes", "1000")
    assert look(colleague)["usage"] == {"user": {"bytes": 3, "quota": 100}, "group": {"bytes": 15, "quota": 1000}}


# The site.


def test_the_site_is_for_its_admins(portal: Portal, admin: Client, lab: Client) -> None:
    assert look(admin)["site"] is not None
    for roles in ({"group_admin": True}, {"site_read": True}):
        assert look(portal.add_user("Office", **roles))["site"] is None


def test_the_site_in_numbers(portal: Portal, admin: Client, lab: Client) -> None:
    submit(lab, None, 7)
    lab.upload("a.fq", b"12345")
    announce(lab)
    wish = {"name": "N", "org_select": lab.group, "org_create": None, "org_new_name": None}
    for number in range(3):
        body = {**wish, "email": f"n{number}@example.org", "check_user_agreement": True}
        assert portal.anonymous().post("/registrations", body).status_int == 204
    answered = admin.get("/registrations").json[0]["id"]["uuid"]
    admin.put(f"/registrations/{answered}", {"accept": False})
    with portal.database.engine.begin() as connection:
        connection.execute(text("UPDATE procrastinate_jobs SET status = 'doing'"))
        connection.execute(
            text("UPDATE procrastinate_jobs SET status = 'failed' WHERE id IN (SELECT min(id) FROM procrastinate_jobs)")
        )
        connection.execute(text("UPDATE files SET problem = 'content_missing' WHERE size = 5"))
    site = look(admin)["site"]
    months, groups = site.pop("months"), site.pop("groups")
    assert site == {
        "openRegistrations": 2,
        "failedJobs": 1,
        "damagedFiles": 1,
        "users": 2,
        "groupCount": 2,
        "storageBytes": 12,
    }
    assert len(months) == 24
    [group] = groups
    assert group == {**lab.get(f"/groups/{lab.group}").json, "bytes": 7, "submissions": 1}


def test_months_are_the_last_24_with_what_was_submitted(portal: Portal, admin: Client, lab: Client) -> None:
    now = datetime.now(UTC)
    newest = now.year * 12 + now.month - 1
    names = [f"{number // 12}-{number % 12 + 1:02}" for number in range(newest - 23, newest + 1)]
    before = f"{(newest - 24) // 12}-{(newest - 24) % 12 + 1:02}"
    first, second, early, _ = submit(lab, None, 3, 4), submit(lab), submit(lab, None, 100), submit(lab, None, 1)
    move(portal, first, f"{names[0]}-01T00:00:00+00:00")
    move(portal, second, f"{names[0]}-28T23:59:59+00:00")
    move(portal, early, f"{before}-28T23:59:59+00:00")
    months = look(admin)["site"]["months"]
    assert [month["month"] for month in months] == names
    assert months[0] == {"month": names[0], "submissions": 2, "metadatasets": 3, "files": 2, "bytes": 7}
    assert months[-1] == {"month": names[-1], "submissions": 1, "metadatasets": 1, "files": 1, "bytes": 1}
    assert [month for month in months[1:-1] if month["submissions"] or month["bytes"]] == []
    assert look(admin)["site"]["groups"][0]["bytes"] == 108


def test_the_names_of_months_go_on_over_the_year() -> None:
    names = overview.list_months(datetime(2026, 2, 1, tzinfo=UTC))
    assert names[-3:] == ["2025-12", "2026-01", "2026-02"]
    assert (len(names), names[0]) == (24, "2024-03")


def test_the_largest_groups_are_first(portal: Portal, admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overview, "LARGEST", 2)
    for name, size in (("Small", 1), ("Large", 9), ("Middle", 5)):
        submit(portal.add_user(name), None, size)
    groups = look(admin)["site"]["groups"]
    assert [(group["name"], group["bytes"], group["submissions"]) for group in groups] == [
        ("Large", 9, 1),
        ("Middle", 5, 1),
    ]


def test_much_takes_as_few_statements_as_little(portal: Portal, lab: Client) -> None:
    counts = []
    admin = portal.add_user("Lab A", site_admin=True, site_read=True)
    # The first use of a key is noted.
    look(admin)
    for _ in range(3):
        submit(lab, None, 1, 2)
        with counted(portal) as statements:
            look(admin)
        counts.append(len(statements))
    assert set(counts) == {counts[0]}
    assert counts[0] <= 12
