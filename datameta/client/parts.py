"""A file sent in parts, several at a time, to whatever takes parts by presigned requests.

The rule this module guards: a part is done once the receiver has taken the bytes that were announced by
their MD5, and only what is missing or differs is sent. While parts travel, one thread reads the file in
order: it takes the MD5 of the whole and compares what arrived earlier.
"""

import hashlib
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from functools import partial
from itertools import count
from queue import PriorityQueue
from typing import Protocol, Self

from datameta.client.network import Network, RefusedError
from datameta.client.progress import Bar
from datameta.client.source import Source

# The addresses of a run of parts are asked for at once; more would only be hashed too long before they are sent.
RUN_PARTS = 8
RUN_BYTES = 128 << 20
ATTEMPTS = 3
LAST = math.inf


@dataclass(frozen=True)
class PartRequest:
    """Where the bytes of a part are to be ``PUT``, and with which headers."""

    url: str
    headers: Mapping[str, str]


class Receiver(Protocol):
    """What takes a file in parts."""

    def open(self, size: int) -> int:
        """Begin, or go on; return the size of a part."""

    def list_parts(self) -> dict[int, str]:
        """Return the MD5 of each part that has arrived."""

    def request_parts(self, md5s: Mapping[int, str]) -> Mapping[int, PartRequest]:
        """Announce parts by number and MD5, and return how to send each."""

    def complete(self, checksum: str, md5s: Mapping[int, str]) -> None:
        """Put the parts together; ``RefusedError`` with the code ``parts_missing`` tells that some are not there."""


