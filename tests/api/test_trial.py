"""A field is tried before it is saved: the same problems, the verdict on a value, and what would stop passing."""

from typing import Any

import pytest

from tests.api.test_metadata import change
from tests.api.test_recordrules import ORDER, SPECIES, condition, define, rule, set_rules
from tests.api.test_refinements import PLAIN, make_hosts, refine, set_words
from tests.conftest import Client, Portal, assert_refused, counted, list_events

UNKNOWN = "00000000-0000-4000-8000-000000000000"
DRAFT = {
    "name": "Draft",
    "regexDescription": "",
    "longDescription": "",
    "example": "",
    "regExp": "",
    "dateTimeFmt": "",
    "isMandatory": False,
    "order": 1,
    "isFile": False,
    "isSubmissionUnique": False,
    "isSiteUnique": False,
    "serviceId": None,
}


@pytest.fixture
def admin(portal: Portal) -> Client:
    return portal.add_user("Office", site_admin=True)


@pytest.fixture
def lab(portal: Portal) -> Client:
    return portal.add_user("Lab A")


def send(admin: Client, definition: dict[str, Any], of: dict[str, Any] | None = None, **more: Any) -> Any:
    """Try a field, a new one or a change of another; every answer is returned."""
    if of is not None:
        more["metadatumId"] = of["id"]["uuid"]
    return admin.post("/rpc/try-field", {"metadatum": definition, **more})


def attempt(admin: Client, definition: dict[str, Any], of: dict[str, Any] | None = None, **more: Any) -> Any:
    response = send(admin, definition, of, **more)
    assert response.status_int == 200, response.body
    return response.json


def codes(problems: list[dict[str, Any]] | None) -> list[tuple[str, str | None]] | None:
    return None if problems is None else [(problem["code"], problem["field"]) for problem in problems]


def test_only_site_admins_try(portal: Portal) -> None:
    for user in (portal.add_user(group_admin=True), portal.add_user(site_read=True)):
        assert_refused(send(user, DRAFT), 403, ("forbidden", None))
        assert_refused(send(user, DRAFT, metadatumId=UNKNOWN), 403, ("forbidden", None))
    assert_refused(send(portal.anonymous(), DRAFT), 401, ("unauthenticated", None))


def test_what_is_not_there_is_not_found(admin: Client) -> None:
    assert_refused(send(admin, DRAFT, metadatumId=UNKNOWN), 404, ("not_found", "metadatumId"))
    assert_refused(send(admin, DRAFT | {"serviceId": UNKNOWN}), 404, ("not_found", "serviceId"))
    assert_refused(send(admin, {}), 400, *(("missing", f"metadatum/{name}") for name in DRAFT))


def test_a_field_is_tried_and_nothing_is_stored(portal: Portal, admin: Client, lab: Client) -> None:
    field = admin.add_field("Code")
    lab.stage(Code="x")
    before = admin.get("/metadata").json, len(list_events(portal, ""))
    new = DRAFT | {"regExp": "[0-9]+", "isMandatory": True, "isSiteUnique": True}
    number = PLAIN | {"kind": "number", "maximum": "9"}
    assert attempt(admin, new, value="12", refinement=number) == {
        "definition": [],
        "value": [{"code": "out_of_bounds", "message": "The number must be at most 9.", "field": "Draft"}],
        "affectedStaged": 1,
    }
    changed = attempt(admin, change(field, regExp="[0-9]+"), field, value="12")
    assert changed == {"definition": [], "value": [], "affectedStaged": 1}
    assert (admin.get("/metadata").json, len(list_events(portal, ""))) == before


