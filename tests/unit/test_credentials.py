"""Secrets: tokens are random, and passwords of any length and script are kept as bcrypt hashes."""

import string

import pytest

from datameta import credentials


def test_a_token_is_64_letters_and_digits_and_never_the_same() -> None:
    tokens = [credentials.make_token() for _ in range(200)]
    assert all(len(token) == 64 and set(token) <= set(string.ascii_letters + string.digits) for token in tokens)
    assert set("".join(tokens)) == set(string.ascii_letters + string.digits)
    assert len(set(tokens)) == 200


def test_a_generated_password_is_20_letters_and_digits_and_never_the_same() -> None:
    passwords = {credentials.make_password() for _ in range(200)}
    assert len(passwords) == 200
    assert all(len(password) == 20 and password.isalnum() for password in passwords)


def test_a_token_is_kept_as_its_sha256_whatever_was_sent() -> None:
    assert credentials.hash_token("abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert len(credentials.hash_token("\udcff")) == 32


@pytest.mark.parametrize("password", ["", "short", "x" * 300, "pässwörd 密码 🔑", "with\0nul", "\udcff"])
def test_a_password_is_known_again_and_no_other(password: str) -> None:
    kept = credentials.hash_password(password, 4)
    assert password == "" or password not in kept
    assert credentials.is_password(password, kept)
    assert not credentials.is_password(password + "x", kept)


def test_nothing_is_cut_off_a_long_password() -> None:
    kept = credentials.hash_password("x" * 100, 4)
    assert not credentials.is_password("x" * 99, kept)
    assert not credentials.is_password("with\0nul", credentials.hash_password("with\0else", 4))


def test_a_password_typed_on_another_system_is_the_same() -> None:
    assert credentials.is_password("Jose\u0301", credentials.hash_password("Jos\u00e9", 4))


def test_one_password_has_many_hashes() -> None:
    assert credentials.hash_password("x", 4) != credentials.hash_password("x", 4)


@pytest.mark.parametrize("kept", ["", "x", "!", "$2b$04$abc", "$bs256"])
def test_no_password_fits_a_hash_of_an_unknown_scheme(kept: str) -> None:
    assert not credentials.is_password("x", kept)
