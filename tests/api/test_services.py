"""Services: only site admins define them, only their users answer, once for each submitted set."""

from typing import Any

import pytest

from tests.conftest import Client, Portal, codes

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def admin(portal: Portal) -> Client:
    return portal.add_user("Office", site_admin=True)


def test_a_service_begins_without_users(admin: Client) -> None:
    created = admin.post("/services", {"name": "Analysis"})
    assert created.status_int == 200
    assert created.json == {"id": created.json["id"], "name": "Analysis", "userIds": []}
    assert created.json["id"].keys() == {"uuid", "site"}
    assert created.json["id"]["site"].startswith("DMP-")
    assert admin.get("/services").json == [created.json]


def test_services_are_listed_by_name(admin: Client) -> None:
    assert admin.get("/services").json == []
    for name in ("b", "c", "a"):
        admin.post("/services", {"name": name})
    assert [service["name"] for service in admin.get("/services").json] == ["a", "b", "c"]


@pytest.mark.parametrize("roles", [{}, {"site_read": True}, {"group_admin": True}])
def test_only_site_admins_define_services(portal: Portal, admin: Client, roles: dict[str, bool]) -> None:
    service = admin.post("/services", {"name": "Analysis"}).json
    user = portal.add_user(**roles)
    admin.put(f"/services/{service['id']['uuid']}", {"userIds": [user.uuid]})
    assert user.get("/services").status_int == 403
    assert user.post("/services", {"name": "Mine"}).status_int == 403
    assert user.put(f"/services/{service['id']['uuid']}", {"name": "Mine"}).status_int == 403
    assert user.put(f"/services/{UNKNOWN}", {"name": "Mine"}).status_int == 403


def test_a_name_is_unique_and_not_blank(admin: Client) -> None:
    admin.post("/services", {"name": "A"})
    other = admin.post("/services", {"name": "B"}).json["id"]["site"]
    for refused in (admin.post("/services", {"name": "A"}), admin.put(f"/services/{other}", {"name": "A"})):
        assert refused.status_int == 400
        assert codes(refused) == {("duplicate_name", "name")}
    for refused in (admin.post("/services", {"name": " "}), admin.put(f"/services/{other}", {"name": ""})):
        assert refused.status_int == 400
        assert codes(refused) == {("mandatory_missing", "name")}
    assert [service["name"] for service in admin.get("/services").json] == ["A", "B"]
    assert admin.put(f"/services/{other}", {"name": "B"}).status_int == 200


def test_what_is_omitted_stays(portal: Portal, admin: Client) -> None:
    first, second = portal.add_user(), portal.add_user()
    service = admin.post("/services", {"name": "Analysis"}).json
    path = f"/services/{service['id']['uuid']}"
    users = [{"uuid": user.uuid, "site": user.site_id} for user in (first, second)]
    # The same user under both ids counts once.
    changed = admin.put(path, {"userIds": [second.site_id, first.uuid.upper(), second.uuid]})
    assert changed.status_int == 200
    assert changed.json == {**service, "userIds": users}
    renamed = {**service, "name": "Assembly", "userIds": users}
    assert admin.put(path, {"name": "Assembly"}).json == renamed
    for nothing in ({}, {"name": None}, {"userIds": None}):
        assert admin.put(path, nothing).json == renamed
    assert admin.put(path, {"userIds": []}).json == {**renamed, "userIds": []}


def test_every_problem_of_a_change_is_named_and_nothing_changes(portal: Portal, admin: Client) -> None:
    user = portal.add_user()
    admin.post("/services", {"name": "Taken"})
    service = admin.post("/services", {"name": "Analysis"}).json
    refused = admin.put(
        f"/services/{service['id']['site']}", {"name": "Taken", "userIds": [user.uuid, UNKNOWN, "DMU-x", UNKNOWN]}
    )
    assert refused.status_int == 400
    assert codes(refused) == {("duplicate_name", "name"), ("not_found", "userIds")}
    entities = [problem["entity"] for problem in refused.json if "entity" in problem]
    assert entities == [{"uuid": UNKNOWN, "site": UNKNOWN}, {"uuid": "DMU-x", "site": "DMU-x"}]
    assert service in admin.get("/services").json


