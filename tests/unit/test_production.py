"""A portal that others reach does not start with weak settings; one for this machine alone may."""

from dataclasses import replace
from pathlib import Path

import pytest

from datameta.app import open_app
from datameta.production import find_weaknesses, is_production, is_weak, require_strength
from datameta.settings import Settings, SettingsError

SOUND = Settings(
    base_url="https://data.example.org",
    secret_key="Zm9yIHRlc3RzIG9ubHksIG5ldmVyIHRvIGJlIHVzZWQhIQ==",
    database_url="postgresql+psycopg://portal:u8Qz7-mV@db/datameta",
)
WEAK = [
    ("base_url", "http://127.0.0.1:8080"),
    ("base_url", "http://localhost"),
    ("secret_key", "x" * 40),
    ("secret_key", "changeme-changeme-changeme-changeme-0123456789"),
    ("secret_key", f"{SOUND.secret_key},{'abc' * 20}"),
    ("monitoring_token", "0" * 40),
    ("database_url", "postgresql+psycopg://portal:postgres@db/x"),
    ("database_url", "postgresql+psycopg://portal:portal@db/x"),
    ("database_url", "postgresql+psycopg://portal:x@db/x"),
    ("database_url", "postgresql+psycopg://user:Password1!@db/x"),
    ("database_replica_url", "postgresql+psycopg://reader:reader@replica/x"),
    ("smtp_password", "secret"),
    ("bcrypt_cost", 4),
]


@pytest.mark.parametrize(("name", "value"), WEAK)
def test_each_weakness_is_refused_by_a_sentence_that_names_the_setting(name: str, value: object) -> None:
    settings = replace(SOUND, production="yes", **{name: value})
    with pytest.raises(SettingsError) as refused:
        require_strength(settings)
    weakness, way_out = refused.value.sentences
    assert weakness.startswith(f"DATAMETA_{name.upper()} ")
    assert weakness.endswith(".")
    assert "config check" in way_out
    if name not in ("base_url", "bcrypt_cost"):
        assert str(value) not in weakness
    require_strength(replace(settings, production="no"))
    with pytest.raises(SettingsError):
        open_app(settings)


def test_sound_settings_are_not_refused() -> None:
    assert list(find_weaknesses(SOUND)) == []
    require_strength(replace(SOUND, production="yes"))
    # By socket, certificate or password file; keys that the portal makes itself are random.
    require_strength(replace(SOUND, production="yes", database_url="postgresql+psycopg://portal@/x", secret_key=""))


@pytest.mark.parametrize(
    ("base_url", "host", "expected"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1", False),
        ("http://localhost:8080", "::1", False),
        ("http://portal.localhost", "localhost", False),
        ("http://[::1]:8080", "127.0.0.2", False),
        ("http://127.0.0.1:8080", "0.0.0.0", True),
        ("http://127.0.0.1:8080", "::", True),
        ("https://data.example.org", "127.0.0.1", True),
        ("http://10.0.0.1", "127.0.0.1", True),
        ("http://localhost.example.org", "127.0.0.1", True),
    ],
)
def test_production_is_what_others_reach(base_url: str, host: str, expected: bool) -> None:
    settings = Settings(base_url=base_url)
    assert is_production(settings, host) is expected
    assert is_production(replace(settings, production="yes"), host)
    assert not is_production(replace(settings, production="no"), host)


def test_random_secrets_are_not_weak(tmp_path: Path) -> None:
    import base64
    import secrets

    made = [base64.b64encode(secrets.token_bytes(33)).decode() for _ in range(1000)]
    made += [secrets.token_hex(32) for _ in range(1000)]
    assert [secret for secret in made if is_weak(secret)] == []
    assert not is_weak("")
