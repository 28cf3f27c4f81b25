"""The commands keep their words: what they print, where, how they end, and that they clean up after themselves."""

import re
import shutil
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from datameta import api, credentials, embedded, migrations
from tests.e2e.conftest import DATAMETA, REPOSITORY, Api, Served, make_environment, run_datameta

USER = ("--name", "Ada Admin", "--group", "Office")
EMAIL = "ada@example.org"


@pytest.fixture(scope="module")
def stopped_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home of a portal that has one user and does not run."""
    home = tmp_path_factory.mktemp("cli") / "home"
    added = run_datameta("user", "add", EMAIL, *USER, "--site-admin", "--home", str(home), text="correct horse\n")
    assert added.returncode == 0, added.stderr
    assert added.stdout == ""
    return home


@pytest.fixture(scope="module")
def home(stopped_home: Path) -> Iterator[Path]:
    """Return the same home with its database running."""
    with embedded.running(stopped_home):
        yield stopped_home


@pytest.fixture
def empty_database(database_url: str) -> Iterator[str]:
    """Return the address of a PostgreSQL database without tables."""
    name = f"test_{uuid.uuid4().hex}"
    server = sqlalchemy.make_url(database_url)
    plain = server.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield server.set(drivername="postgresql", database=name).render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def read_password_hash(home: Path, email: str) -> str:
    """Return how a user's password is stored."""
    with embedded.running(home) as url:
        engine = sqlalchemy.create_engine(url)
        with engine.connect() as connection:
            query = sqlalchemy.text("SELECT password_hash FROM users WHERE email = :email")
            stored: str = connection.execute(query, {"email": email}).scalar_one()
        engine.dispose()
    return stored


def assert_refused(done: "subprocess.CompletedProcess[str]", sentence: str) -> None:
    """Check that a command ended with a line on standard error and nothing else."""
    assert done.returncode == 1, done.stdout
    assert done.stdout == ""
    *log, error = done.stderr.splitlines()
    assert all(" INFO " in line or '"level": "info"' in line for line in log), done.stderr
    assert re.search(f"^Error: .*{sentence}", error)


def test_without_a_portal_a_command_runs_the_database_itself_and_stops_it(stopped_home: Path) -> None:
    key_add = ["key", "add", EMAIL.upper(), "--label", "laptop"]
    for words in (key_add, ["db", "check"], ["storage", "check"], ["sweep"], ["audit", "check"]):
        done = run_datameta(*words, "--home", str(stopped_home))
        assert done.returncode == 0, done.stderr
        assert done.stdout
        assert not (stopped_home / "postgres" / "postmaster.pid").exists()


def test_a_new_key_is_all_that_is_printed(home: Path) -> None:
    done = run_datameta("key", "add", EMAIL, "--label", "laptop", "--home", str(home))
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"[A-Za-z0-9]{64}\n", done.stdout)


def test_a_users_password_is_read_from_standard_input(home: Path) -> None:
    assert credentials.is_password("correct horse", read_password_hash(home, EMAIL))


@pytest.mark.parametrize("text", ["", "\n"])
def test_without_a_password_one_is_made_and_printed(home: Path, text: str) -> None:
    email = f"{uuid.uuid4()}@example.org"
    added = run_datameta("user", "add", email, *USER, "--home", str(home), text=text)
    assert added.returncode == 0, added.stderr
    [password] = added.stdout.splitlines()
    assert credentials.is_password(password, read_password_hash(home, email))


@pytest.mark.parametrize("email", [EMAIL, EMAIL.upper()])
def test_a_user_who_is_there_already_is_refused(home: Path, email: str) -> None:
    done = run_datameta("user", "add", email, *USER, "--home", str(home), text="another\n")
    assert_refused(done, f"There is a user with the address {re.escape(email)} already")