def test_an_unknown_service_is_404(admin: Client) -> None:
    for unknown in (UNKNOWN, "DMP-x", "0"):
        assert admin.put(f"/services/{unknown}", {"name": "A"}).status_int == 404


class Site:
    """A service with a text, two unique texts and a file, one bot, and a lab with two submitted sets."""

    def __init__(self, portal: Portal, admin: Client) -> None:
        self.portal, self.admin = portal, admin
        self.lab = portal.add_user("Lab A")
        self.bot = portal.add_user("Bots", site_read=True)
        self.service = self.add_service("Analysis", self.bot)
        admin.add_field("ID", order=1)
        admin.add_field("Text", serviceId=self.service, order=2)
        admin.add_field("Unique", serviceId=self.service, isSiteUnique=True, order=3)
        admin.add_field("Once", serviceId=self.service, isSubmissionUnique=True, order=4)
        admin.add_field("Report", serviceId=self.service, isFile=True, order=5)
        self.sets = [self.lab.stage(ID="1"), self.lab.stage(ID="2")]
        assert self.lab.submit(self.sets).status_int == 200

    def add_service(self, name: str, *users: Client) -> str:
        service: str = self.admin.post("/services", {"name": name}).json["id"]["site"]
        self.admin.put(f"/services/{service}", {"userIds": [user.uuid for user in users]})
        return service

    def execute(self, metadataset: dict[str, Any], *files: str, by: Client | None = None, **record: Any) -> Any:
        return (by or self.bot).post(
            f"/service-execution/{self.service}/{metadataset['id']['site']}",
            {"record": record, "fileIds": list(files)},
        )


@pytest.fixture
def site(portal: Portal, admin: Client) -> Site:
    return Site(portal, admin)


def test_an_answer_is_shown_with_its_execution(site: Site) -> None:
    report = site.bot.upload("r.txt", b"fine")
    answer = site.execute(site.sets[0], report["id"]["uuid"], Text=1.50, Report="r.txt")
    assert answer.status_int == 200
    assert answer.json["record"] == {"ID": "1", "Text": "1.5", "Unique": None, "Once": None, "Report": "r.txt"}
    assert answer.json["fileIds"] == {"Report": report["id"]}
    executions = answer.json["serviceExecutions"]
    assert executions.keys() == {"Text", "Unique", "Once", "Report"}
    execution = executions["Text"]
    assert execution.keys() == {"serviceExecutionId", "executionTime", "serviceId", "userId"}
    assert execution["serviceExecutionId"].keys() == {"uuid"}
    assert execution["executionTime"].endswith("+00:00")
    assert execution["serviceId"]["site"] == site.service
    assert execution["userId"] == {"uuid": site.bot.uuid, "site": site.bot.site_id}
    assert site.bot.get(f"/metadatasets/{site.sets[0]['id']['uuid']}").json == answer.json


def test_unknown_ids_are_404_before_rights_are_asked(site: Site) -> None:
    body = {"record": {}, "fileIds": []}
    known = site.sets[0]["id"]["uuid"]
    for who in (site.bot, site.lab):
        assert who.post(f"/service-execution/{UNKNOWN}/{known}", body).status_int == 404
        assert who.post(f"/service-execution/{site.service}/DMR-x", body).status_int == 404


def test_only_users_of_the_service_answer(site: Site) -> None:
    for stranger in (site.lab, site.admin, site.portal.add_user(site_read=True)):
        refused = site.execute(site.sets[0], by=stranger)
        assert refused.status_int == 403
        assert codes(refused) == {("not_a_service_user", None)}
    site.admin.put(f"/services/{site.service}", {"userIds": []})
    assert site.execute(site.sets[0]).status_int == 403


def test_only_submitted_sets_are_answered_for(site: Site) -> None:
    for owner in (site.lab, site.bot):
        refused = site.execute(owner.stage(ID="3"))
        assert refused.status_int == 403
        assert codes(refused) == {("not_submitted", None)}


