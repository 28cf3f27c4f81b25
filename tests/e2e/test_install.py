"""docs/install.md, followed word for word on a Debian 12 that was just made and booted: to a portal, and back.

``debootstrap`` makes the machine and ``systemd-nspawn`` boots it, with systemd, PostgreSQL and nginx of its own, and a
network that is its alone, with a Ceph gateway in it. What the machine can't have is in ``FILLED``, ``WORLD``,
``CERTBOT`` and ``PYPI`` below; all else is what the page says.
"""

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from examples.scale.run import Program, make_bucket
from tests.e2e.conftest import REPOSITORY, curl, make_environment
from tests.e2e.test_scale import FIELD
from tests.rgw import missing_programs, run_rgw
from tests.storage.test_docs import make_user, set_up_bucket

pytestmark = pytest.mark.faults

PAGE = (REPOSITORY / "docs" / "install.md").read_text("utf-8")
HOST = "data.example.org"
CLONE_NEWNET = 0x40000000

FILLED = ("STORE", "S3_ACCESS_KEY", "S3_SECRET_KEY")
"""What a reader fills in."""
WORLD = "apt-get"
"""Blocks with this word reach the network of the machine that runs the test; all others have the portal's alone."""
PYPI = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
"""PyPI is a folder, with this release and what ``requirements.lock`` names, each by its hash."""
CERTBOT = f"""#!/bin/sh -e
# Let's Encrypt can't come here. The real certbot is told to ask a server that is not there: it gets as far as that.
if /usr/bin/certbot "$@" --server https://127.0.0.1:1/directory > /tmp/certbot 2>&1; then exit 1; fi
grep -q "Connection refused" /tmp/certbot || {{ cat /tmp/certbot; exit 1; }}
mkdir -p /etc/letsencrypt/live
cp -r /tls /etc/letsencrypt/live/{HOST}
"""
"""It comes first on the PATH, and brings a certificate of the test's own authority."""
ENGINE = re.compile(r"^docker .*$", re.M)
"""No container engine is at hand: these lines are left out."""


def find_missing() -> str:
    """Say what the test lacks, or return an empty string if everything is there."""
    if os.geteuid() != 0:
        return "only root makes a machine"
    programs = {"debootstrap": "debootstrap", "systemd-nspawn": "systemd-container", "nsenter": "util-linux"}
    missing = [package for program, package in programs.items() if shutil.which(program, path=SEARCH_PATH) is None]
    return missing_programs() or (f"install the Debian packages {' '.join(missing)}" if missing else "")


SEARCH_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"


def read_page() -> dict[str, list[str]]:
    """Return the shell blocks of each section by its heading; that of the first part is empty."""
    parts = re.split(r"^## (.*)$", PAGE, flags=re.M)
    titles = ["", *parts[1::2]]
    return {
        title: re.findall(r"^```bash\n(.*?)^```$", text, re.M | re.S)
        for title, text in zip(titles, parts[::2], strict=True)
    }