class Pool:
    """So many threads that do what is queued, the lower orders first, until the block ends or the process."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._numbers = count()
        self._queue: PriorityQueue[tuple[float, int, Callable[[], None], Future[None]]] = PriorityQueue()

    def __enter__(self) -> Self:
        for _ in range(self.threads):
            threading.Thread(target=self._work, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for _ in range(self.threads):
            self._queue.put((LAST, next(self._numbers), _do_nothing, Future()))

    def submit(self, order: int, work: Callable[[], None]) -> "Future[None]":
        """Queue some work."""
        future: Future[None] = Future()
        self._queue.put((order, next(self._numbers), work, future))
        return future

    def _work(self) -> None:
        while True:
            order, _, work, future = self._queue.get()
            if order == LAST:
                return
            if future.set_running_or_notify_cancel():
                try:
                    work()
                except Exception as error:
                    future.set_exception(error)
                else:
                    future.set_result(None)


class PartSender:
    """The sending of one file; ``order`` is its place among the files of this run."""

    def __init__(self, source: Source, receiver: Receiver, network: Network, pool: Pool, bar: Bar, order: int) -> None:
        self._source = source
        self._receiver = receiver
        self._network = network
        self._pool = pool
        self._bar = bar
        self._order = order
        self._part_size = 1
        self._md5s: dict[int, str] = {}
        self._runs: list[Future[None]] = []
        self._waiting: set[int] = set()
        self._error: Exception | None = None
        self._changed = threading.Condition()

    def send(self) -> str:
        """Send all that is missing, have it put together, and return the MD5 of the whole."""
        self._part_size = self._receiver.open(self._source.size)
        try:
            return self._send_all()
        finally:
            wait([run for run in self._runs if not run.cancel()])

    def _send_all(self) -> str:
        self._send_missing()
        checksum = self._hash_whole()
        attempt = 1
        while True:
            for run in self._runs:
                run.result()
            self._source.check_unchanged()
            try:
                self._receiver.complete(checksum, self._md5s)
            except RefusedError as error:
                if "parts_missing" not in error.codes or attempt == ATTEMPTS:
                    raise
            else:
                return checksum
            attempt += 1
            self._send_missing()

    def _send_missing(self) -> None:
        """Queue what has not arrived, in order."""
        self._md5s = self._receiver.list_parts()
        missing = [number for number in self._numbers() if number not in self._md5s]
        self._bar.start("sending", self._source.size - sum(map(self._size, missing)), moves=True)
        self._waiting = set(missing)
        share = -(-len(missing) // self._pool.threads)
        length = max(1, min(RUN_PARTS, RUN_BYTES // self._part_size, share))
        self._runs = [self._queue(missing[place : place + length]) for place in range(0, len(missing), length)]

    def _queue(self, numbers: Sequence[int]) -> "Future[None]":
        return self._pool.submit(self._order, partial(self._send_run, numbers))

    def _hash_whole(self) -> str:
        """Return the MD5 of the whole; send again what has arrived and differs."""
        arrived = dict(self._md5s)
        whole = hashlib.md5(usedforsecurity=False)
        is_shown = False
        for number in self._numbers():
            with self._changed:
                # A part is read for both purposes at about the same time, so that the disk is read once.
                self._changed.wait_for(partial(self._may_read, number))
            if not is_shown and all(run.done() for run in self._runs):
                is_shown = True
                self._bar.start("comparing", self._span(number)[0])
            part = hashlib.md5(usedforsecurity=False)
            for chunk in self._read(number):
                whole.update(chunk)
                if number in arrived:
                    part.update(chunk)
                if is_shown:
                    self._bar.advance(len(chunk))
            if number in arrived and part.hexdigest() != arrived[number]:
                self._runs.append(self._queue([number]))
        return whole.hexdigest()

    def _may_read(self, number: int) -> bool:
        return number not in self._waiting or self._error is not None

    def _send_run(self, numbers: Sequence[int]) -> None:
        """Send some parts, one after the other."""
        try:
            with self._changed:
                self._waiting.difference_update(numbers)
                self._changed.notify_all()
            md5s = {number: self._hash_part(number) for number in numbers}
            requests = self._receiver.request_parts(md5s)
            for number in numbers:
                self._send_part(number, md5s[number], requests[number])
        except Exception as error:
            with self._changed:
                self._error = self._error or error
                self._changed.notify_all()
            raise

    def _send_part(self, number: int, md5: str, request: PartRequest) -> None:
        attempt = 1
        reach = Reach()
        while True:
            try:
                self._network.insist(partial(self._put, number, request, reach))
            except RefusedError:
                # The address may have expired, or the bytes may have been spoilt on their way to the hash.
                if attempt == ATTEMPTS:
                    raise
                md5 = self._hash_part(number)
                request = self._receiver.request_parts({number: md5})[number]
            else:
                self._md5s[number] = md5
                return
            attempt += 1

    def _put(self, number: int, request: PartRequest, reach: "Reach") -> None:
        put_counted(self._network, request, self._read(number), self._size(number), self._bar, reach)

    def _hash_part(self, number: int) -> str:
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in self._read(number):
            digest.update(chunk)
        return digest.hexdigest()

    def _read(self, number: int) -> Iterator[bytes]:
        """Yield the bytes of a part, unless the sending of the file has failed already."""
        for chunk in self._source.read(*self._span(number)):
            self._network.check_stop()
            if self._error is not None:
                raise self._error
            yield chunk

    def _numbers(self) -> range:
        return range(1, -(-self._source.size // self._part_size) + 1)

    def _span(self, number: int) -> tuple[int, int]:
        return (number - 1) * self._part_size, min(number * self._part_size, self._source.size)

    def _size(self, number: int) -> int:
        start, stop = self._span(number)
        return stop - start


def _do_nothing() -> None:
    """End a thread of the pool."""


@dataclass
class Reach:
    """How far the sending of some bytes has ever come: only what goes further is progress, and not the same again."""

    size: int = 0

    def extend(self, size: int) -> bool:
        """Say whether so many bytes are more than ever before."""
        is_further = size > self.size
        self.size = max(size, self.size)
        return is_further


def put_counted(
    network: Network, request: PartRequest, chunks: Iterator[bytes], size: int, bar: Bar, reach: Reach
) -> None:
    """Send bytes, once, and show how far they are; those of a failed transfer do not count."""
    sent = 0

    def count_chunks() -> Iterator[bytes]:
        nonlocal sent
        for chunk in chunks:
            yield chunk
            sent += len(chunk)
            bar.advance(len(chunk))
            if reach.extend(sent):
                network.note_progress()

    try:
        network.put(request.url, headers=request.headers, chunks=count_chunks(), size=size)
    except BaseException:
        bar.advance(-sent)
        raise