def test_without_a_value_there_is_no_verdict_and_null_is_a_value(admin: Client) -> None:
    mandatory = DRAFT | {"isMandatory": True}
    assert attempt(admin, mandatory)["value"] is None
    assert codes(attempt(admin, mandatory, value=None)["value"]) == [("mandatory_missing", "Draft")]
    assert attempt(admin, DRAFT, value=None)["value"] == []
    assert codes(attempt(admin, mandatory, value="")["value"]) == [("mandatory_missing", "Draft")]
    excused = PLAIN | {"missingTerms": ["missing"]}
    assert attempt(admin, mandatory, value="missing", refinement=excused)["value"] == []


@pytest.mark.parametrize(
    ("changes", "refinement", "expected"),
    [
        ({"regExp": "("}, None, [("regex_invalid", "regExp")]),
        ({"dateTimeFmt": "day"}, None, [("date_format_invalid", "dateTimeFmt")]),
        ({"dateTimeFmt": "%Y-%m-%d"}, {"kind": "number"}, [("contradictory", "kind")]),
        ({}, {"kind": "text", "unit": "ng"}, [("contradictory", "unit")]),
        ({}, {"kind": "number", "minimum": "2", "maximum": "1"}, [("contradictory", "minimum")]),
        ({}, {"kind": "vocabulary"}, [("contradictory", "kind")]),
        (
            {"name": " ", "regExp": "(", "dateTimeFmt": "x"},
            {"kind": "text", "isInteger": True},
            [
                ("mandatory_missing", "name"),
                ("regex_invalid", "regExp"),
                ("date_format_invalid", "dateTimeFmt"),
                ("contradictory", "isInteger"),
            ],
        ),
    ],
)
def test_a_field_that_contradicts_itself_judges_nothing(
    admin: Client, lab: Client, changes: dict[str, Any], refinement: dict[str, Any] | None, expected: list[Any]
) -> None:
    lab.stage()
    sent = None if refinement is None else PLAIN | refinement
    answer = attempt(admin, DRAFT | changes | {"isMandatory": True}, value="x", refinement=sent)
    assert (codes(answer["definition"]), answer["value"], answer["affectedStaged"]) == (expected, None, 0)


def test_a_name_that_will_not_do_keeps_nothing_from_being_judged(admin: Client) -> None:
    admin.add_field("Taken")
    for name, code in (("", "mandatory_missing"), ("Taken", "duplicate_name")):
        answer = attempt(admin, DRAFT | {"name": name, "regExp": "a"}, value="b")
        assert codes(answer["definition"]) == [(code, "name")]
        assert codes(answer["value"]) == [("regex_mismatch", name)]


def test_a_refinement_that_is_not_sent_stays(admin: Client) -> None:
    host = make_hosts(admin)
    assert codes(attempt(admin, change(host), host, value="human")["value"]) == [("not_in_vocabulary", "Host")]
    assert codes(attempt(admin, change(host, dateTimeFmt="%Y-%m-%d"), host)["definition"]) == [
        ("contradictory", "dateTimeFmt")
    ]
    # Of what is sent together, one may make room for the other.
    answer = attempt(admin, change(host, dateTimeFmt="%Y-%m-%d"), host, refinement=PLAIN, value="2026-03-14")
    assert (answer["definition"], answer["value"]) == ([], [])


def test_a_field_is_tried_with_the_words_that_it_has(admin: Client) -> None:
    field = admin.add_field("Host")
    assert set_words(admin, field, "human").status_int == 200
    answer = attempt(admin, change(field), field, refinement=PLAIN | {"kind": "vocabulary"}, value="mouse")
    assert (answer["definition"], codes(answer["value"])) == ([], [("not_in_vocabulary", "Host")])


