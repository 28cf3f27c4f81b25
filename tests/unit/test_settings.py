"""Settings: each is read from the ini or the environment, and a wrong one is refused by name."""

import configparser
from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from datameta.settings import Settings, SettingsError, SiteIdFormat, read_settings

ROOT = Path(__file__).parents[2]
WRONG = [
    ("home", ""),
    ("base_url", "portal.example.org"),
    ("base_url", "ftp://portal.example.org"),
    ("base_url", "https://portal.example.org/?x"),
    ("base_url", ""),
    ("database_url", "sqlite:///x"),
    ("database_url", "mysql://localhost/x"),
    ("trusted_proxies", "10.0.0.7/8"),
    ("trusted_proxies", "proxy.example.org"),
    ("trusted_proxies", "10.0.0.7,"),
    ("database_replica_url", "sqlite:///x"),
    ("database_replica_wait_ms", "10001"),
    ("database_pool", "0"),
    ("database_pool", "many"),
    ("storage", "disk"),
    ("upload_mode", "direct"),
    ("upload_hours", "169"),
    ("upload_session_days", "31"),
    ("upload_max_bytes", "5 GiB"),
    ("sheet_jobs", "0"),
    ("sheet_max_bytes", "1023"),
    ("verification_jobs", "0"),
    ("verification_wait_seconds", "301"),
    ("storage_check", "on"),
    ("orphan_days", "1"),
    ("body_max_bytes", "1023"),
    ("s3_endpoint", "localhost:9000"),
    ("s3_public_endpoint", "localhost:9000"),
    ("s3_path_style", "maybe"),
    ("api_key_max_days", "3651"),
    ("bcrypt_cost", "3"),
    ("bcrypt_cost", ""),
    ("secret_key", "short"),
    ("smtp_port", "0"),
    ("smtp_tls", "ssl"),
    ("smtp_timeout", "forever"),
    ("id_users", "DMU-"),
    ("id_groups", "DMG-:3"),
    ("id_submissions", "1:8"),
    ("id_metadatasets", "DMR-:19"),
    ("id_files", ":8"),
    ("id_services", "D MP:8"),
]
FREE_TEXTS = {"s3_region", "s3_bucket", "smtp_host", "smtp_user", "smtp_password"}


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_refused_by_a_sentence_that_names_the_setting(name: str, value: str) -> None:
    for ini, environ, source in (
        ({f"datameta.{name}": value}, {}, f"datameta.{name}"),
        ({}, {f"DATAMETA_{name.upper()}": value}, f"DATAMETA_{name.upper()}"),
    ):
        with pytest.raises(SettingsError) as refused:
            read_settings(ini, environ)
        message = str(refused.value)
        assert message.startswith(f"{source} must be ")
        assert message.endswith(".")
        assert name in ("database_url", "database_replica_url", "secret_key") or repr(value) in message


def test_every_setting_that_can_be_wrong_has_been_tried() -> None:
    assert {name for name, _ in WRONG} | FREE_TEXTS == {setting.name for setting in fields(Settings)}


