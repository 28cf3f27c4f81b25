"""Rules between fields over the API: one list, replaced as a whole, by which every staged record is checked."""

from typing import Any

import pytest

from tests.api.test_metadata import change
from tests.api.test_refinements import make_hosts, refine
from tests.conftest import Client, Portal, assert_refused


@pytest.fixture
def admin(portal: Portal) -> Client:
    return portal.add_user("Office", site_admin=True)


@pytest.fixture
def lab(portal: Portal) -> Client:
    return portal.add_user("Lab A")


def condition(field: str, operator: str, *values: str, other: str | None = None) -> dict[str, Any]:
    """Return a condition as it is answered."""
    return {"field": field, "operator": operator, "values": list(values), "otherField": other}


def rule(message: str, *then: dict[str, Any], when: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    """Return a rule as it is answered."""
    return {"message": message, "when": list(when), "then": list(then)}


def set_rules(admin: Client, *rules: dict[str, Any]) -> Any:
    """Replace the rules; every answer is returned."""
    return admin.put("/recordrules", {"rules": list(rules)})


SPECIES = rule(
    "Give the species of an animal.", condition("Species", "is_filled"), when=(condition("Host", "is", "animal"),)
)
ORDER = rule("It can't arrive before it is taken.", condition("Taken", "at_most", other="Received"))


def define(admin: Client) -> dict[str, Any]:
    """Define the fields that the rules above are about."""
    fields = [admin.add_field("Host"), admin.add_field("Species")]
    fields += [admin.add_field(name, dateTimeFmt="%Y-%m-%d") for name in ("Taken", "Received")]
    return {field["name"]: field for field in fields}


def test_rules_are_answered_as_they_were_sent(admin: Client, lab: Client) -> None:
    fields = define(admin)
    assert lab.get("/recordrules").json == {"rules": []}
    answer = set_rules(admin, SPECIES, ORDER)
    assert answer.json == lab.get("/recordrules").json == {"rules": [SPECIES, ORDER]}
    # Fields may be named by id, and what compares nothing be left out.
    short = {"field": fields["Species"]["id"]["uuid"].upper(), "operator": "is_filled"}
    when = {"field": fields["Host"]["id"]["uuid"], "operator": "is", "values": ["animal"]}
    sent = {"message": SPECIES["message"], "when": [when], "then": [short]}
    assert set_rules(admin, sent, ORDER).json == {"rules": [SPECIES, ORDER]}
    # A field that is renamed stays bound.
    path = f"/metadata/{fields['Host']['id']['uuid']}"
    assert admin.put(path, change(fields["Host"], name="Origin")).status_int == 200
    assert lab.get("/recordrules").json["rules"][0]["when"][0]["field"] == "Origin"
    assert set_rules(admin).json == {"rules": []}
    events = [event for event in admin.get("/audit").json if event["event"] == "recordrules.changed"]
    texts = [
        "if Host is animal then Species is_filled: Give the species of an animal.",
        "Taken at_most Received: It can't arrive before it is taken.",
    ]
    assert [(event["before"], event["after"]) for event in reversed(events)] == [
        ({"rules": []}, {"rules": texts}),
        ({"rules": [text.replace("Host", "Origin") for text in texts]}, {"rules": []}),
    ]


def test_every_check_goes_by_the_rules(admin: Client, lab: Client) -> None:
    define(admin)
    staged = lab.stage(Host="animal")
    lab.stage(Host="plant")
    late = lab.stage(Taken="2024-02-01", Received="2024-01-01")
    answer = set_rules(admin, SPECIES, ORDER)
    assert answer.headers["DataMeta-Affected"] == "2"
    refused = lab.post("/metadatasets", {"record": {"Host": "animal", "Taken": "2024-01-02", "Received": "2024-01-01"}})
    assert_refused(refused, 400, ("conditionally_mandatory", "Species"), ("rule_broken", "Taken"))
    assert [problem["message"] for problem in refused.json] == [SPECIES["message"], ORDER["message"]]
    for path in ("/submissions", "/presubvalidation"):
        body = {"metadatasetIds": [staged["id"]["site"], late["id"]["site"]], "fileIds": []}
        refused = lab.post(path, body)
        assert_refused(refused, 400, ("conditionally_mandatory", "Species"), ("rule_broken", "Taken"))
        assert [problem["entity"] for problem in refused.json] == [staged["id"], late["id"]]
    path = f"/metadatasets/{staged['id']['uuid']}"
    assert_refused(lab.put(path, {"record": {"Host": "animal"}}), 400, ("conditionally_mandatory", "Species"))
    assert lab.put(path, {"record": {"Host": "animal", "Species": "Mus musculus"}}).status_int == 200
    assert lab.submit([staged]).status_int == 200


def test_a_change_of_a_field_counts_the_rules_about_it(admin: Client, lab: Client) -> None:
    fields = define(admin)
    lab.stage(Host="animal")
    lab.stage(Taken="2024-02-01", Received="2024-01-01")
    set_rules(admin, SPECIES, ORDER)
    answer = admin.put(f"/metadata/{fields['Species']['id']['uuid']}", change(fields["Species"]))
    assert answer.headers["DataMeta-Affected"] == "1"
    answer = refine(admin, fields["Host"], missingTerms=["missing"])
    assert answer.headers["DataMeta-Affected"] == "1"


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (rule(" ", condition("Host", "is_filled")), ("mandatory_missing", "rules/0/message")),
        (rule("Why."), ("invalid_rule", "rules/0/then")),
        (rule("Why.", condition("Guest", "is_filled")), ("unknown_field", "rules/0/then/0/field")),
        (
            rule("Why.", condition("Host", "same_as", other="Guest")),
            ("unknown_field", "rules/0/then/0/otherField"),
        ),
        (
            rule("Why.", condition("Host", "is_filled"), when=(condition("Answer", "is", "x"),)),
            ("service_field", "rules/0/when/0/field"),
        ),
        (rule("Why.", condition("Host", "is")), ("invalid_rule", "rules/0/then/0/values")),
        (rule("Why.", condition("Host", "is_empty", "x")), ("invalid_rule", "rules/0/then/0/values")),
        (rule("Why.", condition("Taken", "at_most")), ("invalid_rule", "rules/0/then/0/otherField")),
        (
            rule("Why.", condition("Host", "is", "x", other="Species")),
            ("invalid_rule", "rules/0/then/0/otherField"),
        ),
        (
            rule("Why.", condition("Host", "same_as", other="Host")),
            ("invalid_rule", "rules/0/then/0/otherField"),
        ),
        (
            rule("Why.", condition("Host", "at_most", other="Taken")),
            ("invalid_rule", "rules/0/then/0/otherField"),
        ),
        (rule("Why.", condition("Kind", "is", "Homo sapiens", "man")), ("invalid_rule", "rules/0/then/0/values")),
        (rule("Why.", condition("Host", "likes")), ("invalid_value", "rules/0/then/0/operator")),
    ],
)
def test_a_rule_in_which_something_is_wrong_is_refused(
    admin: Client, sent: dict[str, Any], expected: tuple[str, str]
) -> None:
    define(admin)
    make_hosts(admin, "Kind")
    service = admin.post("/services", {"name": "Analysis"}).json["id"]["site"]
    admin.add_field("Answer", serviceId=service)
    assert set_rules(admin, ORDER).status_int == 200
    assert_refused(set_rules(admin, sent), 400, expected)
    assert admin.get("/recordrules").json == {"rules": [ORDER]}