def test_a_second_answer_is_not_modifiable(site: Site) -> None:
    first = site.execute(site.sets[0], Text="first").json
    for record in ({"Text": "second"}, {"Nonsense": "x"}):
        refused = site.execute(site.sets[0], **record)
        assert refused.status_int == 403
        assert [problem["exception"] for problem in refused.json] == ["ResourceNotModifiableError"]
        assert refused.json[0]["entity"] == site.sets[0]["id"]
    assert site.bot.get(f"/metadatasets/{site.sets[0]['id']['uuid']}").json == first
    assert site.execute(site.sets[1], Text="other").status_int == 200


def test_a_record_holds_the_fields_of_that_service_alone(site: Site) -> None:
    other = site.add_service("Other", site.bot)
    site.admin.add_field("Theirs", serviceId=other)
    site.admin.add_field(
        "Needed", serviceId=site.service, isMandatory=True, regExp="[0-9]+", regexDescription="Digits."
    )
    refused = site.execute(site.sets[0], ID="x", Theirs="x", Nonsense="x", Text=["x"], Needed="x")
    assert refused.status_int == 400
    assert codes(refused) == {
        ("service_field", "ID"),
        ("service_field", "Theirs"),
        ("unknown_field", "Nonsense"),
        ("wrong_type", "Text"),
        ("regex_mismatch", "Needed"),
    }
    assert codes(site.execute(site.sets[0])) == {("mandatory_missing", "Needed")}
    assert site.execute(site.sets[0], Needed="1").status_int == 200


def test_files_of_an_answer_obey_the_rules_of_a_submission(site: Site) -> None:
    foreign = site.lab.upload("r.txt", b"theirs")["id"]
    announced = site.bot.post("/files", {"name": "r.txt", "checksum": "0" * 32}).json["id"]
    spare = site.bot.upload("spare.txt", b"spare")["id"]
    refused = site.execute(
        site.sets[0], foreign["site"], UNKNOWN, announced["uuid"], spare["uuid"], spare["site"], Report="missing.txt"
    )
    assert refused.status_int == 400
    told = [(problem["error_code"], problem["field"], problem["entity"]) for problem in refused.json]
    assert sorted(told, key=str) == sorted(
        [
            ("not_found", "fileIds", {"uuid": foreign["site"], "site": foreign["site"]}),
            ("not_found", "fileIds", {"uuid": UNKNOWN, "site": UNKNOWN}),
            ("not_confirmed", "fileIds", announced),
            ("file_not_referenced", "fileIds", announced),
            ("file_not_referenced", "fileIds", spare),
            ("file_missing", "Report", site.sets[0]["id"]),
        ],
        key=str,
    )
    report = site.bot.upload("r.txt", b"fine")["id"]
    assert site.execute(site.sets[0], report["site"], Report="r.txt").status_int == 200
    assert codes(site.execute(site.sets[1], report["site"], Report="r.txt")) == {("already_submitted", "fileIds")}
    assert site.bot.delete(f"/files/{report['site']}").status_int == 403


def test_a_refused_answer_leaves_nothing(site: Site) -> None:
    report = site.bot.upload("r.txt", b"fine")["id"]
    assert site.execute(site.sets[0], report["uuid"], Report="r.txt", Nonsense="x").status_int == 400
    assert site.execute(site.sets[0], Text="y", Report="", Unique=None).status_int == 200
    assert site.bot.delete(f"/files/{report['uuid']}").status_int == 204


def test_answers_are_unique_where_the_field_says_so(site: Site) -> None:
    assert site.execute(site.sets[0], Unique="u", Once="o").status_int == 200
    refused = site.execute(site.sets[1], Unique=" u ", Once="o")
    assert refused.status_int == 400
    assert codes(refused) == {("not_unique_in_site", "Unique"), ("not_unique_in_submission", "Once")}
    assert {problem["entity"]["site"] for problem in refused.json} == {site.sets[1]["id"]["site"]}
    another = site.lab.stage(ID="3")
    site.lab.submit([another])
    assert codes(site.execute(another, Unique="u", Once="o")) == {("not_unique_in_site", "Unique")}
    assert site.execute(another, Unique="v", Once="o").status_int == 200
    # Null and empty never collide.
    assert site.execute(site.sets[1], Unique="", Once=None).status_int == 200
