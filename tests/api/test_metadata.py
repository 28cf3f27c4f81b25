"""The definitions of fields over the API: who may change them, what is refused, and what a change does to data."""

from typing import Any

import pytest

from tests.conftest import Client, Portal, codes

UNKNOWN = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def admin(portal: Portal) -> Client:
    return portal.add_user("Office", site_admin=True)


def change(definition: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a definition as it was answered, as a request that changes it."""
    body = {key: value if value is not None else "" for key, value in definition.items() if key != "id"}
    if definition["serviceId"]:
        body["serviceId"] = definition["serviceId"]["uuid"]
    return {**body, **changes}


def test_a_definition_is_answered_as_it_was_sent(admin: Client) -> None:
    sent = {
        "name": "Sampling/Date ä",
        "regexDescription": "Digits and dots.",
        "longDescription": "When it was taken.",
        "example": "24.12.2025",
        "regExp": r"[0-9.]+",
        "dateTimeFmt": "%d.%m.%Y",
        "isMandatory": True,
        "order": -7,
        "isFile": False,
        "isSubmissionUnique": True,
        "isSiteUnique": True,
        "serviceId": None,
    }
    created = admin.post("/metadata", sent)
    assert created.status_int == 200
    assert created.headers["DataMeta-Affected"] == "0"
    metadatum_id = created.json.pop("id")
    assert set(metadatum_id) == {"uuid"}
    assert created.json == {**sent, "id": metadatum_id}
    changed = admin.put(f"/metadata/{metadatum_id['uuid']}", {**sent, "name": "Day", "isMandatory": False})
    assert changed.json == {**sent, "id": metadatum_id, "name": "Day", "isMandatory": False}
    assert admin.get("/metadata").json == [changed.json]


def test_empty_texts_mean_none(admin: Client) -> None:
    field = admin.add_field("A", serviceId="")
    for name in ("regexDescription", "longDescription", "example", "regExp", "dateTimeFmt", "serviceId"):
        assert field[name] is None


def test_everybody_reads_every_definition_by_its_order(portal: Portal, admin: Client) -> None:
    service = admin.post("/services", {"name": "Analysis"}).json
    admin.add_field("Last", order=2)
    admin.add_field("Answer", order=-1, serviceId=service["id"]["site"])
    admin.add_field("First", order=1)
    listed = portal.add_user().get("/metadata").json
    assert [field["name"] for field in listed] == ["Answer", "First", "Last"]
    assert listed[0]["serviceId"] == service["id"]
    assert portal.anonymous().get("/metadata").status_int == 401


def test_only_site_admins_define(portal: Portal, admin: Client) -> None:
    field = admin.add_field("A")
    body = change(field, name="B")
    others = [portal.add_user("Lab A", group_admin=True), portal.add_user("Lab B", site_read=True)]
    for user in others:
        assert user.post("/metadata", body).status_int == 403
        assert user.put(f"/metadata/{field['id']['uuid']}", body).status_int == 403
        assert user.put(f"/metadata/{UNKNOWN}", body).status_int == 403
    assert portal.anonymous().post("/metadata", body).status_int == 401
    assert portal.anonymous().put(f"/metadata/{field['id']['uuid']}", {}).status_int == 401
    assert admin.get("/metadata").json == [field]


def test_unknown_ids_are_not_found(admin: Client) -> None:
    field = admin.add_field("A")
    for unknown in (UNKNOWN, "DMP-00000000", "A", field["id"]["uuid"]):
        for response in (
            admin.post("/metadata", change(field, name="B", serviceId=unknown)),
            admin.put(f"/metadata/{field['id']['uuid']}", change(field, serviceId=unknown)),
        ):
            assert response.status_int == 404
            assert codes(response) == {("not_found", "serviceId")}
    for unknown in (UNKNOWN, "A", "0"):
        assert admin.put(f"/metadata/{unknown}", change(field)).status_int == 404
    assert admin.get("/metadata").json == [field]


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"name": "Taken"}, "duplicate_name", "name"),
        ({"name": ""}, "mandatory_missing", "name"),
        ({"name": "  \t"}, "mandatory_missing", "name"),
        ({"regExp": "[0-9"}, "regex_invalid", "regExp"),
        ({"regExp": "(?=x)"}, "regex_invalid", "regExp"),
        ({"regExp": "((a{100}){100}){100}"}, "regex_invalid", "regExp"),
        ({"dateTimeFmt": "%d.%m.%Q"}, "date_format_invalid", "dateTimeFmt"),
        ({"dateTimeFmt": "%"}, "date_format_invalid", "dateTimeFmt"),
        ({"dateTimeFmt": "today"}, "date_format_invalid", "dateTimeFmt"),
        ({"dateTimeFmt": "%Y-%Y"}, "date_format_invalid", "dateTimeFmt"),
        ({"dateTimeFmt": "%A"}, "date_format_invalid", "dateTimeFmt"),
        ({"dateTimeFmt": "%Y-%m-%d %Z"}, "date_format_invalid", "dateTimeFmt"),
        ({"dateTimeFmt": "%99999999d"}, "date_format_invalid", "dateTimeFmt"),
        ({"name": "x" * 256}, "too_long", "name"),
        ({"name": "a\0"}, "invalid_text", "name"),
        ({"regExp": "x" * 1001}, "too_long", "regExp"),
        ({"order": 2**31}, "out_of_range", "order"),
        ({"order": 1.5}, "wrong_type", "order"),
        ({"isFile": "yes"}, "wrong_type", "isFile"),
        ({"regExp": None}, "wrong_type", "regExp"),
        ({"id": UNKNOWN}, "unknown_property", "id"),
    ],
)
def test_a_wrong_definition_is_refused(admin: Client, changes: dict[str, Any], code: str, field: str) -> None:
    admin.add_field("Taken")
    other = admin.add_field("Other", order=2)
    before = admin.get("/metadata").json
    for response in (
        admin.post("/metadata", change(other, **{"name": "New", **changes})),
        admin.put(f"/metadata/{other['id']['uuid']}", change(other, **changes)),
    ):
        assert response.status_int == 400
        assert codes(response) == {(code, field)}
    assert admin.get("/metadata").json == before


def test_every_fault_of_a_definition_is_told_at_once(admin: Client) -> None:
    field = admin.add_field("Taken")
    response = admin.post("/metadata", change(field, regExp="(", dateTimeFmt="%"))
    assert codes(response) == {
        ("duplicate_name", "name"),
        ("regex_invalid", "regExp"),
        ("date_format_invalid", "dateTimeFmt"),
    }


def test_a_missing_property_is_named(admin: Client) -> None:
    body = change(admin.add_field("A"))
    for name in body:
        response = admin.post("/metadata", {key: value for key, value in body.items() if key != name})
        assert codes(response) == {("missing", name)}


def test_a_field_keeps_its_own_name(admin: Client) -> None:
    field = admin.add_field("A")
    assert admin.put(f"/metadata/{field['id']['uuid']}", change(field, order=3)).status_int == 200


def test_a_change_of_rules_counts_the_staged_sets_that_no_longer_pass(portal: Portal, admin: Client) -> None:
    field = admin.add_field("Zip")
    service = admin.post("/services", {"name": "Analysis"}).json["id"]["site"]
    labs = [portal.add_user("Lab A"), portal.add_user("Lab B")]
    for lab in labs:
        for value in ("123", "12", None):
            lab.stage(Zip=value)
    assert labs[0].submit([labs[0].stage(Zip="12")]).status_int == 200

    def affected(**changes: Any) -> str:
        response = admin.put(f"/metadata/{field['id']['uuid']}", change(field, **changes))
        assert response.status_int == 200, response.body
        return response.headers["DataMeta-Affected"]

    assert affected(regExp="[0-9]{3}") == "2"
    assert affected(regExp="[0-9]{3}", isMandatory=True) == "4"
    assert affected(dateTimeFmt="%d.%m.%Y") == "4"
    assert affected(isSiteUnique=True) == "2"
    assert affected(isSiteUnique=True, regExp="[0-9]{3}") == "2"
    assert affected(serviceId=service, isMandatory=True) == "0"
    assert affected() == "0"
    created = admin.post("/metadata", change(field, name="Else", isMandatory=True))
    assert created.headers["DataMeta-Affected"] == "6"


def test_staged_data_is_judged_by_the_rules_of_the_day(portal: Portal, admin: Client) -> None:
    lab = portal.add_user()
    field = admin.add_field("Day")
    submitted = lab.stage(Day="24.12.2025")
    assert lab.submit([submitted]).status_int == 200
    good, bad = lab.stage(Day="1.1.2026"), lab.stage(Day="tomorrow")
    admin.put(f"/metadata/{field['id']['uuid']}", change(field, dateTimeFmt="%d.%m.%Y", isMandatory=True))
    assert lab.get(f"/metadatasets/{submitted['id']['site']}").json["record"] == {"Day": "24.12.2025"}
    response = lab.submit([good, bad])
    assert response.status_int == 400
    assert codes(response) == {("date_mismatch", "Day")}
    assert response.json[0]["entity"] == bad["id"]
    assert lab.submit([good]).status_int == 200
    assert lab.get(f"/metadatasets/{good['id']['site']}").json["record"] == {"Day": "01.01.2026"}


def test_a_renamed_field_keeps_its_values(portal: Portal, admin: Client) -> None:
    field = admin.add_field("Old")
    staged = admin.stage(Old="x")
    admin.put(f"/metadata/{field['id']['uuid']}", change(field, name="New"))
    assert admin.get(f"/metadatasets/{staged['id']['site']}").json["record"] == {"New": "x"}


def test_a_field_does_not_become_unique_over_values_that_collide(portal: Portal, admin: Client) -> None:
    lab, other = portal.add_user("Lab A"), portal.add_user("Lab B")
    field = admin.add_field("ID")
    first, second, alone = lab.stage(ID="x"), other.stage(ID=" x"), lab.stage(ID="y")
    assert lab.submit([first, alone, lab.stage(ID=None), lab.stage(ID="  ")]).status_int == 200
    assert other.submit([second]).status_int == 200
    path = f"/metadata/{field['id']['uuid']}"
    response = admin.put(path, change(field, isSiteUnique=True, name="Renamed"))
    assert response.status_int == 409
    assert codes(response) == {("not_unique_in_site", "Renamed")}
    assert [problem["entity"] for problem in response.json] == [first["id"], second["id"]]
    assert admin.get("/metadata").json == [field]
    assert lab.submit([lab.stage(ID="y")]).status_int == 200


def test_a_field_that_becomes_unique_holds_the_submitted_values_until_it_is_no_longer(
    portal: Portal, admin: Client
) -> None:
    lab, other = portal.add_user("Lab A"), portal.add_user("Lab B")
    field = admin.add_field("ID")
    path = f"/metadata/{field['id']['uuid']}"
    assert lab.submit([lab.stage(ID="x")]).status_int == 200
    again = other.stage(ID="x\n")
    assert admin.put(path, change(field, isSiteUnique=True)).json["isSiteUnique"]
    response = other.submit([again])
    assert response.status_int == 400
    assert codes(response) == {("not_unique_in_site", "ID")}
    assert response.json[0]["entity"] == again["id"]
    assert admin.put(path, change(field)).status_int == 200
    assert other.submit([again]).status_int == 200
    assert admin.put(path, change(field, isSiteUnique=True)).status_int == 409


def test_a_unique_field_stays_unique_when_it_becomes_a_date(portal: Portal, admin: Client) -> None:
    lab = portal.add_user()
    field = admin.add_field("Day", isSiteUnique=True)
    path = f"/metadata/{field['id']['uuid']}"
    assert lab.submit([lab.stage(Day="01.01.2026")]).status_int == 200
    assert admin.put(path, change(field, dateTimeFmt="%d.%m.%Y")).status_int == 200
    assert codes(lab.submit([lab.stage(Day="1.1.2026")])) == {("not_unique_in_site", "Day")}


def test_texts_that_are_one_date_keep_a_unique_field_from_becoming_a_date(portal: Portal, admin: Client) -> None:
    lab = portal.add_user()
    field = admin.add_field("Day", isSiteUnique=True)
    submitted = [lab.stage(Day="01.01.2026"), lab.stage(Day="1.1.2026")]
    assert lab.submit(submitted).status_int == 200
    response = admin.put(f"/metadata/{field['id']['uuid']}", change(field, dateTimeFmt="%d.%m.%Y"))
    assert response.status_int == 409
    assert [problem["entity"] for problem in response.json] == [item["id"] for item in submitted]


def test_a_unique_field_of_a_service_holds_what_the_service_answered(portal: Portal, admin: Client) -> None:
    lab, bot = portal.add_user("Lab A"), portal.add_user("Bots")
    services = [admin.post("/services", {"name": name}).json["id"]["site"] for name in ("One", "Two")]
    for service in services:
        admin.put(f"/services/{service}", {"userIds": [bot.site_id]})
    field = admin.add_field("Accession", serviceId=services[0])
    path = f"/metadata/{field['id']['uuid']}"
    sets = [lab.stage(), lab.stage(), lab.stage()]
    assert lab.submit(sets).status_int == 200

    def execute(service: str, number: int, value: str) -> Any:
        body = {"record": {"Accession": value}, "fileIds": []}
        return bot.post(f"/service-execution/{service}/{sets[number]['id']['site']}", body)

    assert execute(services[0], 0, "ACC1").status_int == 200
    assert admin.put(path, change(field, isSiteUnique=True)).status_int == 200
    assert codes(execute(services[0], 1, "ACC1")) == {("not_unique_in_site", "Accession")}
    assert execute(services[0], 1, "ACC2").status_int == 200
    # What the former service answered is seen by nobody any more, and stands in nobody's way.
    assert admin.put(path, change(field, isSiteUnique=True, serviceId=services[1])).status_int == 200
    assert execute(services[1], 0, "ACC2").status_int == 200
    assert codes(execute(services[1], 1, "ACC2")) == {("not_unique_in_site", "Accession")}