def test_a_refused_user_leaves_no_group_behind(home: Path) -> None:
    words = ["user", "add", "nobody", "--name", "N", "--group", "Ghosts", "--home", str(home)]
    assert_refused(run_datameta(*words), "is no e-mail address")
    words[2] = "somebody@example.org"
    assert "Added the group Ghosts" in run_datameta(*words).stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([EMAIL, "--label", "x", "--expires", "2001-01-01"], "past"),
        ([EMAIL, "--label", "x", "--expires", "9999-01-01"], "at the latest"),
        ([EMAIL, "--label", "x", "--expires", "tomorrow"], "ISO 8601"),
        ([EMAIL, "--label", "x" * 201], "1 to 200 characters"),
        (["stranger@example.org", "--label", "x"], "no user with the address stranger@example.org"),
    ],
)
def test_a_key_that_cannot_be_is_refused(home: Path, words: list[str], sentence: str) -> None:
    assert_refused(run_datameta("key", "add", *words, "--home", str(home)), sentence)


def test_users_and_keys_are_added_while_the_portal_runs(served_demo: Served) -> None:
    place = ["--home", str(served_demo.home)]
    email = "new@example.org"
    words = ["--name", "Nora New", "--group", "Demo Lab North", "--group-admin", "--site-read"]
    added = run_datameta("user", "add", email, *words, *place)
    assert added.returncode == 0, added.stderr
    expires = (datetime.now(UTC) + timedelta(days=2)).replace(microsecond=0)
    done = run_datameta("key", "add", email, "--label", "short", "--expires", expires.isoformat(), *place)
    api = Api(served_demo.address, done.stdout.strip())
    me = api.call("GET", "/rpc/whoami")
    assert (me["email"], me["name"], me["group"]["name"]) == (email, "Nora New", "Demo Lab North")
    assert (me["groupAdmin"], me["siteAdmin"], me["siteRead"]) == (True, False, True)
    [key] = api.call("GET", f"/users/{me['id']['site']}/keys")
    assert key["label"] == "short"
    assert datetime.fromisoformat(key["expires"]) == expires


def test_the_demo_is_added_once(served_demo: Served) -> None:
    names = {each["name"] for each in served_demo.open_lab().call("GET", "/metadata")}
    assert {"Lab-ID", "Sampling date", "ZIPCode", "Sequencing platform", "FileR1", "FileR2"} < names
    demo = served_demo.read_demo()
    assert all(f"  {email:<28}{password}\n" in served_demo.printed for email, password in demo["passwords"].items())
    assert (served_demo.home / "demo.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "words", [["db", "upgrade"], ["db", "check"], ["sweep"], ["storage", "check"], ["audit", "check"]]
)
def test_the_other_commands_succeed_beside_a_portal(served_demo: Served, words: list[str]) -> None:
    done = run_datameta(*words, "--home", str(served_demo.home))
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_a_database_of_ones_own_is_never_changed_without_being_told(empty_database: str, tmp_path: Path) -> None:
    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        return run_datameta(*words, "--home", str(tmp_path), variables={"DATAMETA_DATABASE_URL": empty_database})

    for words in (["serve", "--port", "0"], ["key", "add", EMAIL, "--label", "x"]):
        assert_refused(run(*words), r"The database is empty\. Run 'datameta db upgrade' first\.")
    upgraded = run("db", "upgrade")
    assert upgraded.stdout == f"The schema was empty and is {migrations.head()}.\n"
    assert run("db", "check").returncode == 0
    with psycopg.connect(empty_database) as connection:
        connection.execute("ALTER TABLE users DROP COLUMN email")
    drifted = run("db", "check")
    assert drifted.returncode == 1
    assert drifted.stdout.startswith("differs: ")
    with psycopg.connect(empty_database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    assert_refused(run("serve", "--port", "0"), "9999, which is newer than this DataMeta")
    assert not (tmp_path / "postgres").exists()


def test_a_database_that_does_not_answer_is_told_without_its_password(tmp_path: Path) -> None:
    url = f"postgresql://ada:secret@/none?host={tmp_path}"
    done = run_datameta("serve", "--port", "0", "--home", str(tmp_path), variables={"DATAMETA_DATABASE_URL": url})
    assert_refused(done, "database")
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("source", "name", "value"),
    [
        ("environment", "storage", "tape"),
        ("environment", "database_url", "mysql://ada:secret@host/db"),
        ("environment", "body_max_bytes", ""),
        ("ini", "upload_mode", "presigned"),
        ("ini", "database_url", "mysql://ada:secret@host/db"),
        ("ini", "id_files", "DMF-"),
    ],
)
def test_a_wrong_setting_is_told_by_name(tmp_path: Path, source: str, name: str, value: str) -> None:
    words: list[str] = []
    variables: dict[str, str] = {}
    if source == "environment":
        variables = {f"DATAMETA_{name.upper()}": value}
    else:
        ini = tmp_path / "portal.ini"
        ini.write_text(f"[app:main]\ndatameta.{name} = {value}\n")
        words = ["--config", str(ini)]
    done = run_datameta("serve", "--home", str(tmp_path / "home"), *words, variables=variables)
    assert_refused(done, rf"\b(DATAMETA_{name.upper()}|datameta\.{name})\b")
    assert "secret" not in done.stderr
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[app:main]\ndatameta.storge = s3\n", "no setting 'datameta.storge'"),
        ("[app:main]\ndatameta.storage = s3\n", "s3_bucket is missing"),
        ("[other]\n", r"no section \[app:main\]"),
        ("storage = s3\n", "no settings file"),
        ("[app:main]\ndatameta.home = %(nowhere)s\n", "no settings file"),
    ],
)
def test_a_settings_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    ini = tmp_path / "portal.ini"
    ini.write_text(text)
    assert_refused(run_datameta("db", "check", "--config", str(ini)), sentence)