def test_words_are_tried_before_they_are_sent(admin: Client, lab: Client) -> None:
    host = make_hosts(admin)
    lab.stage(Host=admin.get(f"/metadata/{host['id']['uuid']}/vocabulary").json["terms"][0]["term"])
    words = {"terms": [{"term": "mouse", "synonyms": ["Mus"]}, {"term": "rat"}]}
    answer = attempt(admin, change(host), host, vocabulary=words, value="Mus")
    assert (answer["definition"], codes(answer["value"])) == ([], [("not_in_vocabulary", "Host")])
    assert answer["affectedStaged"] == 1
    vocabulary = PLAIN | {"kind": "vocabulary"}
    assert attempt(admin, DRAFT, refinement=vocabulary, vocabulary=words, value="rat")["value"] == []
    twice = {"terms": [{"term": "rat"}, {"term": "rat"}]}
    wrong = attempt(admin, DRAFT, refinement=vocabulary, vocabulary=twice, value="rat")
    assert (codes(wrong["definition"]), wrong["value"]) == ([("duplicate_term", "terms/1")], None)
    # That there are none is told once.
    for refinement, field in ((None, "terms"), (vocabulary, "kind")):
        none = attempt(admin, change(host), host, vocabulary={"terms": []}, refinement=refinement)
        assert codes(none["definition"]) == [("contradictory", field)]


def test_only_sets_that_pass_today_are_counted(admin: Client, lab: Client) -> None:
    code, other = admin.add_field("Code"), admin.add_field("Other")
    for value in ("1", "x", "y", "z"):
        lab.stage(Code=value, Other="z" if value == "z" else "1")
    lab.stage(Code="x", Other="1")
    assert lab.submit([lab.stage(Code="x", Other="1")]).status_int == 200
    assert admin.put(f"/metadata/{other['id']['uuid']}", change(other, regExp="[0-9]")).status_int == 200
    # Of x, y, x and z, the last has an error already.
    assert attempt(admin, change(code, regExp="[0-9]"), code)["affectedStaged"] == 3
    assert attempt(admin, DRAFT | {"isMandatory": True})["affectedStaged"] == 4
    assert attempt(admin, change(code), code)["affectedStaged"] == 0
    service = admin.post("/services", {"name": "Analysis"}).json["id"]["site"]
    assert attempt(admin, DRAFT | {"isMandatory": True, "serviceId": service})["affectedStaged"] == 0


def test_dates_are_judged_as_the_draft_shows_them(admin: Client, lab: Client) -> None:
    day = admin.add_field("Day", dateTimeFmt="%Y-%m-%d")
    lab.stage(Day="2026-03-14")
    assert attempt(admin, change(day, dateTimeFmt="%d.%m.%Y"), day)["affectedStaged"] == 0
    assert attempt(admin, change(day, dateTimeFmt="%d.%m.%Y", regExp="2.*"), day)["affectedStaged"] == 1


def test_rules_about_the_field_are_judged_with_it(admin: Client, lab: Client) -> None:
    amount = admin.add_field("Amount")
    admin.add_field("Least")
    for name in ("Amount", "Least"):
        field = next(each for each in admin.get("/metadata").json if each["name"] == name)
        assert refine(admin, field, kind="number").status_int == 200
    lab.stage(Amount="5", Least="5")
    lab.stage(Amount="7", Least="5")
    demand = rule("Not less.", condition("Amount", "at_least", other="Least"))
    assert set_rules(admin, demand, rule("Always.", condition("Least", "is_filled"))).status_int == 200
    excuse = PLAIN | {"kind": "number", "missingTerms": ["missing"]}
    assert attempt(admin, change(amount), amount, refinement=excuse)["affectedStaged"] == 0
    # As text it has no order beside a number.
    answer = attempt(admin, change(amount), amount, refinement=PLAIN)
    assert codes(answer["definition"]) == [("bound_by_rule", "kind")]
    service = admin.post("/services", {"name": "Analysis"}).json["id"]["site"]
    taken = attempt(admin, change(amount, serviceId=service), amount)
    assert codes(taken["definition"]) == [("bound_by_rule", "serviceId")]


def test_a_rule_may_break_by_what_the_draft_makes_of_values(admin: Client, lab: Client) -> None:
    amount = admin.add_field("Amount")
    same = rule("Is it one?", condition("Amount", "is", "1.0"), when=(condition("Amount", "is_filled"),))
    assert refine(admin, amount, kind="number").status_int == 200
    assert set_rules(admin, same).status_int == 200
    lab.stage(Amount="1")
    assert attempt(admin, change(amount), amount)["affectedStaged"] == 0
    assert attempt(admin, change(amount), amount, refinement=PLAIN)["affectedStaged"] == 1


