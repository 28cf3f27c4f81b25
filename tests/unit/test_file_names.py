"""What a file may be called, what a checksum is, and how a name travels in a header."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datameta.logic.file_names import check_checksum, check_name, make_disposition

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "x" * 255,
        "é" * 255,
        "😀" * 250,
        '日本語 "x".fq',
        "a  b.fq",
        ".hidden",
        "...",
        "a.",
        "%2e%2e",
        "a:b|c?*",
        "\ufeff",
    ],
)
def test_a_name_is_accepted(name: str) -> None:
    assert check_name(name) == []


@pytest.mark.parametrize("name", ["", "x" * 256, "😀" * 251])
def test_a_name_of_the_wrong_length_is_refused(name: str) -> None:
    [problem] = check_name(name)
    assert (problem.code, problem.field) == ("invalid_name", "name")
    assert "255" in problem.message or "1,000" in problem.message


@pytest.mark.parametrize(
    "character", ["\0", "\n", "\r", "\t", "\x1b", "\x7f", "\x85", "\ud800", *"\u202a\u202e\u2066\u2069"]
)
def test_a_name_with_a_control_character_is_refused(character: str) -> None:
    [problem] = check_name(f"a{character}b")
    assert "control" in problem.message


@pytest.mark.parametrize("name", ["a/b", "/etc/passwd", "..\\a", "/", ".", ".."])
def test_a_path_is_no_name(name: str) -> None:
    [problem] = check_name(name)
    assert "path" in problem.message


@pytest.mark.parametrize("name", [" ", " a", "a ", "\u3000a", "a\u00a0"])
def test_a_space_at_either_end_is_refused(name: str) -> None:
    [problem] = check_name(name)
    assert "space" in problem.message


@pytest.mark.parametrize("checksum", ["0" * 32, "f" * 64, "aB" * 16, "AB" * 32])
def test_a_checksum_is_md5_or_sha256_in_any_case(checksum: str) -> None:
    assert check_checksum(checksum) == []


@pytest.mark.parametrize(
    "checksum", ["", "0" * 31, "0" * 33, "0" * 40, "0" * 128, "g" * 32, "0" * 32 + "\n", " " + "0" * 32, "٣" * 32]
)
def test_anything_else_is_no_checksum(checksum: str) -> None:
    [problem] = check_checksum(checksum)
    assert (problem.code, problem.field) == ("invalid_checksum", "checksum")


@given(TEXT)
def test_a_header_carries_every_name(name: str) -> None:
    header = make_disposition(name)
    match = re.fullmatch(r"attachment; filename=\"([ -~]*)\"; filename\*=UTF-8''([A-Za-z0-9%._~-]*)", header)
    assert match
    assert not set(match[1]) & set('"\\%')
    assert unquote(match[2]) == name


def test_the_plain_name_stays_readable() -> None:
    assert make_disposition('日本語 "x".fq').startswith('attachment; filename="___ _x_.fq"; ')