@pytest.mark.parametrize(
    ("source", "expected"), [("--home", "a"), ("DATAMETA_HOME", "b"), ("--config", "c"), ("nothing", "var")]
)
def test_the_home_is_found_by_option_then_environment_then_file(tmp_path: Path, source: str, expected: str) -> None:
    ini = tmp_path / "portal.ini"
    ini.write_text("[app:main]\ndatameta.home = %(here)s/c\n")
    places = ["--home", "DATAMETA_HOME", "--config", "nothing"]
    given = places[places.index(source) :]
    words = [*(["--home", "a"] if "--home" in given else []), *(["--config", str(ini)] if "--config" in given else [])]
    variables = {"DATAMETA_HOME": "b"} if "DATAMETA_HOME" in given else {}
    done = run_datameta("storage", "check", *words, cwd=tmp_path, variables=variables)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {expected}


def test_the_settings_for_local_work_are_right(home: Path) -> None:
    done = run_datameta("db", "check", "--config", "development.ini", "--home", str(home))
    assert done.returncode == 0, done.stderr


def test_the_wheel_has_all_that_the_package_reads(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "installed"
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "var", "tests", "node_modules", "__pycache__")
    shutil.copytree(REPOSITORY, source, ignore=ignored, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, source], check=True)
    [wheel] = tmp_path.glob("datameta-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    script = (
        "import datameta, pathlib; from datameta import api, cli, migrations; from importlib.resources import files;"
        "print(pathlib.Path(datameta.__file__).parents[1], migrations.head(), len(api.load_spec()['paths']),"
        " len(files('datameta').joinpath('walkthrough.sh').read_text('utf-8')))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=target, env=make_environment())
    lines = (REPOSITORY / "datameta" / "walkthrough.sh").read_text("utf-8")
    assert done.stdout.split() == [str(target), migrations.head(), str(len(api.load_spec()["paths"])), str(len(lines))]


def test_commands_are_explained() -> None:
    done = subprocess.run([DATAMETA, "--help"], check=True, capture_output=True, text=True)
    assert all(f"\n  {command} " in done.stdout for command in ("serve", "user", "key", "db", "sweep", "storage"))
