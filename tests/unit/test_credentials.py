"""Secrets: tokens are random, and passwords of any length and script are kept as bcrypt hashes."""

import re
import string
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock

import bcrypt
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


@pytest.mark.parametrize(
    "kept", ["", "x", "!", "$2b$04$abc", "$2b$", "$2a$04$" + "." * 53, "$bs256", "$bs256$", "$bs256$2b$04$abc"]
)
def test_no_password_fits_a_hash_of_an_unknown_scheme(kept: str) -> None:
    assert not credentials.is_password("x", kept)


@pytest.mark.parametrize("password", ["x", "pässwört " * 20, "🔑" * 18])
def test_a_hash_of_the_time_before_is_known_as_it_was_made(password: str) -> None:
    kept = bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(4)).decode()
    assert credentials.is_password(password, kept)
    assert not credentials.is_password("y" + password, kept)
    for hostile in ("\0", "x\0y", "\udcff", "x" * 1000):
        assert not credentials.is_password(hostile, kept)


def test_a_hash_is_outdated_by_its_scheme_or_cost() -> None:
    kept = credentials.hash_password("x", 4)
    assert not credentials.is_outdated(kept, 4)
    assert credentials.is_outdated(kept, 12)
    assert credentials.is_outdated(kept.removeprefix("$bs256"), 4)


@pytest.mark.parametrize("password", ["", "x", "."])
def test_nobody_has_the_password_of_the_dummy(password: str) -> None:
    dummy = credentials.make_dummy_hash(4)
    assert not credentials.is_password(password, dummy)
    assert not credentials.is_outdated(dummy, 4)


def test_bcrypt_works_on_two_passwords_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, lock, both = 0, 0, Lock(), Barrier(2)

    def check(password: bytes, kept: bytes) -> bool:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        # Everybody waits here for somebody: less than two would wait in vain.
        both.wait(timeout=30)
        with lock:
            running -= 1
        return True

    monkeypatch.setattr(credentials.bcrypt, "checkpw", check)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda _: credentials.is_password("x", "$2b$04$"), range(8)))
    assert most == credentials.BCRYPT_AT_ONCE == 2


def test_recovery_codes_are_random_and_known_however_they_are_typed() -> None:
    codes = [code for _ in range(20) for code in credentials.make_recovery_codes()]
    assert len(set(codes)) == 200
    assert all(re.fullmatch("[A-Z2-7]{4}(-[A-Z2-7]{4}){3}", code) for code in codes)
    kept = credentials.hash_recovery_code(codes[0])
    assert credentials.hash_recovery_code(f" {codes[0].lower().replace('-', ' ')}\n") == kept
    assert credentials.hash_recovery_code(codes[1]) != kept


def test_the_csrf_token_is_that_of_its_session_and_does_not_tell_it() -> None:
    token = credentials.make_token()
    csrf = credentials.make_csrf_token(token)
    assert re.fullmatch("[A-Za-z0-9_-]{43}", csrf)
    assert csrf == credentials.make_csrf_token(token) != credentials.make_csrf_token(credentials.make_token())
    assert credentials.is_same_secret(csrf, csrf)
    assert not credentials.is_same_secret("\udcff", csrf)