@contextmanager
def in_network(place: Path) -> Iterator[str]:
    """Have this thread, and what it starts, in another network; yields the place of the one that it was in."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter(descriptor: int) -> None:
        if libc.setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns failed")

    with Path("/proc/thread-self/ns/net").open() as own, place.open() as other:
        enter(other.fileno())
        try:
            yield f"/proc/{os.getpid()}/fd/{own.fileno()}"
        finally:
            enter(own.fileno())


@dataclass
class Machine:
    """A booted Debian; ``world`` is the place of the network in which the mirrors are."""

    program: Program
    root: Path
    world: str = ""
    filled: dict[str, str] = field(default_factory=dict)
    preamble: str = ""

    @property
    def init(self) -> int:
        """The process id of its systemd, or 0."""
        assert self.program.process is not None
        pid = self.program.process.pid
        return int((Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split() or ["0"])[0])

    def enter(self, text: str, *, network: str = "") -> "subprocess.CompletedProcess[str]":
        """Run lines of bash as its root, which stop at the first that fails."""
        spaces = ["--mount", "--uts", "--ipc", "--pid", f"--net{network and '='}{network}", "--root", "--wdns=/root"]
        words = ["nsenter", f"--target={self.init}", *spaces, "bash", "-euo", "pipefail", "-c", text]
        environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            **PYPI,
        }
        return subprocess.run(
            words, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment
        )

    def run(self, text: str) -> str:
        """Run lines of bash, and return what they print."""
        done = self.enter(self.preamble + text, network=self.world if WORLD in text else "")
        assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def follow(self, blocks: list[str]) -> str:
        """Run blocks of the page, and return what the last one printed. What they set holds from then on."""
        printed = ""
        for block in blocks:
            lines = ENGINE.sub("", block)
            for name, value in self.filled.items():
                lines = re.sub(rf"^{name}=.*$", f"{name}={value}", lines, flags=re.M)
            printed = self.run(lines)
            self.preamble += "".join(f"{line}\n" for line in re.findall(r"^[A-Z0-9_]+=\S+", lines, re.M))
        return printed

    def ask(self, path: str, *words: str, body: Any = None, token: str = "") -> tuple[int, bytes]:
        """Send a request to the site by https, as any client does, and return status and body."""
        words = ("--resolve", f"{HOST}:443:127.0.0.1", "--cacert", str(self.root / "tls" / "ca.pem"), *words)
        words += ("-H", f"Authorization: Bearer {token}") if token else ()
        words += ("-H", "Content-Type: application/json", "-d", json.dumps(body)) if body is not None else ()
        return curl(*words, f"https://{HOST}{path}")

    def call(self, path: str, *words: str, body: Any = None, token: str = "") -> Any:
        """Send a request that has to be answered well, and return what it says."""
        status, answer = self.ask(f"/api/v1{path}", *words, body=body, token=token)
        assert status == 200, answer
        return json.loads(answer)

    def read_version(self) -> str:
        """Return the version that serves."""
        token = (self.root / "etc/datameta/monitoring_token").read_text("ascii").strip()
        [version] = re.findall(rb'datameta_build_info\{version="(.*?)"\} 1', self.ask("/metrics", token=token)[1])
        return str(version, "ascii")


def copy_context(folder: Path) -> None:
    """Copy what the image is built from: what ``.dockerignore`` leaves of the repository."""
    lines = (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines()
    for path in (REPOSITORY / line[1:] for line in lines if line.startswith("!")):
        if path.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "node_modules")
            shutil.copytree(path, folder / path.name, ignore=ignored, symlinks=True)
        else:
            shutil.copy(path, folder)
    shutil.rmtree(folder / "datameta" / "web" / "portal", ignore_errors=True)


def make_wheels(folder: Path) -> None:
    """Fill a folder with this release, the next one, and all that they need."""
    with tempfile.TemporaryDirectory() as place:
        source = Path(place, "source")
        source.mkdir()
        copy_context(source)
        # First the source distribution, and from that the wheel.
        subprocess.run([sys.executable, "-m", "build", "--outdir", folder, source], check=True, capture_output=True)
    download = ["download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:", "--dest", folder]
    lock = REPOSITORY / "requirements.lock"
    subprocess.run([sys.executable, "-m", "pip", *download, "-r", lock], check=True, capture_output=True)
    [wheel] = folder.glob("datameta-2.0.0-*.whl")
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(Path(str(wheel).replace("2.0.0", "2.0.1")), "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith((".dist-info/METADATA", ".dist-info/RECORD")):
                content = content.replace(b"Version: 2.0.0", b"Version: 2.0.1").replace(b"-2.0.0.d", b"-2.0.1.d")
            new.writestr(name.replace("-2.0.0.d", "-2.0.1.d"), content)


def make_certificates(folder: Path) -> None:
    """Fill a folder with an authority, and the site's key and certificate by it."""
    folder.mkdir()
    common = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-noenc",
        "-days",
        "30",
    ]

    def make(name: str, *words: str) -> None:
        subprocess.run([*common, "-subj", f"/CN={name}", *words], cwd=folder, check=True, capture_output=True)

    make("Authority", "-keyout", "ca.key", "-out", "ca.pem")
    signer = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"]
    names = ["-addext", f"subjectAltName=DNS:{HOST}"]
    make(HOST, *signer, *names, "-keyout", "privkey.pem", "-out", "fullchain.pem")


