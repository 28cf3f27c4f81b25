"""``datameta config check`` names what is wrong, and ``config show`` hides what is secret."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from click.testing import CliRunner, Result

from datameta.commands import config
from tests.unit.test_settings import WRONG

SECRET = "Zm9yIHRlc3RzIG9ubHksIG5ldmVyIHRvIGJlIHVzZWQhIQ=="

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command of ``datameta config`` with these settings and no others, in a home that is there."""
    (tmp_path / "home").mkdir()
    for name in list(os.environ):
        if name.startswith("DATAMETA_"):
            monkeypatch.delenv(name)

    def run_command(command: str, *words: str, **settings: Any) -> Result:
        for name, value in {"home": tmp_path / "home", **settings}.items():
            monkeypatch.setenv(f"DATAMETA_{name.upper()}", str(value))
        return CliRunner().invoke(config, [command, *words])

    return run_command


def lines(result: Result, mark: str) -> list[str]:
    return [line for line in result.stdout.splitlines() if line.startswith(mark)]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_each_setting_wrong_in_turn_gives_a_sentence_that_names_it(run: Run, name: str, value: str) -> None:
    result = run("check", **{name: value})
    assert result.exit_code == 1
    [line] = lines(result, "FAIL")
    assert f"DATAMETA_{name.upper()} must be " in line
    assert line.endswith(".")
    assert "Traceback" not in result.output


def test_settings_for_one_machine_are_well(run: Run) -> None:
    result = run("check")
    assert (result.exit_code, lines(result, "FAIL")) == (0, []), result.output
    assert "production: no" in result.stdout
    assert "storage: local: it keeps all" in result.stdout
    assert "runs its own" in result.stdout


def test_everything_that_is_weak_is_told_at_once(run: Run) -> None:
    result = run("check", "--host", "0.0.0.0", secret_key="x" * 40, bcrypt_cost=4)
    assert result.exit_code == 1
    assert [line.split()[1] for line in lines(result, "FAIL")] == ["base_url:", "secret_key:", "bcrypt_cost:"]
    assert "x" * 40 not in result.output


def test_a_portal_in_production_is_told_what_to_look_at(run: Run) -> None:
    result = run("check", base_url="http://data.example.org", storage_check="warn")
    assert result.exit_code == 0, result.output
    noted = " ".join(lines(result, "note"))
    assert all(word in noted for word in ("base_url: It is not https", "storage_check", "secret_key", "smtp_host"))
    sound = run("check", base_url="https://data.example.org", storage_check="refuse", secret_key=SECRET)
    assert "production: yes" in sound.stdout
    assert "not https" not in sound.stdout


def test_a_misspelt_variable_is_noted(run: Run) -> None:
    result = run("check", base_ulr="https://data.example.org", token="x", zzzzzzzzzzzz="1")
    assert result.exit_code == 0
    noted = [line for line in lines(result, "note") if "no setting" in line]
    assert len(noted) == 2
    assert "DATAMETA_BASE_ULR, so it has no effect. Do you mean DATAMETA_BASE_URL?" in noted[0]
    assert "Remove it." in noted[1]


def test_a_file_that_is_none_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.ini").write_text("nothing")
    for command in ("check", "show"):
        result = run(command, "--config", str(tmp_path / "x.ini"))
        assert result.exit_code == 1
        assert "no settings file" in result.output


def test_a_database_is_looked_at(run: Run, database_url: str) -> None:
    result = run("check", database_url=database_url)
    assert result.exit_code == 0, result.output
    assert "ok    database_url: PostgreSQL " in result.stdout
    assert "ok    migrations: the schema is" in result.stdout


def test_an_empty_database_is_told(run: Run, database_url: str) -> None:
    result = run("check", database_url=database_url.replace("/datameta?", "/postgres?"))
    assert result.exit_code == 1
    assert "FAIL  migrations: The database is empty. Run 'datameta db upgrade' first." in result.stdout


def test_a_database_that_is_too_old_is_told(run: Run, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datameta.checkup.OLDEST_POSTGRES", 99)
    assert "99 is needed" in lines(run("check", database_url=database_url), "FAIL")[0]


def test_a_database_that_does_not_answer_is_told_without_its_password(run: Run) -> None:
    result = run("check", database_url="postgresql://lab:topsecret@127.0.0.1:1/x")
    assert result.exit_code == 1
    assert "FAIL  database_url: The database does not answer" in result.stdout
    assert "topsecret" not in result.output


def test_a_store_that_does_not_answer_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    result = run("check", storage="s3", s3_bucket="b", s3_endpoint="http://127.0.0.1:1")
    assert result.exit_code == 1
    assert lines(result, "FAIL")[0].startswith("FAIL  storage: ")


def test_a_home_is_looked_at(run: Run, tmp_path: Path) -> None:
    result = run("check", "--home", str(tmp_path / "new" / "home"))
    assert result.exit_code == 0, result.output
    assert "is not there yet; the first start makes it" in result.stdout
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    result = run("check", home=tmp_path / "file" / "home")
    assert "can't be written to" in lines(result, "FAIL")[0]
    (tmp_path / "home" / "secret.key").touch()
    result = run("check", home=tmp_path / "home")
    assert "FAIL  secret_key: It can't be used" in result.stdout


def test_a_mail_server_is_tried(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    result = run("check", smtp_host="127.0.0.1", smtp_port=port, smtp_tls="none")
    assert "The mail server does not take the portal" in lines(result, "FAIL")[0]
    server = Controller(object(), hostname="127.0.0.1", port=port)
    server.start()
    try:
        assert "ok    smtp_host: 127.0.0.1 answers" in run("check").stdout
    finally:
        server.stop()


def test_settings_are_shown_with_their_place_and_no_secret(run: Run, tmp_path: Path) -> None:
    (tmp_path / "portal.ini").write_text("[app:main]\ndatameta.storage = local\n")
    (tmp_path / "key").write_text(SECRET)
    result = run("show", "--config", str(tmp_path / "portal.ini"), secret_key_file=tmp_path / "key", upload_hours=3)
    assert result.exit_code == 0, result.output
    shown = result.stdout.splitlines()
    assert "storage = local  # datameta.storage" in shown
    assert "upload_hours = 3  # DATAMETA_UPLOAD_HOURS" in shown
    assert "secret_key = (secret)  # DATAMETA_SECRET_KEY_FILE" in shown
    assert "id_users = DMU-:8  # default" in shown
    assert "smtp_password =  # default" in shown
    assert SECRET not in result.output
    assert f"home = {tmp_path / 'x'}  # --home" in run("show", "--home", str(tmp_path / "x")).stdout
    assert "must be" in run("show", storage="tape").output
