"""Refinements and vocabularies over the API: who changes them, what contradicts, and that all checks go by them."""

from typing import Any

import pytest
from sqlalchemy import update

from datameta.logic import fsck, rulebook, vocabularies
from datameta.logic.fields import INSDC_MISSING_TERMS
from datameta.models import MetaDatum
from tests.api.test_metadata import change
from tests.conftest import Client, Portal, assert_refused, codes, sign_in

UNKNOWN = "00000000-0000-4000-8000-000000000000"
PLAIN = {"kind": "text", "unit": "", "minimum": None, "maximum": None, "isInteger": False, "missingTerms": []}
HOSTS = [{"term": "Homo sapiens", "synonyms": ["human", "man"]}, {"term": "Mus musculus", "synonyms": []}]


@pytest.fixture
def admin(portal: Portal) -> Client:
    return portal.add_user("Office", site_admin=True)


@pytest.fixture
def lab(portal: Portal) -> Client:
    return portal.add_user("Lab A")


def refine(admin: Client, field: dict[str, Any], **changes: Any) -> Any:
    """Refine a field; every answer is returned."""
    return admin.put(f"/metadata/{field['id']['uuid']}/refinement", {**PLAIN, **changes})


def set_words(admin: Client, field: dict[str, Any], *words: str) -> Any:
    """Make these the words of a field; every answer is returned."""
    terms = [{"term": word} for word in words]
    return admin.put(f"/metadata/{field['id']['uuid']}/vocabulary", {"terms": terms})


def send_csv(admin: Client, field: dict[str, Any], body: bytes) -> Any:
    """Send a vocabulary as csv; every answer is returned."""
    path = f"/metadata/{field['id']['uuid']}/vocabulary"
    return admin.put(path, params=body, headers={"Content-Type": "text/csv"})


def make_hosts(admin: Client, name: str = "Host", **changes: Any) -> dict[str, Any]:
    """Define a field that holds the words of a vocabulary."""
    field = admin.add_field(name, **changes)
    assert admin.put(f"/metadata/{field['id']['uuid']}/vocabulary", {"terms": HOSTS}).status_int == 200
    assert refine(admin, field, kind="vocabulary").status_int == 200
    return field


def list_audited(admin: Client) -> list[tuple[str, Any, Any]]:
    """Return event, before and after of all changes of definitions, the oldest first."""
    names = ("metadatum.changed", "vocabulary.changed")
    events = [event for event in admin.get("/audit?limit=1000").json if event["event"] in names]
    return [(event["event"], event["before"], event["after"]) for event in reversed(events)]


def test_a_field_is_text_until_it_is_refined(admin: Client, lab: Client) -> None:
    field = admin.add_field("Amount")
    path = f"/metadata/{field['id']['uuid']}/refinement"
    assert lab.get(path).json == {"metadatumId": field["id"], **PLAIN, "termCount": 0}
    sent = {"kind": "number", "unit": "ng", "minimum": "-0.5", "maximum": "10", "isInteger": True}
    sent["missingTerms"] = ["not provided", "missing"]
    answer = admin.put(path, {**sent, "missingTerms": ["not provided", "missing", "missing"]})
    assert answer.json == {"metadatumId": field["id"], **sent, "termCount": 0}
    assert answer.headers["DataMeta-Affected"] == "0"
    assert lab.get(path).json == answer.json
    # What v1 says of the field is as it was.
    assert lab.get("/metadata").json == [field]
    assert refine(admin, field, **sent).status_int == 200
    assert list_audited(admin) == [("metadatum.changed", PLAIN | {"unit": None}, sent)]