@pytest.fixture
def machine() -> Iterator[Machine]:
    if message := find_missing():
        pytest.skip(message)
    folder = Path(tempfile.mkdtemp(prefix="install-"))
    folder.chmod(0o711)
    root = folder / "root"
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        words = ["debootstrap", "--variant=minbase", "--include=systemd-sysv,dbus", "bookworm", root]
        subprocess.run(words, check=True, capture_output=True, env=make_environment(PATH=SEARCH_PATH))
        make_certificates(root / "tls")
        (root / "usr/local/bin/certbot").write_text(CERTBOT)
        (root / "usr/local/bin/certbot").chmod(0o755)
        (root / "usr/local/share/ca-certificates").mkdir(parents=True)
        shutil.copy(root / "tls/ca.pem", root / "usr/local/share/ca-certificates/test.crt")
        with (root / "etc/hosts").open("a") as hosts:
            hosts.write(f"127.0.0.1 localhost {HOST}\n")
        (root / "wheels").mkdir()
        make_wheels(root / "wheels")
        words = ["systemd-nspawn", "--quiet", f"--directory={root}", "--boot", "--private-network", "--register=no"]
        words += ["--keep-unit", "--console=pipe", "--kill-signal=SIGRTMIN+3", "--resolv-conf=off"]
        program = Program(words, folder, "machine")
        machine = Machine(program, root)
        program.start()
        stack.callback(program.stop)
        program.await_that(lambda: machine.init and machine.enter("systemctl is-system-running").returncode == 0)
        machine.world = stack.enter_context(in_network(Path(f"/proc/{machine.init}/ns/net")))
        (folder / "rgw").mkdir()
        rgw = stack.enter_context(run_rgw(folder / "rgw"))
        keys = make_user(rgw, "datameta")
        owner = make_bucket(rgw)
        set_up_bucket(owner, "datameta", folder)
        machine.filled = dict(zip(FILLED, (rgw.endpoint, *keys), strict=True))
        yield machine


@contextmanager
def unnoticed(action: Callable[[], bool]) -> Iterator[None]:
    """Repeat what a client does while the block runs, and make sure that it always went well."""
    results: list[bool] = []
    stop = threading.Event()

    def repeat() -> None:
        while not stop.is_set():
            results.append(action())

    client = threading.Thread(target=repeat)
    client.start()
    try:
        yield
    finally:
        stop.set()
        client.join()
    assert len(results) > 3
    assert all(results)


