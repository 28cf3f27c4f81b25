"""Records: what is sent is checked field by field, stored as text, and shown again unchanged."""

import subprocess
import sys
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datameta.api.validation import parse_json
from datameta.logic import records
from datameta.logic.definitions import check_date_format
from datameta.logic.fields import Condition, Field, Kind, Operator, Rule, Rulebook, Term, Vocabulary
from tests.conftest import Portal, codes

DATE_FORMATS = ("%Y-%m-%d", "%d.%m.%Y", "%d.%m.%y", "%d %B %Y %I:%M %p", "%Y-%m-%dT%H:%M:%S.%f%z", "%G-W%V-%u", "%H:%M")


def make_field(name: str = "A", **changes: Any) -> Field:
    """Return a definition that no database knows."""
    return Field(**{"id": 1, "name": name, **changes})


def make_book(*fields: Field) -> Rulebook:
    """Return fields without rules."""
    return Rulebook(fields)


def check_stored(field: Field, record: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return what is stored of a stored record by today's definition, and the codes of what is wrong with it."""
    current, problems = records.check_stored_record(make_book(field), record)
    return current, [problem.code for problem in problems]


def check_one(field: Field, value: Any) -> tuple[str | None, list[str]]:
    """Return what is stored for one value, and the codes of what is wrong with it."""
    record, problems = records.check_sent_record(make_book(field), {field.name: value})
    return record.get(str(field.id)), [problem.code for problem in problems]


def test_every_fault_is_told_in_the_order_of_the_rules() -> None:
    fields = [
        make_field("Must", id=1, is_mandatory=True, reg_exp="x"),
        make_field("Day", id=2, reg_exp="[0-9.]+", regex_description="Digits and dots.", date_time_fmt="%d.%m.%Y"),
        make_field("Zip", id=3, reg_exp="[0-9]{3}"),
        make_field("Answer", id=4, service_id=7),
    ]
    sent = {"Else": "x", "Answer": "y", "Day": "yesterday", "Zip": "12"}
    _, problems = records.check_sent_record(make_book(*fields), sent)
    assert [(problem.field, problem.code, problem.message) for problem in problems] == [
        ("Must", "mandatory_missing", "This field is mandatory."),
        ("Day", "regex_mismatch", "Digits and dots."),
        ("Day", "date_mismatch", "The value is not a date of the form %d.%m.%Y."),
        ("Zip", "regex_mismatch", "The value does not match the expression [0-9]{3}."),
        ("Else", "unknown_field", "There is no such field."),
        ("Answer", "service_field", "Only the service that this field belongs to may set it."),
    ]


@pytest.mark.parametrize("sent", [{}, {"A": None}, {"A": ""}])
def test_a_mandatory_field_needs_a_value(sent: dict[str, Any]) -> None:
    _, problems = records.check_sent_record(make_book(make_field(is_mandatory=True)), sent)
    assert [problem.code for problem in problems] == ["mandatory_missing"]


def test_null_passes_every_rule_of_an_optional_field() -> None:
    field = make_field(reg_exp="x", date_time_fmt="%Y")
    assert check_one(field, None) == (None, [])
    assert records.check_sent_record(make_book(field), {}) == ({}, [])


def test_a_date_problem_shows_the_example() -> None:
    [problem] = records.check_value(make_field(date_time_fmt="%Y", example="2024"), "x")
    assert problem.message == "The value is not a date of the form %Y, for example 2024."


def test_a_service_answers_its_own_fields_only() -> None:
    fields = [make_field("Lab", id=1, is_mandatory=True), make_field("Result", id=2, service_id=7)]
    assert records.check_sent_record(make_book(*fields), {"Result": "fine"}, service_id=7) == ({"2": "fine"}, [])
    _, [problem] = records.check_sent_record(make_book(*fields), {"Lab": "x"}, service_id=7)
    assert (problem.code, problem.message) == ("service_field", "This field does not belong to the service.")


@pytest.mark.parametrize(
    ("json", "text"),
    [
        ("1", "1"),
        ("1.10", "1.10"),
        ("1e5", "1e5"),
        ("-0.0", "-0.0"),
        ("1E400", "1E400"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("true", "true"),
        ("false", "false"),
    ],
)
def test_numbers_and_booleans_become_the_text_that_was_sent(json: str, text: str) -> None:
    assert check_one(make_field(), parse_json(json.encode())) == (text, [])


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({}, "wrong_type"),
        (["x"], "wrong_type"),
        ("a\0b", "invalid_text"),
        ("\ud800", "invalid_text"),
        ("x" * 10_001, "too_long"),
        (parse_json(b"1." + b"0" * 10_000), "too_long"),
    ],
)
def test_a_value_that_is_no_text_is_refused_once(value: Any, code: str) -> None:
    assert check_one(make_field(is_mandatory=True, reg_exp="q"), value) == (None, [code])