@pytest.mark.parametrize(
    "url",
    [
        "mysql://lab:topsecret@db/x",
        "postgresql://lab:top@secret:word@db/x",
        "postgresql://lab:x@db:topsecret/x",
    ],
)
def test_a_wrong_database_address_is_not_shown(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read_settings({"datameta.database_url": url}, {})
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_secret_is_not_shown_with_the_settings() -> None:
    settings = read_settings({"datameta.database_url": "postgresql://lab:topsecret@db/x"}, {})
    assert settings.database_url == "postgresql+psycopg://lab:topsecret@db/x"
    assert "topsecret" not in repr(settings)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg", "postgres+psycopg"])
def test_every_spelling_of_a_postgresql_address_uses_psycopg(scheme: str) -> None:
    settings = read_settings({}, {"DATAMETA_DATABASE_URL": f"{scheme}://db/x"})
    assert settings.database_url == "postgresql+psycopg://db/x"


def test_the_environment_wins_over_the_ini() -> None:
    ini = {"datameta.upload_hours": "1", "datameta.bcrypt_cost": "5", "use": "egg:datameta"}
    environ = {"DATAMETA_UPLOAD_HOURS": " 2 ", "DATAMETA_URL": "https://used.by/the/client"}
    settings = read_settings(ini, environ)
    assert (settings.upload_hours, settings.bcrypt_cost) == (2, 5)


def test_without_an_environment_the_process_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATAMETA_UPLOAD_HOURS", "3")
    assert read_settings().upload_hours == 3


def test_an_unknown_setting_is_refused_by_name() -> None:
    with pytest.raises(SettingsError, match=r"There is no setting 'datameta\.base_ulr'.*base_url"):
        read_settings({"datameta.base_ulr": "x"}, {})


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"storage": "s3"}, "datameta.s3_bucket"),
        ({"storage": "local", "upload_mode": "presigned"}, "datameta.upload_mode"),
        ({"database_replica_url": "postgresql://db/x"}, "datameta.database_replica_url"),
        ({"smtp_user": "portal"}, "datameta.smtp_user"),
        ({"smtp_password": "secret"}, "datameta.smtp_password"),
        ({"smtp_user": "portal", "smtp_password": "secret", "smtp_tls": "none"}, "datameta.smtp_tls"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, str], name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        read_settings({f"datameta.{key}": value for key, value in values.items()}, {})


@pytest.mark.parametrize(
    ("storage", "mode", "is_direct"),
    [
        ("local", "auto", False),
        ("local", "gateway", False),
        ("s3", "auto", True),
        ("s3", "gateway", False),
        ("s3", "presigned", True),
    ],
)
def test_clients_send_straight_to_the_store_only_where_that_is_s3(storage: str, mode: str, is_direct: bool) -> None:
    assert Settings(storage=storage, upload_mode=mode, s3_bucket="b").upload_is_direct is is_direct


def test_right_values_are_read_as_what_they_mean() -> None:
    values: dict[str, Any] = {
        "home": "/srv/x",
        "base_url": "https://portal.example.org/labs/",
        "trusted_proxies": "10.0.0.7, 192.168.0.0/16 ,fd00::/8",
        "s3_endpoint": "http://[::1]:9000/",
        "s3_path_style": "Off",
        "id_users": "LAB_1-:4",
    }
    settings = read_settings({f"datameta.{name}": value for name, value in values.items()}, {})
    assert settings.home == Path("/srv/x")
    assert settings.base_url == "https://portal.example.org/labs"
    assert settings.trusted_proxies == tuple(map(ip_network, ("10.0.0.7", "192.168.0.0/16", "fd00::/8")))
    assert settings.s3_endpoint == "http://[::1]:9000"
    assert settings.s3_path_style is False
    assert settings.id_users == SiteIdFormat("LAB_1-", 4)
    assert read_settings({"datameta.s3_path_style": "yes"}, {}).s3_path_style is True


def test_every_setting_is_documented_and_stands_in_development_ini_with_its_default() -> None:
    parser = configparser.ConfigParser({"here": str(ROOT)})
    assert parser.read(ROOT / "development.ini"), "there is no development.ini"
    section = dict(parser["app:main"])
    names = {setting.name for setting in fields(Settings)}
    listed = {key.removeprefix("datameta.") for key in section if key.startswith("datameta.")}
    assert listed == names, f"development.ini lacks {sorted(names - listed)}, has besides {sorted(listed - names)}"
    assert all(setting.metadata["doc"].endswith(".") for setting in fields(Settings))
    read = read_settings(section, {})
    for setting in fields(Settings):
        default = ROOT / "var" if setting.name == "home" else setting.default
        assert getattr(read, setting.name) == default, setting.name