def test_a_field_that_becomes_unique_is_compared_with_what_was_submitted(admin: Client, lab: Client) -> None:
    field = admin.add_field("Sample")
    submitted = [lab.stage(Sample=value) for value in ("a", "b", " ")]
    assert lab.submit(submitted).status_int == 200
    for value in ("a", "a ", "c", " "):
        lab.stage(Sample=value)
    lab.stage()
    unique = attempt(admin, change(field, isSiteUnique=True), field)
    assert (unique["definition"], unique["affectedStaged"]) == ([], 2)
    excused = attempt(admin, change(field, isSiteUnique=True), field, refinement=PLAIN | {"missingTerms": ["missing"]})
    assert excused["affectedStaged"] == 2
    assert lab.submit([lab.stage(Sample="b")]).status_int == 200
    assert codes(attempt(admin, change(field, isSiteUnique=True), field)["definition"]) == [
        ("not_unique_in_site", "isSiteUnique")
    ]


def test_a_field_that_is_unique_already_is_not_compared_again(portal: Portal, admin: Client, lab: Client) -> None:
    field = admin.add_field("Sample", isSiteUnique=True)
    assert lab.submit([lab.stage(Sample="a")]).status_int == 200
    lab.stage(Sample="a")
    with counted(portal) as statements:
        answer = attempt(admin, change(field, longDescription="New."), field)
    assert (answer["definition"], answer["affectedStaged"]) == ([], 0)
    assert not any("submission_id IS NOT NULL" in statement for statement in statements)


def try_rules(admin: Client, rules: list[dict[str, Any]], **record: Any) -> Any:
    """Try rules with a record; every answer is returned."""
    return admin.post("/rpc/try-rules", {"rules": rules, "record": record})


def test_rules_are_tried_and_nothing_is_stored(portal: Portal, admin: Client) -> None:
    define(admin)
    set_rules(admin, ORDER)
    count = len(list_events(portal, ""))
    answer = try_rules(admin, [SPECIES], Host="animal", Taken="2026-02-01", Received="2026-01-01")
    broken = {"code": "conditionally_mandatory", "message": SPECIES["message"], "field": "Species"}
    assert answer.json == {"rules": [], "values": [], "broken": [broken]}
    assert try_rules(admin, [SPECIES], Host="animal", Species="cat").json["broken"] == []
    both = try_rules(admin, [SPECIES, ORDER], Host="animal", Taken="2026-02-01", Received="2026-01-01").json
    assert codes(both["broken"]) == [("conditionally_mandatory", "Species"), ("rule_broken", "Taken")]
    assert admin.get("/recordrules").json == {"rules": [ORDER]}
    assert len(list_events(portal, "")) == count


def test_a_rule_with_a_fault_and_a_value_that_is_wrong_judge_nothing(admin: Client) -> None:
    define(admin)
    admin.add_field("ID", isMandatory=True)
    faulty = rule("No.", condition("Host", "is"))
    answer = try_rules(admin, [faulty, SPECIES, ORDER], Host="animal", Taken="soon", Received="2026-01-01", No="x").json
    assert codes(answer["rules"]) == [("invalid_rule", "rules/0/then/0/values")]
    assert codes(answer["values"]) == [("date_mismatch", "Taken"), ("unknown_field", "No")]
    assert codes(answer["broken"]) == [("conditionally_mandatory", "Species")]


def test_only_site_admins_try_rules(portal: Portal) -> None:
    assert_refused(try_rules(portal.add_user(group_admin=True), []), 403, ("forbidden", None))
    assert_refused(try_rules(portal.anonymous(), []), 401, ("unauthenticated", None))