def test_only_site_admins_refine(portal: Portal, admin: Client) -> None:
    field = admin.add_field("A")
    for user in (portal.add_user(group_admin=True), portal.add_user(site_read=True)):
        assert refine(user, field).status_int == set_words(user, field, "a").status_int == 403
        assert user.put("/recordrules", {"rules": []}).status_int == 403
    for name in ("refinement", "vocabulary"):
        assert_refused(admin.get(f"/metadata/{UNKNOWN}/{name}"), 404, ("not_found", None))
    assert_refused(refine(admin, {"id": {"uuid": UNKNOWN}}), 404, ("not_found", None))
    assert_refused(set_words(admin, {"id": {"uuid": UNKNOWN}}), 404, ("not_found", None))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kind": "number", "minimum": "2", "maximum": "1.5"}, {("contradictory", "minimum")}),
        (
            {"unit": "ng", "minimum": "0", "maximum": "0", "isInteger": True},
            {("contradictory", name) for name in ("unit", "minimum", "maximum", "isInteger")},
        ),
        ({"kind": "vocabulary"}, {("contradictory", "kind")}),
        ({"kind": "word"}, {("invalid_value", "kind")}),
        ({"kind": "number", "minimum": "1e5"}, {("invalid_text", "minimum")}),
        ({"missingTerms": ["NA"]}, {("invalid_value", "missingTerms/0")}),
    ],
)
def test_what_contradicts_itself_is_refused(admin: Client, changes: dict[str, Any], expected: set[Any]) -> None:
    assert_refused(refine(admin, admin.add_field("A"), **changes), 400, *expected)


def test_bounds_may_be_equal(admin: Client) -> None:
    assert refine(admin, admin.add_field("A"), kind="number", minimum="1", maximum="1.0").status_int == 200


def test_a_date_is_neither_a_number_nor_a_word(admin: Client) -> None:
    day = admin.add_field("Day", dateTimeFmt="%Y-%m-%d")
    set_words(admin, day, "2024-01-01")
    for kind in ("number", "vocabulary"):
        assert_refused(refine(admin, day, kind=kind), 400, ("contradictory", "kind"))
    host = make_hosts(admin)
    answer = admin.put(f"/metadata/{host['id']['uuid']}", change(host, dateTimeFmt="%Y"))
    assert_refused(answer, 400, ("contradictory", "dateTimeFmt"))
    assert refine(admin, host).status_int == 200
    assert admin.put(f"/metadata/{host['id']['uuid']}", change(host, dateTimeFmt="%Y")).status_int == 200


def test_every_check_goes_by_the_refinement(portal: Portal, admin: Client, lab: Client) -> None:
    amount, bot = admin.add_field("Amount"), portal.add_user("Bots")
    staged = lab.stage(Amount="20 ng")
    service = admin.post("/services", {"name": "Analysis"}).json["id"]["site"]
    admin.put(f"/services/{service}", {"userIds": [bot.site_id]})
    result = make_hosts(admin, "Result", serviceId=service)
    assert result["serviceId"] is not None
    answer = refine(admin, amount, kind="number", unit="ng", maximum="10")
    assert answer.headers["DataMeta-Affected"] == "1"
    refused = lab.post("/metadatasets", {"record": {"Amount": "11"}})
    assert_refused(refused, 400, ("out_of_bounds", "Amount"))
    assert refused.json[0]["message"] == "The number must be at most 10 ng."
    # A suggestion has no place of its own in v1's answers.
    assert refused.json[0].keys() == {"exception", "error_code", "message", "field"}
    for path in ("/submissions", "/presubvalidation"):
        refused = lab.post(path, {"metadatasetIds": [staged["id"]["site"]], "fileIds": []})
        assert_refused(refused, 400, ("not_a_number", "Amount"))
        assert refused.json[0]["entity"] == staged["id"]
    path = f"/metadatasets/{staged['id']['uuid']}"
    assert_refused(lab.put(path, {"record": {"Amount": "x"}}), 400, ("not_a_number", "Amount"))
    assert lab.put(path, {"record": {"Amount": "2"}}).status_int == 200
    assert lab.submit([staged]).status_int == 200
    path = f"/service-execution/{service}/{staged['id']['uuid']}"
    assert_refused(bot.post(path, {"record": {"Result": "man"}, "fileIds": []}), 400, ("not_in_vocabulary", "Result"))
    assert bot.post(path, {"record": {"Result": "Homo sapiens"}, "fileIds": []}).status_int == 200


