"""Settings: each is read from the ini or the environment, and a wrong one is refused by name."""

import configparser
from dataclasses import fields
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from datameta.settings import SECRETS, Settings, SettingsError, SiteIdFormat, list_given, read_settings

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
    ("s3_region", "eu central"),
    ("s3_bucket", "folder/bucket"),
    ("api_key_max_days", "3651"),
    ("bcrypt_cost", "3"),
    ("bcrypt_cost", ""),
    ("secret_key", "short"),
    ("smtp_host", "mail.example.org:587"),
    ("smtp_host", "https://mail.example.org"),
    ("smtp_user", "portal\nroot"),
    ("smtp_password", "two\nlines"),
    ("smtp_port", "0"),
    ("smtp_tls", "ssl"),
    ("smtp_timeout", "forever"),
    ("production", "maybe"),
    ("monitoring_token", "short"),
    ("monitoring_token", "x" * 20 + " " + "x" * 20),
    ("log_level", "loud"),
    ("log_format", "xml"),
    ("slow_query_ms", "-1"),
    ("id_users", "DMU-"),
    ("id_groups", "DMG-:3"),
    ("id_submissions", "1:8"),
    ("id_metadatasets", "DMR-:19"),
    ("id_files", ":8"),
    ("id_services", "D MP:8"),
]


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
        assert (repr(value) in message) == (name not in SECRETS)


def test_every_setting_that_can_be_wrong_has_been_tried() -> None:
    assert {name for name, _ in WRONG} == {setting.name for setting in fields(Settings)}


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


KEY = "k3y-" * 10


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_a_secret_may_stand_in_a_file(tmp_path: Path, name: str) -> None:
    is_address = name.endswith("_url")
    secret = "postgresql://db/x" if is_address else KEY
    (tmp_path / "secret").write_text(f"{secret}\n")
    place = str(tmp_path / "secret")
    more = {
        "smtp_password": {"datameta.smtp_user": "portal"},
        "database_replica_url": {"datameta.database_url": "postgresql://db/y"},
    }.get(name, {})
    for ini, environ in (({f"datameta.{name}_file": place}, {}), ({}, {f"DATAMETA_{name.upper()}_FILE": place})):
        value = getattr(read_settings({**more, **ini}, environ), name)
        assert value == ("postgresql+psycopg://db/x" if is_address else KEY)


def test_a_file_in_the_environment_wins_over_the_ini(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    settings = read_settings({"datameta.secret_key": "o" * 40}, {"DATAMETA_SECRET_KEY_FILE": str(tmp_path / "key")})
    assert settings.secret_key == KEY


def test_only_secrets_stand_in_files() -> None:
    with pytest.raises(SettingsError, match=r"no setting 'datameta\.s3_bucket_file'"):
        read_settings({"datameta.s3_bucket_file": "x"}, {})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe", "not text in UTF-8"),
        (b"short", "32 char"),
    ],
)
def test_a_file_without_a_good_secret_is_told_by_name(tmp_path: Path, content: bytes | None, reason: str) -> None:
    place = tmp_path / "key"
    if content is not None:
        place.write_bytes(content)
    with pytest.raises(SettingsError, match=rf"^DATAMETA_SECRET_KEY_FILE must be .*{reason}") as refused:
        read_settings({}, {"DATAMETA_SECRET_KEY_FILE": str(place)})
    assert "short" not in str(refused.value)


def test_a_secret_is_given_once(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match="DATAMETA_SECRET_KEY and DATAMETA_SECRET_KEY_FILE say the same thing twice"
    ):
        read_settings({}, {"DATAMETA_SECRET_KEY": KEY, "DATAMETA_SECRET_KEY_FILE": str(tmp_path)})


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as refused:
        read_settings({"datameta.nonsense": "x", "datameta.storage": "tape"}, {"DATAMETA_SMTP_PORT": "0"})
    assert len(refused.value.sentences) == 3
    assert all(word in str(refused.value) for word in ("datameta.nonsense", "datameta.storage", "DATAMETA_SMTP_PORT"))


def test_what_is_given_is_known_with_its_place() -> None:
    ini = {"datameta.storage": "tape", "datameta.smtp_password_file": "/x", "use": "egg:datameta"}
    given = list_given(ini, {"DATAMETA_STORAGE": "s3", "DATAMETA_URL": "x"})
    assert given == {"storage": "DATAMETA_STORAGE", "smtp_password": "datameta.smtp_password_file"}
