"""What befalls a site: processes are killed, the database is stopped, the store is frozen and killed.

The rule: all of it is drawn from one seed, and the main thread does it, one thing after the other.
"""

import heapq
import itertools
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.faults.site import Site, kill

WHOLE_PORTAL = 0.04
WORKER = 0.05
FREEZE_SECONDS = 3.0


@dataclass
class Chaos:
    """What is to be done, and how often it has been."""

    site: Site
    random: random.Random
    kills: int
    stops: int
    freezes: int
    pace: float
    """Seconds between two kills, on average."""
    done: Counter[str] = field(default_factory=Counter)
    _due: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _order: "itertools.count[int]" = field(default_factory=itertools.count)
    _now: float = 0.0
    _starts_before: int = 0

    def run(self) -> None:
        """Do all of it."""
        length = self.kills * self.pace
        moment = 0.0
        for _ in range(self.kills):
            moment += self.random.uniform(0.4, 1.6) * self.pace
            self._plan(moment, self.kill_something)
        for place in range(self.stops):
            self._plan((place + self.random.random()) * length / self.stops, self.stop_database)
        for place in range(self.freezes):
            # The store is well again before it befalls it the next time.
            start = place * length / self.freezes
            self._plan(start + self.random.random() * 1.0, self.freeze_store if place % 2 else self.kill_store)
        begun = time.monotonic()
        while self._due:
            moment, _, action = heapq.heappop(self._due)
            time.sleep(max(0.0, begun + moment - time.monotonic()))
            # The rest waits as long as an action took, else what is killed would never come up again.
            before, self._now = time.monotonic(), moment
            action()
            begun += max(0.0, time.monotonic() - before)

    def kill_something(self) -> None:
        """Kill one process of the portal, or the portal as a whole; now and then the worker, too."""
        workers = self.site.portal.processes[1:]
        if not workers or self.site.portal_starts == self._starts_before:
            # A portal that loses a process before it has begun to serve gives up, and begins anew.
            self._plan(self._now + 0.1, self.kill_something)
            return
        if self.random.random() < WORKER:
            self.site.worker.kill()
            self.done["kills of the worker"] += 1
        if self.random.random() < WHOLE_PORTAL:
            self._starts_before = self.site.portal_starts
            self.site.portal.kill()
            self.done["kills of the whole portal"] += 1
        else:
            kill(self.random.choice(workers))
            self.done["kills of a portal process"] += 1

    def stop_database(self) -> None:
        """Stop PostgreSQL at once, and start it a moment later."""
        self.site.postgres.stop_at_once()
        self.done["stops of PostgreSQL"] += 1
        self._plan(self._now + self.random.uniform(0.1, 1.5), self.site.postgres.start)

    def freeze_store(self) -> None:
        """Let the gateway hold still for three seconds."""
        assert self.site.rgw is not None
        self.site.rgw.freeze()
        self.done["freezes of the store"] += 1
        self._plan(self._now + FREEZE_SECONDS, self.site.rgw.thaw)

    def kill_store(self) -> None:
        """Kill the gateway, and start it a moment later."""
        assert self.site.rgw is not None
        self.site.rgw.kill()
        self.done["kills of the store"] += 1
        self._plan(self._now + self.random.uniform(0.1, 2.0), self.site.rgw.start)

    def _plan(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._due, (moment, next(self._order), action))