def test_a_vocabulary_is_answered_as_it_was_sent(admin: Client, lab: Client) -> None:
    host = admin.add_field("Host")
    path = f"/metadata/{host['id']['uuid']}/vocabulary"
    assert lab.get(path).json == {"terms": []}
    answer = admin.put(path, {"terms": HOSTS})
    assert answer.json == lab.get(path).json == {"terms": HOSTS}
    assert admin.put(path, {"terms": HOSTS}).status_int == 200
    assert lab.get(f"/metadata/{host['id']['uuid']}/refinement").json["termCount"] == 2
    changed = [HOSTS[1], {"term": "Homo sapiens", "synonyms": ["human"]}, {"term": "Rattus", "synonyms": []}]
    assert admin.put(path, {"terms": changed}).json == {"terms": changed}
    assert admin.put(path, {"terms": []}).json == {"terms": []}
    assert list_audited(admin) == [
        (
            "vocabulary.changed",
            {"termCount": 0, "terms": []},
            {"termCount": 2, "terms": ["Homo sapiens", "Mus musculus"]},
        ),
        (
            "vocabulary.changed",
            {"termCount": 2, "terms": ["Homo sapiens"]},
            {"termCount": 3, "terms": ["Homo sapiens", "Rattus"]},
        ),
        (
            "vocabulary.changed",
            {"termCount": 3, "terms": ["Mus musculus", "Homo sapiens", "Rattus"]},
            {"termCount": 0, "terms": []},
        ),
    ]


def test_a_new_vocabulary_counts_at_once(admin: Client, lab: Client) -> None:
    host = make_hosts(admin)
    staged = lab.stage(Host="Homo sapiens")
    refused = lab.post("/metadatasets", {"record": {"Host": "human"}})
    assert refused.json[0]["message"] == "This is none of the allowed words. Did you mean “Homo sapiens”?"
    answer = set_words(admin, host, "human")
    assert answer.headers["DataMeta-Affected"] == "1"
    lab.stage(Host="human")
    assert_refused(lab.submit([staged]), 400, ("not_in_vocabulary", "Host"))
    # One that was refused has left nothing behind, either.
    assert_refused(set_words(admin, host), 400, ("contradictory", "terms"))
    assert_refused(set_words(admin, host, "mouse", "mouse"), 400, ("duplicate_term", "terms/1"))
    lab.stage(Host="human")


def test_the_rulebook_is_read_once_until_it_changes(portal: Portal, admin: Client) -> None:
    host = make_hosts(admin)
    with portal.database.sessions() as db:
        first = rulebook.load_rulebook(db)
        assert rulebook.load_rulebook(db) is first
    set_words(admin, host, "human")
    with portal.database.sessions() as db:
        changed = rulebook.load_rulebook(db)
        assert [term.term for term in changed.fields[0].vocabulary.terms] == ["human"]
        # What this transaction has changed counts for it, and for nobody else, nor any more once it is undone.
        db.execute(update(MetaDatum).values(name="Wirt"))
        assert [field.name for field in rulebook.load_rulebook(db).fields] == ["Wirt"]
        with portal.database.sessions() as other:
            assert rulebook.load_rulebook(other).fields == changed.fields
        db.rollback()
        assert rulebook.load_rulebook(db).fields == changed.fields


def test_a_rulebook_that_changes_while_it_is_read_is_not_kept(portal: Portal, admin: Client) -> None:
    make_hosts(admin)
    kept: rulebook.KeptByVersion[int] = rulebook.KeptByVersion()
    with portal.database.sessions() as db:

        def change() -> int:
            admin.add_field("Other")
            return 1

        assert kept.get(db, change) == 1
        assert kept.get(db, lambda: 2) == 2
        assert kept.get(db, lambda: 3) == 2


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ([{"term": "a"}, {"term": "b"}, {"term": "a"}], {("duplicate_term", "terms/2")}),
        ([{"term": "a", "synonyms": ["b"]}, {"term": "b"}], {("duplicate_term", "terms/0")}),
        ([{"term": "a", "synonyms": ["x", "x"]}, {"term": "b", "synonyms": ["X"]}], {("duplicate_term", "terms/1")}),
        (
            [{"term": ""}, {"term": " a"}, {"term": "b", "synonyms": ["c "]}],
            {("invalid_term", f"terms/{n}") for n in range(3)},
        ),
        ([{"term": "x" * 256}], {("too_long", "terms/0/term")}),
        ([{"term": "a", "synonyms": ["x"] * 51}], {("too_many", "terms/0/synonyms")}),
        ([{"term": "a"}] * 10_001, {("too_many", "terms")}),
        ([{"synonyms": []}], {("missing", "terms/0/term")}),
    ],
)
def test_a_vocabulary_in_which_something_is_wrong_is_refused(
    admin: Client, terms: list[Any], expected: set[Any]
) -> None:
    field = admin.add_field("A")
    assert_refused(admin.put(f"/metadata/{field['id']['uuid']}/vocabulary", {"terms": terms}), 400, *expected)


