"""The bot of the tutorial, as it stands there, serves a real portal, and survives what a bot meets."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import serve_behind_proxy
from tests.e2e.conftest import RECORD, REPOSITORY, Api, Served, make_environment
from tests.faults.proxy import Once, Proxy, Way, answer, pass_all
from tests.unit.conftest import poll

BOT = REPOSITORY / "examples/bot/bot.py"


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Proxy]]:
    with serve_behind_proxy(tmp_path_factory.mktemp("bot")) as both:
        yield both


@dataclass(frozen=True)
class Site:
    """A portal, a laboratory that submits, and the bots' way to the portal."""

    lab: Api
    other_bot: Api
    proxy: Proxy
    folder: Path
    service: str

    def submit(self, *samples: str) -> dict[str, Any]:
        """Submit samples of two files each; return the id of each set."""
        sets, files = {}, []
        for sample in samples:
            reads = [self.lab.upload(f"{sample}_{read}.fastq", f"@{sample} {read}".encode()) for read in ("R1", "R2")]
            record = RECORD | {"Lab-ID": sample, "FileR1": reads[0]["name"], "FileR2": reads[1]["name"]}
            sets[sample] = self.lab.call("POST", "/metadatasets", {"record": record})["id"]["site"]
            files += [file["id"]["site"] for file in reads]
        body = {"metadatasetIds": list(sets.values()), "fileIds": files, "label": None}
        self.lab.call("POST", "/submissions", body)
        return sets

    def read_accession(self, key: str) -> Any:
        """Return the accession of a set, None as long as there is none."""
        return self.other_bot.call("GET", f"/metadatasets/{key}")["record"].get("Accession")

    @contextmanager
    def run_bot(self) -> Iterator["subprocess.Popen[bytes]"]:
        """Run the bot until the block ends; what it says goes to a file."""
        variables = {
            "DATAMETA_URL": f"http://{self.proxy.netloc}",
            "DATAMETA_TOKEN": self.other_bot.token,
            "DATAMETA_SERVICE": self.service,
            "DATAMETA_SECONDS": "0",
            "TMPDIR": str(self.folder),
        }
        with (self.folder / "said").open("ab") as said:
            bot = subprocess.Popen([sys.executable, BOT], stdout=said, stderr=said, env=make_environment(**variables))
            try:
                yield bot
            finally:
                bot.kill()
                bot.wait()

    @property
    def said(self) -> str:
        """What the bots have said."""
        return (self.folder / "said").read_text("utf-8")


@pytest.fixture
def site(proxied: tuple[Served, Proxy], tmp_path: Path) -> Iterator[Site]:
    """The demo site, without anything wrong yet."""
    served, proxy = proxied
    proxy.rule = pass_all
    lab = served.open_lab()
    [service] = {field["serviceId"]["site"] for field in lab.call("GET", "/metadata") if field["serviceId"]}
    yield Site(lab, served.open_bot(), proxy, tmp_path, service)
    proxy.rule = pass_all


def once(words: str, action: Callable[[], None]) -> Once:
    """Do something before a request goes on."""
    return Once(words.encode(), Way.UP, action)


def test_each_sample_gets_its_accession_and_no_file_is_left(site: Site) -> None:
    with site.run_bot() as bot:
        first = site.submit("bot-a", "bot-b")
        assert [poll(lambda key=key: site.read_accession(key)) for key in first.values()] == ["ACC-bot-a", "ACC-bot-b"]
        # What comes later is seen by the same bot.
        [later] = site.submit("bot-c").values()
        assert poll(lambda: site.read_accession(later)) == "ACC-bot-c"
        assert bot.poll() is None
    assert site.said == ""
    assert [path.name for path in site.folder.iterdir()] == ["said"]


def test_a_bot_that_is_killed_amid_its_work_is_replaced_by_the_next(site: Site) -> None:
    [key] = site.submit("bot-killed").values()
    with site.run_bot() as bot:
        site.proxy.rule = once("/api/v1/download/", bot.kill)
        bot.wait()
    assert site.read_accession(key) is None
    with site.run_bot():
        assert poll(lambda: site.read_accession(key)) == "ACC-bot-killed"


def test_a_damaged_file_is_told_and_never_served_and_holds_up_no_other(site: Site) -> None:
    damaged, whole = site.submit("bot-damaged", "bot-whole").values()
    content = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nwrong"
    is_damaged = hashlib.md5(b"@bot-damaged R2").hexdigest()
    files = site.other_bot.call("GET", f"/metadatasets/{damaged}")["fileIds"]
    told = f"{damaged} {files['FileR2']['site']} arrived damaged"

    def rule(way: Way, piece: bytes, before: int) -> None:
        # Of the addresses that were given out, that of the damaged file is answered by the network.
        if way is Way.DOWN and is_damaged.encode() in piece:
            addresses.append(json.loads(piece[piece.index(b"{") :])["fileUrl"].rpartition("/")[2].encode())
        if way is Way.UP and any(address in piece for address in addresses):
            answer(content)

    addresses: list[bytes] = []
    site.proxy.rule = rule
    with site.run_bot():
        assert poll(lambda: site.read_accession(whole)) == "ACC-bot-whole"
        assert poll(lambda: told in site.said)
        assert site.read_accession(damaged) is None
        site.proxy.rule = pass_all
        assert poll(lambda: site.read_accession(damaged)) == "ACC-bot-damaged"


def test_what_another_bot_took_stays_its_own(site: Site) -> None:
    taken, free = site.submit("bot-taken", "bot-free").values()
    body = {"record": {"Accession": "ANOTHER"}, "fileIds": []}
    uuid = site.lab.call("GET", f"/metadatasets/{taken}")["id"]["uuid"]
    path = f"/service-execution/{site.service}/{uuid}"
    site.proxy.rule = once(path, lambda: site.other_bot.call("POST", path, body))
    with site.run_bot() as bot:
        assert poll(lambda: site.read_accession(free)) == "ACC-bot-free"
        assert poll(lambda: site.read_accession(taken)) == "ANOTHER"
        [later] = site.submit("bot-later").values()
        assert poll(lambda: site.read_accession(later)) == "ACC-bot-later"
        assert bot.poll() is None
