"""The checker finds what it is there for: each bug that is planted."""

import random
import time
from pathlib import Path

import pytest

from tests.faults import checker, clients
from tests.faults.chaos import Chaos
from tests.faults.checker import CHANGED, DUPLICATE, LOST
from tests.faults.conftest import StartSite
from tests.faults.history import History
from tests.faults.run import age_rows, define_fields, read_world, working_clients

pytestmark = pytest.mark.faults

SEED = 4
ROUNDS = 6
DEADLINE_SECONDS = 120


@pytest.mark.parametrize(
    ("bug", "kills", "operation", "kind", "habits"),
    [
        ("plain-put", 0, "send late", CHANGED, {"SEND_AFTER_CONFIRMATION": 1.0}),
        ("early-state", 10, "confirm", LOST, {}),
        ("check-then-insert", 0, "submit", DUPLICATE, {"SUBMIT": 1.0, "MEET_SECONDS": 10.0}),
        ("no-intent", 10, "delete", LOST, {"SUBMIT": 1.0, "DELETE_IN_SUBMISSION": 0.8}),
    ],
)
def test_the_checker_finds(
    bug: str,
    kills: int,
    operation: str,
    kind: str,
    habits: dict[str, float],
    start_site: StartSite,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Clients do more often what the bug is about.
    for habit, value in habits.items():
        monkeypatch.setattr(clients, habit, value)
    site, drawn = start_site(bug=bug), random.Random(SEED)
    define_fields(site)
    with History(tmp_path / "history.jsonl") as history:
        for _ in range(ROUNDS):
            with working_clients(site, history, drawn):
                Chaos(site, drawn, kills, stops=0, freezes=0, pace=0.6).run()
                site.wait_until_ready()
                wait_for_more(history, operation, 10)
            age_rows(site)
            assert site.run("sweep").returncode == 0
            findings = checker.find_faults(history.events, read_world(site))
            if kind in {finding.kind for finding in findings}:
                return
    raise AssertionError(f"only {findings} in {len(history.events)} requests")


def wait_for_more(history: History, operation: str, count: int) -> None:
    """Wait until so many more requests of a kind were answered."""

    def answered() -> int:
        return sum(event.operation == operation and event.status > 0 for event in list(history.events))

    before, deadline = answered(), time.monotonic() + DEADLINE_SECONDS
    while answered() < before + count:
        assert time.monotonic() < deadline, "the clients do not come on"
        time.sleep(0.1)
