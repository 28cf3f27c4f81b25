"""A real Ceph object gateway for tests: one monitor, one OSD in memory, one RGW, all on the loopback.

The rule this module guards: tests of what a store enforces run against a store that enforces it.
The gateway alone can be frozen, and killed and started again; what it has acknowledged stays with the others.
Every daemon runs in the foreground as a child of the test process and is told by the kernel to
die with it, so that neither a failed start nor a killed test run leaves anything behind.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
PACKAGES = "ceph-mon ceph-osd radosgw ceph-common"
START_SECONDS = 180
PR_SET_PDEATHSIG = 1

# "ms mon client mode" is needed because radosgw asks for a secure connection by default, which a
# cluster without authentication cannot give.
CONFIGURATION = """\
[global]
fsid = {fsid}
mon host = {monitor}
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
ms client mode = crc
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
mon warn on pool no redundancy = false
mon allow pool size one = true
mon max pg per osd = 1000
mon data = {folder}/mon.$id
osd data = {folder}/osd.$id
log file = {folder}/$name.log
pid file =
run dir = {folder}
admin socket =
osd objectstore = memstore
memstore device bytes = 4294967296
# A gateway that is killed while it completes an upload leaves its lock behind, by default for ten minutes.
rgw mp lock max time = 2
"""


class RGWError(Exception):
    """The object gateway did not start; the message says which part and why."""


@dataclass
class RGW:
    """Where the gateway listens, the credentials of its one user, and its process.

    What starts it must be a thread that outlives it: the kernel ends a child with the thread that made it.
    """

    endpoint: str
    access_key: str
    secret_key: str
    folder: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self, deadline: float | None = None) -> None:
        """Start the gateway and wait until it answers."""
        frontend = f"beast endpoint={self.endpoint.removeprefix('http://')}"
        configuration = str(self.folder / "ceph.conf")
        words = ["radosgw", "-c", configuration, "-f", "-n", "client.admin", "--rgw-frontends", frontend]
        self.process = _start(self.folder, words)
        _wait_for(self.endpoint, self.process, deadline or time.monotonic() + START_SECONDS)

    def kill(self) -> None:
        """End the gateway at once."""
        if self.process is not None:
            _end(self.process)
            self.process = None

    def freeze(self) -> None:
        """Let the gateway hold still, with its connections open."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen gateway go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


def missing_programs() -> str:
    """Say which packages to install, or return an empty string if everything is there."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"{', '.join(missing)} not found; install the Debian packages {PACKAGES}" if missing else ""


@contextmanager
def run_rgw(folder: Path) -> Iterator[RGW]:
    """Run an object gateway whose files are in ``folder``, until the block ends.

    Raises ``RGWError`` if a program is missing or a part does not come up.
    """
    if message := missing_programs():
        raise RGWError(message)
    deadline = time.monotonic() + START_SECONDS
    monitor_port, gateway_port = _free_ports(2)
    monitor = f"[v2:127.0.0.1:{monitor_port}]"
    fsid = str(uuid.uuid4())
    configuration = folder / "ceph.conf"
    configuration.write_text(CONFIGURATION.format(fsid=fsid, monitor=monitor, folder=folder))
    with ExitStack() as daemons:

        def run(*words: str) -> None:
            _run(folder, [words[0], "-c", str(configuration), *words[1:]], deadline)

        def start(*words: str) -> None:
            daemons.callback(_end, _start(folder, [words[0], "-c", str(configuration), "-f", *words[1:]]))

        _run(folder, ["monmaptool", "--create", "--addv", "a", monitor, "--fsid", fsid, "monmap"], deadline)
        for data in ("mon.a", "osd.0"):
            (folder / data).mkdir()
        run("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", os.devnull)
        start("ceph-mon", "-i", "a")
        osd = str(uuid.uuid4())
        run("ceph", "osd", "new", osd)
        run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        start("ceph-osd", "-i", "0")
        # Without a place in the CRUSH map the OSD gets no placement group, and nothing becomes active.
        run("ceph", "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=localhost")
        access_key, secret_key = "rgwkey", "rgwsecret"
        run(
            "radosgw-admin", "user", "create", "--uid=portal", "--display-name=portal", "--max-buckets=100000",
            f"--access-key={access_key}", f"--secret-key={secret_key}",
        )  # fmt: skip
        gateway = RGW(f"http://127.0.0.1:{gateway_port}", access_key, secret_key, folder)
        daemons.callback(gateway.kill)
        gateway.start(deadline)
        yield gateway


def _free_ports(count: int) -> list[int]:
    with ExitStack() as sockets:
        opened = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in opened:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in opened]


def _run(folder: Path, words: list[str], deadline: float) -> None:
    child = _start(folder, words)
    try:
        status = child.wait(max(0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise RGWError(f"{words[0]} did not end in time") from None
    finally:
        _end(child)
    if status:
        raise RGWError(f"{' '.join(words)} ended with {status}:\n{(folder / 'output').read_text()[-2000:]}")


def _start(folder: Path, words: list[str]) -> "subprocess.Popen[bytes]":
    libc = ctypes.CDLL(None)
    with open(folder / "output", "ab") as output:
        return subprocess.Popen(
            words,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.kill()
    child.wait()


def _wait_for(endpoint: str, gateway: "subprocess.Popen[bytes]", deadline: float) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < deadline:
        if gateway.poll() is not None:
            raise RGWError(f"radosgw ended with {gateway.returncode}")
        try:
            with opener.open(endpoint, timeout=5):
                return
        except (OSError, urllib.error.URLError):
            time.sleep(0.1)
    raise RGWError("radosgw does not answer")