def test_a_text_of_ten_thousand_characters_is_stored() -> None:
    assert check_one(make_field(), "ä" * 10_000) == ("ä" * 10_000, [])


def test_an_unknown_field_with_a_broken_name_can_be_shown() -> None:
    _, [problem] = records.check_sent_record(make_book(), {"\ud800" + "x" * 300: "v"})
    assert problem.field == "\\ud800" + "x" * 249


@pytest.mark.parametrize("value", ["123\n", " 123", "1234", "12", "x123", "١٢٣"])
def test_an_expression_matches_the_whole_value(value: str) -> None:
    for pattern in ("[0-9]{3}", "^[0-9]{3}$", r"\d{3}", "[0-9]{3}|x"):
        assert check_one(make_field(reg_exp=pattern), value)[1] == ["regex_mismatch"]


def test_an_expression_that_explodes_elsewhere_takes_linear_time() -> None:
    # A backtracking engine would not come back from these before the end of the universe.
    for pattern in ("(a+)+", "(a|a)*", "(a|aa)+", "(.*)*x?a"):
        assert check_one(make_field(reg_exp=pattern), "a" * 9_999 + "b")[1] == ["regex_mismatch"]


@pytest.mark.parametrize("pattern", ["(?=a)a", "(?<!b)a", r"(a)\1", "(", "[", "*", "a{1001}", "((a{100}){100}){100}"])
def test_an_expression_that_needs_more_than_linear_time_does_not_compile(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        records.compile_pattern(pattern)


@pytest.mark.parametrize(
    ("date_format", "text", "stored", "shown"),
    [
        ("%d.%m.%Y", "24.12.2025", "2025-12-24T00:00:00", "24.12.2025"),
        ("%d.%m.%Y", "4.2.2025", "2025-02-04T00:00:00", "04.02.2025"),
        ("%d.%m.%y", "01.01.69", "1969-01-01T00:00:00", "01.01.69"),
        ("%d.%m.%y", "01.01.68", "2068-01-01T00:00:00", "01.01.68"),
        ("%H:%M", "09:05", "1900-01-01T09:05:00", "09:05"),
        ("%Y-%m-%d %H:%M %z", "2025-01-01 00:30 +0130", "2025-01-01T00:30:00+01:30", "2025-01-01 00:30 +0130"),
        ("%Y-%m-%d %H:%M %z", "2025-01-01 00:30 Z", "2025-01-01T00:30:00+00:00", "2025-01-01 00:30 +0000"),
    ],
)
def test_a_date_is_stored_as_iso_and_shown_in_the_fields_format(
    date_format: str, text: str, stored: str, shown: str
) -> None:
    field = make_field(date_time_fmt=date_format)
    assert check_one(field, text) == (stored, [])
    assert records.show_value(field, stored) == shown
    assert check_one(field, shown) == (stored, [])


@pytest.mark.parametrize(
    ("date_format", "text"),
    [
        ("%Y-%m-%d", "2023-02-29"),
        ("%Y-%m-%d", "2023-02-03\n"),
        ("%Y-%m-%d", "23-02-03"),
        ("%Y-%m-%d", "0000-01-01"),
        ("%Y-%m-%d %z", "2025-01-01 +9959"),
        ("%G-W%V-%u", "9999-W53-7"),
        ("%d.%m.%Y", ""),
    ],
)
def test_what_is_no_date_is_refused(date_format: str, text: str) -> None:
    assert check_one(make_field(date_time_fmt=date_format), text)[1] == ["date_mismatch"]


def test_a_date_before_the_year_1000_is_refused_unless_it_can_be_shown_again() -> None:
    field = make_field(date_time_fmt="%Y-%m-%d")
    stored, problems = check_one(field, "0999-12-31")
    # The C library decides whether the year is written with four digits.
    can_be_shown = datetime(999, 12, 31).strftime("%Y") == "0999"
    assert problems == ([] if can_be_shown else ["date_mismatch"])
    assert not can_be_shown or records.show_value(field, stored) == "0999-12-31"


def test_a_field_without_a_date_format_shows_what_is_stored() -> None:
    assert records.show_value(make_field(), "2025-12-24T00:00:00") == "2025-12-24T00:00:00"
    assert records.show_value(make_field(), None) is None


def test_text_from_before_the_date_format_is_shown_as_it_was_and_judged_by_the_format() -> None:
    field = make_field(date_time_fmt="%d.%m.%Y")
    for text in ("some day", "2025-12-24", "20251224"):
        assert records.show_value(field, text) == text
        assert [problem.code for problem in records.check_stored_record(make_book(field), {"1": text})[1]] == [
            "date_mismatch"
        ]
    current, problems = records.check_stored_record(
        make_book(field), {"1": "24.12.2025", "9": "of a field that is no more"}
    )
    assert (current, problems) == ({"1": "2025-12-24T00:00:00", "9": "of a field that is no more"}, [])


def test_a_date_stored_in_full_keeps_what_a_shorter_format_does_not_show() -> None:
    field = make_field(date_time_fmt="%Y")
    assert records.show_value(field, "2025-12-24T00:00:00") == "2025"
    assert records.check_stored_record(make_book(field), {"1": "2025-12-24T00:00:00"}) == (
        {"1": "2025-12-24T00:00:00"},
        [],
    )


def test_a_stored_record_is_checked_without_the_fields_of_services() -> None:
    fields = [make_field("Must", is_mandatory=True), make_field("Answer", id=2, is_mandatory=True, service_id=7)]
    _, problems = records.check_stored_record(make_book(*fields), {}, entity={"uuid": "u"})
    assert [(problem.field, problem.entity) for problem in problems] == [("Must", {"uuid": "u"})]


def test_values_are_compared_without_outer_space_and_in_one_unicode_form() -> None:
    assert records.hash_value(" Jose\u0301\n") == records.hash_value("Jos\u00e9")
    assert records.hash_value("ab12") != records.hash_value("AB12")


HOSTS = Vocabulary((Term("Homo sapiens", ("human",)), Term("Mus musculus")))
MANY = Vocabulary(tuple(Term(f"word {number}") for number in range(records.MOST_NAMED + 1)))


def tell(field: Field, text: str | None) -> list[tuple[str, str, str | None]]:
    """Return code, message and suggestion of what is wrong with a value."""
    return [(found.code, found.message, found.suggestion) for found in records.check_value(field, text)]


def test_a_vocabulary_allows_its_words_and_nothing_else() -> None:
    field = make_field(kind=Kind.VOCABULARY, vocabulary=HOSTS)
    assert check_one(field, "Homo sapiens") == ("Homo sapiens", [])
    meant = "This is none of the allowed words. Did you mean “Homo sapiens”?"
    assert tell(field, "human") == tell(field, "homo sapiens ") == [("not_in_vocabulary", meant, "Homo sapiens")]
    named = "This is none of the allowed words, which are: “Homo sapiens”, “Mus musculus”."
    assert tell(field, "Rattus") == [("not_in_vocabulary", named, None)]
    assert check_one(field, "") == ("", ["not_in_vocabulary"])
    unnamed = "This is none of the allowed words."
    assert tell(make_field(kind=Kind.VOCABULARY, vocabulary=MANY), "?") == [("not_in_vocabulary", unnamed, None)]


@pytest.mark.parametrize(
    ("rules", "text", "code", "message"),
    [
        ({}, "five", "not_a_number", "This is not a number. Write it with a point, like 0.5."),
        (
            {"unit": "ng"},
            "five",
            "not_a_number",
            "This is not a number. Write it with a point, like 0.5, and without its unit, ng.",
        ),
        ({"is_integer": True}, "5.5", "not_an_integer", "This is not a whole number. Write it in digits alone."),
        (
            {"minimum": "0", "maximum": "10", "unit": "ng"},
            "10.01",
            "out_of_bounds",
            "The number must be from 0 to 10 ng.",
        ),
        ({"minimum": "0.5"}, "0.4", "out_of_bounds", "The number must be at least 0.5."),
        ({"maximum": "10", "unit": "%"}, "1e9", "out_of_bounds", "The number must be at most 10 %."),
    ],
)
def test_a_number_is_refused_in_plain_words(rules: dict[str, Any], text: str, code: str, message: str) -> None:
    assert tell(make_field(kind=Kind.NUMBER, **rules), text) == [(code, message, None)]


@pytest.mark.parametrize("text", ["0", "10", "0.0", "1e1", "+5"])
def test_a_number_is_kept_as_it_was_written(text: str) -> None:
    assert check_one(make_field(kind=Kind.NUMBER, minimum="0", maximum="10"), text) == (text, [])


@pytest.mark.parametrize("text", ["7", "-7", "+7", "007"])
def test_a_whole_number_is_written_in_digits(text: str) -> None:
    assert check_one(make_field(kind=Kind.NUMBER, is_integer=True), text) == (text, [])


def test_a_refinement_is_checked_after_the_definition() -> None:
    field = make_field(kind=Kind.NUMBER, reg_exp="[0-9]+", maximum="10")
    assert check_one(field, "x")[1] == ["regex_mismatch", "not_a_number"]
    assert check_one(field, "11.5")[1] == ["regex_mismatch", "out_of_bounds"]


def test_a_term_for_a_missing_value_passes_every_check_of_its_field() -> None:
    rules: dict[str, Any] = {"is_mandatory": True, "reg_exp": "[0-9]+", "missing_terms": ("missing", "not provided")}
    for refined in ({"date_time_fmt": "%Y"}, {"kind": Kind.NUMBER, "minimum": "5"}, {"kind": Kind.VOCABULARY}):
        assert check_one(make_field(**rules, **refined), "missing") == ("missing", [])
    field = make_field(**rules)
    assert check_one(field, "not collected")[1] == ["regex_mismatch"]
    message = "This field is mandatory. If there is no value, write why: “missing”, “not provided”."
    assert tell(field, None) == tell(field, "") == [("mandatory_missing", message, None)]


def test_a_term_for_a_missing_value_is_not_unique_and_names_no_file() -> None:
    field = make_field(missing_terms=("missing",))
    assert [records.is_claimable(field, value) for value in ("x", "missing", " ", None)] == [True, False, False, False]
    assert [records.get_file_name(field, record) for record in ({"1": "x"}, {"1": "missing"}, {"1": ""}, {})] == [
        "x", None, "", None,
    ]  # fmt: skip


def make_rules() -> Rulebook:
    """Return a book by which a day is needed where there is a place."""
    fields = (
        make_field("Place"),
        make_field("Day", id=2, date_time_fmt="%d.%m.%Y"),
        make_field("No", id=3, service_id=7),
    )
    rule = Rule("Where, and when?", (Condition(2, Operator.IS_FILLED),), (Condition(1, Operator.IS_FILLED),))
    return Rulebook(fields, (rule,))


def test_rules_are_checked_last() -> None:
    book = make_rules()
    _, problems = records.check_sent_record(book, {"Place": "here", "Else": "x"})
    assert [(found.code, found.field, found.message) for found in problems] == [
        ("unknown_field", "Else", "There is no such field."),
        ("conditionally_mandatory", "Day", "Where, and when?"),
    ]
    for sent in ({"Place": "here", "Day": "soon"}, {"Place": "here", "Day": ["x"]}):
        _, [problem] = records.check_sent_record(book, sent)
        assert problem.code in ("date_mismatch", "wrong_type")
    assert records.check_sent_record(book, {"Place": "here", "Day": "1.2.2024"})[1] == []
    assert records.check_sent_record(book, {"No": "x"}, service_id=7)[1] == []


def test_stored_records_are_checked_by_rules() -> None:
    book = make_rules()
    _, [problem] = records.check_stored_record(book, {"1": "here"}, entity={"uuid": "u"})
    assert (problem.code, problem.field, problem.entity) == ("conditionally_mandatory", "Day", {"uuid": "u"})
    _, [problem] = records.check_stored_record(book, {"1": "here", "2": "soon"})
    assert problem.code == "date_mismatch"
    assert records.check_stored_record(book, {"1": "here", "2": "2024-02-01T00:00:00"})[1] == []


def test_records_are_checked_without_a_database() -> None:
    program = (
        "import sys; import datameta.logic.records; "
        "print([name for name in sys.modules if name.split('.')[0] in ('sqlalchemy', 'psycopg', 'pyramid')"
        " or name.startswith('datameta.models')])"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


TEXTS = st.text(st.characters(codec="utf-8"), max_size=50)


@given(st.one_of(st.none(), st.booleans(), st.integers(), TEXTS))
def test_what_was_stored_and_shown_again_passes_the_same_check(value: Any) -> None:
    field = make_field(reg_exp="(?s).*")
    stored, problems = check_one(field, value)
    if problems:
        assert "\0" in value
    else:
        shown = records.show_value(field, stored)
        assert check_one(field, shown) == (stored, [])
        assert shown == value or not isinstance(value, str)


INSTANTS = st.datetimes(timezones=st.one_of(st.none(), st.timezones()))


@given(INSTANTS, st.sampled_from(DATE_FORMATS))
def test_a_date_that_was_stored_and_shown_again_is_the_same_instant(instant: datetime, date_format: str) -> None:
    assert check_date_format(date_format)
    field = make_field(date_time_fmt=date_format)
    text = instant.strftime(date_format)
    stored, problems = check_one(field, text)
    if not problems:
        shown = records.show_value(field, stored)
        assert shown is not None
        assert check_one(field, shown) == (stored, [])
        assert datetime.strptime(shown, date_format) == datetime.strptime(text, date_format)
    else:
        # Only a year that the format does not write with four digits, or a time without its zone.
        assert instant.year < 1000 or instant.tzinfo is None or date_format == "%d.%m.%y"


@given(TEXTS, st.sampled_from(DATE_FORMATS))
def test_no_text_breaks_the_reading_of_dates(text: str, date_format: str) -> None:
    value = records.parse_date(text, date_format)
    assert value is None or isinstance(value, datetime)


def test_the_api_keeps_numbers_as_they_were_written(portal: Portal) -> None:
    user = portal.add_user(site_admin=True)
    for name in "ABCD":
        user.add_field(name)
    response = portal.app.post(
        "/api/v1/metadatasets",
        b'{"record": {"A": 1.10, "B": 1e5, "C": true, "D": null}}',
        headers={"Authorization": f"Bearer {user.token}", "Content-Type": "application/json"},
    )
    assert response.json["record"] == {"A": "1.10", "B": "1e5", "C": "true", "D": None}
    read = user.get(f"/metadatasets/{response.json['id']['site']}").json
    assert read["record"] == response.json["record"]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("a\0b", "invalid_text"),
        ("x" * 10_001, "too_long"),
        ({"x": 1}, "wrong_type"),
        ([1], "wrong_type"),
    ],
)
def test_the_api_names_the_field_whose_value_is_no_text(portal: Portal, value: Any, code: str) -> None:
    user = portal.add_user(site_admin=True)
    user.add_field("Zip/Code")
    response = user.post("/metadatasets", {"record": {"Zip/Code": value}})
    assert response.status_int == 400
    assert codes(response) == {(code, "Zip/Code")}


def test_the_api_refuses_a_number_of_more_than_ten_thousand_digits(portal: Portal) -> None:
    user = portal.add_user(site_admin=True)
    user.add_field("A")
    response = portal.app.post(
        "/api/v1/metadatasets",
        b'{"record": {"A": 1.' + b"0" * 10_000 + b"}}",
        headers={"Authorization": f"Bearer {user.token}", "Content-Type": "application/json"},
        expect_errors=True,
    )
    assert response.status_int == 400
    assert codes(response) == {("too_long", "A")}


def test_the_api_refuses_half_of_a_surrogate_pair(portal: Portal) -> None:
    user = portal.add_user(site_admin=True)
    user.add_field("A")
    response = user.post("/metadatasets", {"record": {"A": "\ud800"}})
    assert response.status_int == 400
    assert codes(response) <= {("invalid_json", None), ("invalid_text", "A")}