def test_words_that_differ_in_case_are_two(admin: Client, lab: Client) -> None:
    field = admin.add_field("Unit")
    assert set_words(admin, field, "mg", "Mg").status_int == 200
    assert refine(admin, field, kind="vocabulary").status_int == 200
    lab.stage(Unit="Mg")
    assert "Did you mean" not in lab.post("/metadatasets", {"record": {"Unit": "MG"}}).json[0]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"Homo sapiens,human,man\nMus musculus\n",
        b"term,synonym,synonym\r\nHomo sapiens,human,man\r\nMus musculus,,\r\n",
        b"\xef\xbb\xbfTerm,Synonyms\n\n Homo sapiens ,human,,man\n,,\nMus musculus",
        b'term\n"Homo sapiens","human",man\n"Mus musculus"\n',
    ],
)
def test_a_vocabulary_comes_as_csv(admin: Client, body: bytes) -> None:
    assert send_csv(admin, admin.add_field("Host"), body).json == {"terms": HOSTS}


def test_a_first_line_of_other_words_is_no_header(admin: Client) -> None:
    answer = send_csv(admin, admin.add_field("A"), b"term,early\nlate,\n")
    assert [term["term"] for term in answer.json["terms"]] == ["term", "late"]
    assert send_csv(admin, admin.add_field("B"), b"\n").json == {"terms": []}


@pytest.mark.parametrize(
    ("body", "code", "place", "message"),
    [
        (b"a\n,b\n", "invalid_csv", "line 2", "Line 2 has synonyms, and no word in its first column."),
        (b'a\nb\n"c', "invalid_csv", "line 3", "Line 3 is no csv: unexpected end of data."),
        (
            b"a\nb\xe4r\n",
            "invalid_csv",
            "line 2",
            "Line 2 has a byte that is not UTF-8 (0xe4). Save the file as CSV UTF-8.",
        ),
        (b"term\na\nb\na\n", "duplicate_term", "line 4", "The word “a” stands in the vocabulary already."),
        (b"a\n" + b"x" * 256, "invalid_term", "line 2", "A word has at most 255 characters; this one has 256."),
        (
            b"a" + b",x" * 51,
            "vocabulary_too_large",
            "line 1",
            "A word has at most 50 synonyms; this one has 51.",
        ),
        (
            b"a\n" * 10_001,
            "vocabulary_too_large",
            "terms",
            "A vocabulary has at most 10,000 words; this one has 10,001.",
        ),
    ],
)
def test_a_fault_of_csv_names_its_line(admin: Client, body: bytes, code: str, place: str, message: str) -> None:
    answer = send_csv(admin, admin.add_field("A"), body)
    assert_refused(answer, 400, (code, place))
    assert answer.json[0]["message"] == message


def test_words_hold_text_only(admin: Client) -> None:
    assert_refused(send_csv(admin, admin.add_field("A"), b"a\0b"), 400, ("invalid_text", None))
    [problem] = vocabularies.check_terms([vocabularies.Term("a\0b")], ["line 1"])
    assert (problem.code, problem.field) == ("invalid_term", "line 1")


def test_other_types_are_refused_by_name(admin: Client) -> None:
    path = f"/metadata/{admin.add_field('A')['id']['uuid']}/vocabulary"
    answer = admin.put(path, params=b"a", headers={"Content-Type": "text/plain"})
    assert_refused(answer, 415, ("unsupported_type", None))
    assert answer.json[0]["message"] == "Send the body as Content-Type: application/json or text/csv."