def test_words_of_a_vocabulary_and_terms_for_missing_values_may_stand_in_rules(admin: Client) -> None:
    host = make_hosts(admin)
    refine(admin, host, kind="vocabulary", missingTerms=["missing"])
    assert set_rules(admin, rule("Why.", condition("Host", "is", "Homo sapiens", "missing"))).status_int == 200


def test_a_field_that_a_rule_needs_stays_what_it_is(admin: Client) -> None:
    fields = define(admin)
    amounts = [admin.add_field(name) for name in ("Used", "There")]
    for amount in amounts:
        assert refine(admin, amount, kind="number", unit="ng").status_int == 200
    assert (
        set_rules(admin, SPECIES, ORDER, rule("Too much.", condition("Used", "at_most", other="There"))).status_int
        == 200
    )
    service = admin.post("/services", {"name": "Analysis"}).json["id"]["site"]
    for name in ("Host", "Received"):
        answer = admin.put(f"/metadata/{fields[name]['id']['uuid']}", change(fields[name], serviceId=service))
        assert_refused(answer, 400, ("bound_by_rule", "serviceId"))
    for date_format in ("", "%Y-%m-%d %z"):
        path = f"/metadata/{fields['Taken']['id']['uuid']}"
        answer = admin.put(path, change(fields["Taken"], dateTimeFmt=date_format))
        assert_refused(answer, 400, ("bound_by_rule", "dateTimeFmt"))
    assert_refused(refine(admin, amounts[0]), 400, ("bound_by_rule", "kind"))
    assert_refused(refine(admin, amounts[1], kind="number", unit="µg"), 400, ("bound_by_rule", "kind"))
    assert set_rules(admin).status_int == 200
    assert refine(admin, amounts[0]).status_int == 200
    answer = admin.put(f"/metadata/{fields['Host']['id']['uuid']}", change(fields["Host"], serviceId=service))
    assert answer.status_int == 200
