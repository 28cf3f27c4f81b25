"""One run: a site, its clients, what befalls it, and the verdict."""

import itertools
import random
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.faults import checker
from tests.faults.chaos import Chaos
from tests.faults.checker import Finding, World
from tests.faults.clients import READS, SAMPLE, Client, Values
from tests.faults.history import CUT, Event, History
from tests.faults.launcher import NOTHING_IS_YOUNG
from tests.faults.site import AGE, Site

CLIENTS = 8
HISTORY = "history.jsonl"
SHOWN_FINDINGS = 10


@dataclass
class Report:
    """What was done and what was found."""

    seed: int
    events: list[Event]
    befell: Counter[str]
    world: World
    findings: list[Finding] = field(default_factory=list)
    commands: dict[str, str] = field(default_factory=dict)
    orphans: int = 0

    def __str__(self) -> str:
        return "\n".join(
            [
                *_tabulate(self.events),
                "",
                *(f"{number:8,} {what}" for what, number in sorted(self.befell.items())),
                f"{len(self.world.files):8,} files, {len(self.world.objects):,} objects, "
                f"{len(self.world.submissions):,} submissions, {self.orphans:,} orphans until the store's were swept",
                "",
                *(f"{words}: {outcome}" for words, outcome in self.commands.items()),
                "",
                *(f"{number:8,} {kind}" for kind, number in checker.count_kinds(self.findings).items()),
                *(f"\n{finding}" for finding in self.findings[:SHOWN_FINDINGS]),
                *([f"… and {len(self.findings) - SHOWN_FINDINGS} more"] if len(self.findings) > SHOWN_FINDINGS else []),
                f"\nseed {self.seed}: " + ("FAILED" if self.findings else "nothing lost, changed, torn or duplicate"),
            ]
        )


def run(site: Site, *, seed: int, kills: int, stops: int, freezes: int, pace: float) -> Report:
    """Let clients work while the site is beaten; then heal it, sweep it twice, and check everything."""
    drawn = random.Random(seed)
    chaos = Chaos(site, drawn, kills, stops, freezes, pace)
    define_fields(site)
    with History(site.folder / HISTORY) as history, working_clients(site, history, drawn):
        chaos.run()
        site.wait_until_ready()
    report = judge(site, history, chaos.done, seed)
    report.findings += checker.find_untried(report.world, report.befell, kills=kills, stops=stops, freezes=freezes)
    return report


@contextmanager
def working_clients(site: Site, history: History, drawn: random.Random) -> Iterator[None]:
    """Let clients work until the block ends; the site must then be well, since they end what they are at."""
    stop, values, numbers = threading.Event(), Values(), itertools.count(len(history.events))
    clients = [
        Client(index, site.address, site.add_user(), history, random.Random(drawn.random()), values, stop, numbers)
        for index in range(CLIENTS)
    ]
    threads = [threading.Thread(target=client.run, daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
    for thread in threads:
        thread.join()


def judge(site: Site, history: History, befell: Counter[str], seed: int) -> Report:
    """Sweep twice, do what is due, and hold the history against what is left."""
    site.worker.end()
    commands = {}
    findings = []

    def do(*words: str, **variables: str) -> None:
        done = site.run(*words, **variables)
        said = " ".join((done.stdout + (done.stderr if done.returncode else "")).split())[-300:]
        shown = " ".join([*words, *variables])
        while shown in commands:
            shown += " again"
        commands[shown] = f"{done.returncode} {said}"
        if done.returncode:
            findings.append(Finding(checker.UNFINISHED, f"datameta {' '.join(words)}", f"ended with {done.returncode}"))

    for _ in range(2):
        age_rows(site)
        do("sweep")
        do("worker", "--once")
    do("audit", "check")
    do("fsck")
    world = read_world(site)
    findings = [*checker.find_faults(history.events, world), *findings]
    do("sweep", **{NOTHING_IS_YOUNG: "yes"})
    orphans = len(world.objects)
    world = read_world(site)
    kept = {file.storage_key for file in world.files.values() if file.state == checker.CONFIRMED}
    findings += [
        Finding(checker.UNFINISHED, key, "belongs to no file, and was not swept")
        for key in sorted(world.objects.keys() - kept)
        if key.startswith("files/")
    ]
    known = {str(finding) for finding in findings}
    findings += [found for found in checker.find_faults(history.events, world) if str(found) not in known]
    return Report(seed, history.events, befell, world, findings, commands, orphans - len(world.objects))


def read_world(site: Site) -> World:
    """Read what is left, past the portal."""
    return checker.read_world(site.postgres.execute, checker.read_objects(site.open_store(), site.bucket))


def age_rows(site: Site) -> None:
    """Let every state be three hours older; no upload expires by that."""
    site.postgres.execute(AGE)


def define_fields(site: Site) -> None:
    """Define the two fields of every set, as a site admin does."""
    token = site.add_user(site_admin=True)
    admin = Client(-1, site.address, token, History(), random.Random(), Values(), threading.Event())
    for order, (name, rules) in enumerate(
        {SAMPLE: {"isSiteUnique": True, "isMandatory": True}, READS: {"isFile": True}}.items()
    ):
        texts = dict.fromkeys(("regexDescription", "longDescription", "example", "regExp", "dateTimeFmt"), "")
        flags = dict.fromkeys(("isMandatory", "isFile", "isSubmissionUnique", "isSiteUnique"), False)
        definition: dict[str, Any] = {"name": name, "order": order, "serviceId": None, **texts, **flags, **rules}
        answer = admin.call("define", "POST", "/metadata", definition)
        assert answer.is_good, answer


def _tabulate(events: Iterable[Event]) -> list[str]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for event in events:
        counts[event.operation][_outcome(event.status)] += 1
    heads = ("done", "refused", "503", "failed", "cut")
    lines = [f"{'':20}" + "".join(f"{head:>9}" for head in ("all", *heads))]
    for operation, outcomes in {**counts, "in all": sum(counts.values(), Counter())}.items():
        lines.append(
            f"{operation:20}"
            + "".join(f"{number:9,}" for number in (outcomes.total(), *(outcomes[head] for head in heads)))
        )
    return lines


def _outcome(status: int) -> str:
    if status == CUT:
        return "cut"
    if status == 503:
        return "503"
    return "done" if status < 400 else "refused" if status < 500 else "failed"
