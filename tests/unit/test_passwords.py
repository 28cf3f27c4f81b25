"""What makes a new password good, apart from what the site knows of its user."""

import pytest

from datameta.logic.passwords import check_password


def codes(password: str, **more: object) -> list[str]:
    account = {"min_length": 8, "email": "jo.miller@lab.example", "group_name": "Uni Ulm", "site_name": "DataMeta"}
    return [problem.code for problem in check_password(password, **{**account, **more})]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("password", "expected"),
    [
        ("kjhg-54ab", []),
        ("password", ["password_common"]),
        ("PassWord", ["password_common"]),
        ("trustno1", ["password_common"]),
        ("abababab", ["password_common"]),
        ("abcabcabd", []),
        ("1357913579", ["password_common"]),
        ("millers7", ["password_guessable"]),
        ("Datameta-17", ["password_guessable"]),
        ("Datameta-Miller-x", ["password_guessable"]),
        ("Datameta-Miller-17-yes", []),
        # Words of three characters are everywhere.
        ("ulm-uni-jo", []),
        ("x" * 257, ["password_invalid", "password_common"]),
        ("abc\0defgh", ["password_invalid"]),
    ],
)
def test_a_password_is_judged(password: str, expected: list[str]) -> None:
    assert codes(password) == expected


def test_characters_are_counted_as_people_see_them() -> None:
    assert codes("e\u0301" * 4 + "abc") == ["password_too_short"]
    assert codes("e\u0301abcdfgh", min_length=8) == []
    assert codes("密码很好" * 2, min_length=9) == ["password_too_short"]


def test_the_field_at_fault_is_named() -> None:
    [problem] = check_password("x", min_length=8, email="a@b", group_name="", site_name="", field="password")
    assert (problem.field, problem.code) == ("password", "password_too_short")