def test_the_page_leads_to_a_running_portal_and_back(machine: Machine, tmp_path: Path) -> None:
    page = read_page()
    assert list(page) == [
        "", "Programs", "Database", "Settings", "The first site admin", "Start", "nginx and TLS", "Backups", "Upgrade",
        "The way back", "Remove it", "With containers",
    ]  # fmt: skip
    for title in ("", "Programs", "Database", "Settings"):
        printed = machine.follow(page[title])
    assert "FAIL" not in printed
    password = machine.follow(page["The first site admin"]).split()[-1]
    for title in ("Start", "nginx and TLS"):
        printed = machine.follow(page[title])
    assert json.loads(printed)["parts"] == dict.fromkeys(("database", "migrations", "storage", "worker"), "ok")
    machine.run("systemd-analyze security --threshold=20 datameta-worker datameta-portal@8081")

    # The browser application came with the wheel.
    status, start = machine.ask("/")
    assert status == 200
    scripts = re.findall(r'<script [^>]*src="(.*?)"', str(start, "utf-8"))
    assert scripts
    assert {machine.ask(script)[0] for script in scripts} == {200}

    # Somebody signs in, by a name of which browsers learn that it is only to be asked by TLS.
    headers = tmp_path / "headers"
    login = {"email": "admin@example.org", "password": password}
    machine.call("/sessions", "--interface", "127.0.0.5", "-D", str(headers), body=login)
    assert headers.read_text().lower().count("strict-transport-security: max-age=") == 1
    assert "; secure" in headers.read_text().lower()
    found = machine.enter(f"curl -sS -o /dev/null -w '%{{redirect_url}}' http://{HOST}/welcome")
    assert found.stdout == f"https://{HOST}/welcome"
    key = machine.run("datameta-admin key add admin@example.org --label laptop").strip()
    # The portals know who nginx's client was.
    assert "127.0.0.5" in {event["ip"] for event in machine.call("/audit?limit=100", token=key)}

    # A laboratory hands in a file, with the client alone.
    for number, definition in enumerate(
        ({"name": "Sample"}, {"name": "Reads", "isFile": True, "isSiteUnique": False}), 1
    ):
        machine.call("/metadata", body=FIELD | definition | {"order": number}, token=key)
    lab = (
        "export SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt\n"
        f"export DATAMETA_URL=https://{HOST} DATAMETA_TOKEN={key}\n"
    )
    machine.run(
        f"{lab}python3 -m venv /root/lab\n/root/lab/bin/pip install 'datameta[client]==2.0.0'\nmkdir run7\n"
        "head -c 10000000 /dev/urandom > run7/S1.fq\nprintf 'Sample,Reads\\nS1,S1.fq\\n' > run7.csv\n"
        "/root/lab/bin/datameta submit run7.csv --files run7/ --label First"
    )

    def require_data() -> None:
        [submission] = machine.call("/submissions", token=key)
        machine.run(
            f"{lab}rm -rf back\n/root/lab/bin/datameta download {submission['id']['site']} --to back\n"
            "cmp run7/S1.fq back/S1.fq"
        )

    require_data()
    assert machine.call("/search", token=key)["total"] == 1

    # The settings are taken up, and the next release is, while clients are served.
    machine.follow(page["Backups"])
    assert machine.run("stat -c %a%U /var/backups/datameta").strip() == "700datameta"
    with unnoticed(lambda: machine.ask("/api/v1/rpc/whoami", token=key)[0] == 200):
        machine.run("systemctl reload 'datameta-portal@*'")
        machine.run("timeout 60 grep -q -m 2 reloaded <(journalctl --follow --lines=all -u 'datameta-portal@*')")
    assert machine.read_version() == "2.0.0"
    with unnoticed(lambda: machine.ask("/api/v1/rpc/whoami", token=key)[0] == 200):
        machine.follow(page["Upgrade"])
    assert machine.read_version() == "2.0.1"
    assert machine.call("/metadatasets", body={"record": {"Sample": "S2", "Reads": None}}, token=key)
    [stop, *others] = page["The way back"][0].splitlines(keepends=True)
    machine.follow([stop])
    # Where no portal answers, nginx says what they would have said of TLS.
    assert machine.ask("/", "-D", str(headers))[0] == 502
    assert "strict-transport-security: max-age=" in headers.read_text().lower()
    machine.follow(["".join(others)])
    assert machine.read_version() == "2.0.0"
    require_data()
    assert machine.call("/staged/metadatasets", token=key) == []
    machine.run("datameta-admin fsck --content")

    # What the compose files name is there, once the lines before the engine's were run.
    shutil.copytree(REPOSITORY / "examples", machine.root / "root/examples")
    machine.follow(["\n".join(page["With containers"])])
    for name in ("minimal", "scale"):
        place = machine.root / "root/examples" / name
        named = set(re.findall(r"file: (secrets/\S+)", (place / "compose.yaml").read_text("utf-8")))
        assert {str(path.relative_to(place)) for path in (place / "secrets").iterdir()} == named
        assert {path.stat().st_mode & 0o777 for path in (place / "secrets").iterdir()} == {0o444}

    # And away with it, first the programs, then the data.
    [programs, data] = page["Remove it"]
    machine.follow([programs])
    left = "find /etc /opt /usr/local /var/lib -name '*datameta*'"
    assert set(machine.run(left).split()) - {"/var/lib/datameta"} <= {"/etc/datameta"}
    machine.follow([data])
    assert machine.run(left) == ""
    assert "datameta" not in machine.run("runuser -u postgres -- psql --list; cat /etc/passwd")