def test_csv_comes_by_cookie_too(admin: Client) -> None:
    browser = sign_in(admin)
    path = f"/metadata/{admin.add_field('A')['id']['uuid']}/vocabulary"
    assert browser.put(path, params=b"a,b", headers={"Content-Type": "text/csv"}).status_int == 200
    answer = browser.put(path, params=b"a,b", headers={"Content-Type": "text/plain"})
    assert_refused(answer, 403, ("csrf_failed", None))


def test_a_vocabulary_of_ten_thousand_words_is_taken(admin: Client, lab: Client) -> None:
    field = admin.add_field("A")
    assert set_words(admin, field, *(f"word {number}" for number in range(10_000))).status_int == 200
    assert refine(admin, field, kind="vocabulary").json["termCount"] == 10_000
    lab.stage(A="word 9999")
    assert codes(lab.post("/metadatasets", {"record": {"A": "word 10000"}})) == {("not_in_vocabulary", "A")}


def test_terms_for_missing_values_are_never_unique_and_name_no_file(portal: Portal, admin: Client, lab: Client) -> None:
    sample = admin.add_field("ID", isSiteUnique=True, isMandatory=True)
    file = admin.add_field("File", isFile=True)
    for field in (sample, file):
        assert refine(admin, field, missingTerms=list(INSDC_MISSING_TERMS)).status_int == 200
    sets = [lab.stage(ID="not provided", File="not applicable") for _ in range(2)]
    assert lab.submit(sets).status_int == 200
    assert lab.submit([lab.stage(ID="not provided", File="missing: lab stock")]).status_int == 200
    assert lab.get(f"/metadatasets/{sets[0]['id']['uuid']}").json["fileIds"] == {"File": None}
    assert not list_wrong(portal)
    # As values, they collide; as one value alone it may be claimed, and be a term again.
    answer = refine(admin, sample)
    assert answer.status_int == 409
    assert {problem["error_code"] for problem in answer.json} == {"not_unique_in_site"}
    other = lab.stage(ID="missing", File="missing")
    assert lab.submit([other]).status_int == 200
    terms = [term for term in INSDC_MISSING_TERMS if term != "missing"]
    assert refine(admin, sample, missingTerms=terms).status_int == 200
    assert_refused(lab.submit([lab.stage(ID="missing", File="missing")]), 400, ("not_unique_in_site", "ID"))
    assert not list_wrong(portal)
    assert refine(admin, sample, missingTerms=list(INSDC_MISSING_TERMS)).status_int == 200
    assert lab.submit([lab.stage(ID="missing", File="missing")]).status_int == 200
    assert not list_wrong(portal)


def test_a_service_gives_terms_for_missing_values(portal: Portal, admin: Client, lab: Client) -> None:
    bot = portal.add_user("Bots", site_read=True)
    service = admin.post("/services", {"name": "Analysis"}).json["id"]["site"]
    admin.put(f"/services/{service}", {"userIds": [bot.site_id]})
    for name, rules in (
        ("Accession", {"isSiteUnique": True, "isSubmissionUnique": True}),
        ("Report", {"isFile": True}),
    ):
        field = admin.add_field(name, serviceId=service, **rules)
        assert refine(admin, field, missingTerms=["missing"]).headers["DataMeta-Affected"] == "0"
    sets = [lab.stage(), lab.stage()]
    assert lab.submit(sets).status_int == 200
    for item in sets:
        body = {"record": {"Accession": "missing", "Report": "missing"}, "fileIds": []}
        assert bot.post(f"/service-execution/{service}/{item['id']['uuid']}", body).status_int == 200
    assert not list_wrong(portal)


def list_wrong(portal: Portal) -> list[str]:
    """Return what the proof of the whole site finds wrong."""
    found = fsck.prove_site(portal.database.sessions, portal.storage, orphan_days=35)
    return [finding.message for finding in found if isinstance(finding, fsck.Finding) and finding.is_wrong]
