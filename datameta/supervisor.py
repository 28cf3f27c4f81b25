"""Keep processes alive: one for each piece of work, started, replaced, reloaded and stopped together.

The rule this module guards: nothing that runs is cut off before its grace is over, and no process
outlives its parent.

The parent never does any of the work; it forks and watches. A socket pair joins it to each worker:
the worker writes one byte when it is ready, and stops gracefully at end of file, which the kernel
also delivers when the parent is killed.

Signals to the parent: SIGTERM and SIGINT stop gracefully, a second one kills; SIGHUP replaces
the workers, or stops if the portal runs in a terminal, because then the terminal was closed.
"""

import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

logger = logging.getLogger(__name__)

GRACE_SECONDS = 10
STABLE_SECONDS = 60
LONGEST_BACKOFF_SECONDS = 30

Work = Callable[[socket.socket], None]
"""What a worker does until it is stopped; it gets its end of the line to the parent."""


@dataclass(eq=False)
class Worker:
    """A child process as the parent sees it; ``kill_at`` is set once it has been told to stop."""

    pid: int
    work: Work
    line: socket.socket
    generation: int
    started: float
    ready: bool | None = None
    kill_at: float | None = None


class Supervisor:
    """Keeps one worker for each of ``works``, all of the newest generation that could start."""

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

    def __init__(
        self,
        listener: socket.socket,
        works: Sequence[Work],
        announce: Callable[[], None],
    ) -> None:
        self.listener, self.works, self.announce = listener, works, announce
        self.workers: list[Worker] = []
        self.restarts: list[tuple[float, Work]] = []
        self.newest = self.serving = self.crashes = self.exit_code = 0
        self.stopping = False
        self.in_terminal = os.isatty(0)

    def run(self) -> int:
        """Supervise until all workers have ended and return the exit code."""
        signals, write_end = os.pipe()
        os.set_blocking(write_end, False)
        # A signal that whoever started us chose to ignore, as nohup does, stays ignored.
        handled = [number for number in self.SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        former = {number: signal.signal(number, lambda *_: None) for number in handled}
        former_fd = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        try:
            self.start_generation()
            while self.workers or self.restarts:
                self.wait(signals)
            return self.exit_code
        finally:
            for worker in self.workers:
                os.kill(worker.pid, signal.SIGKILL)
                os.waitpid(worker.pid, 0)
            signal.set_wakeup_fd(former_fd)
            for number, handler in former.items():
                signal.signal(number, handler)
            os.close(signals)
            os.close(write_end)

    def wait(self, signals: int) -> None:
        """Wait for one thing to happen and act on it."""
        due = [*(moment for moment, _ in self.restarts), *(worker.kill_at for worker in self.workers if worker.kill_at)]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        starting = [worker for worker in self.workers if worker.ready is None]
        sources: list[int | socket.socket] = [signals, *(worker.line for worker in starting)]
        readable = select.select(sources, [], [], timeout)[0]
        for number in os.read(signals, 1024) if signals in readable else b"":
            self.handle_signal(number)
        for worker in starting:
            if worker.line in readable:
                worker.ready = worker.line.recv(1) == b"1"
        self.promote()
        for worker in list(self.workers):
            if worker.kill_at and worker.kill_at <= time.monotonic():
                os.kill(worker.pid, signal.SIGKILL)
            self.reap(worker)
        for restart in [restart for restart in self.restarts if restart[0] <= time.monotonic()]:
            self.restarts.remove(restart)
            self.start_worker(self.serving, restart[1])

    def handle_signal(self, number: int) -> None:
        """Do what an operator's signal asks for."""
        if number == signal.SIGHUP and not self.in_terminal:
            if self.stopping or self.newest != self.serving:
                logger.warning("not reloading: the last change is still under way")
            else:
                self.start_generation()
        elif number != signal.SIGCHLD:
            if self.stopping:
                logger.warning("killing the workers after a second signal")
                self.stop_all(1, grace=0)
            else:
                logger.info("stopping; requests that are running have %d seconds", GRACE_SECONDS)
                self.stop_all(0)

    def start_generation(self) -> None:
        """Start a full set of workers."""
        self.newest += 1
        for work in self.works:
            self.start_worker(self.newest, work)

    def start_worker(self, generation: int, work: Work) -> None:
        """Fork one worker."""
        ours, theirs = socket.socketpair()
        # Until the child has let go of the wake-up pipe, its signals would look like the parent's.
        signal.pthread_sigmask(signal.SIG_BLOCK, self.SIGNALS)
        try:
            pid = os.fork()
            if not pid:
                self.become_worker(work, ours, theirs)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self.SIGNALS)
        theirs.close()
        self.workers.append(Worker(pid, work, ours, generation, time.monotonic()))

    def become_worker(self, work: Work, ours: socket.socket, theirs: socket.socket) -> NoReturn:
        """Work, and leave without running what the parent has in store for its own end."""
        code = 1
        try:
            # The handlers stay, and do nothing: Ctrl-C reaches every process, but only the parent decides.
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, self.SIGNALS)
            for line in [ours, *(worker.line for worker in self.workers)]:
                line.close()
            work(theirs)
            code = 0
        except BaseException as error:
            logger.critical("a worker failed: %s", error, exc_info=True)
        finally:
            try:
                logging.shutdown()
                sys.stdout.flush()
            finally:
                os._exit(code)

    def promote(self) -> None:
        """Put the newest generation into service once all of it is ready."""
        current = [worker for worker in self.workers if not worker.kill_at]
        newest = [worker for worker in current if worker.generation == self.newest]
        if self.stopping or self.newest == self.serving or not all(worker.ready for worker in newest):
            return
        first = not self.serving
        self.serving = self.newest
        self.restarts.clear()
        self.stop([worker for worker in current if worker not in newest])
        if first:
            self.announce()
        else:
            logger.info("reloaded: %d new workers", len(self.works))

    def reap(self, worker: Worker) -> None:
        """Notice that a worker has ended and decide what follows."""
        pid, status = os.waitpid(worker.pid, os.WNOHANG)
        if not pid:
            return
        worker.line.close()
        self.workers.remove(worker)
        if worker.kill_at:
            return
        code = os.waitstatus_to_exitcode(status)
        if not self.serving:
            logger.error("a worker could not start; giving up")
            self.stop_all(1)
        elif worker.generation != self.serving:
            logger.error("the reload failed; the former workers go on")
            self.stop([other for other in self.workers if other.generation == self.newest])
            self.newest = self.serving
        else:
            now = time.monotonic()
            self.crashes = 0 if now - worker.started > STABLE_SECONDS else self.crashes + 1
            delay = min(0.1 * 2**self.crashes, LONGEST_BACKOFF_SECONDS)
            logger.error("worker %d ended with %d; a new one starts in %.1f seconds", pid, code, delay)
            self.restarts.append((now + delay, worker.work))

    def stop(self, workers: list[Worker], *, grace: float = GRACE_SECONDS + 1) -> None:
        """Tell workers to stop, and set the time when they are killed."""
        for worker in workers:
            worker.kill_at = time.monotonic() + grace
            with suppress(OSError):
                worker.line.shutdown(socket.SHUT_WR)

    def stop_all(self, exit_code: int, *, grace: float = GRACE_SECONDS + 1) -> None:
        """Stop for good."""
        self.stopping = True
        self.exit_code = exit_code
        self.restarts.clear()
        self.listener.close()
        self.stop(self.workers, grace=grace)


def await_end(line: socket.socket, stop: Callable[[], None], describe_rest: Callable[[], str]) -> NoReturn:
    """Wait in a worker for the parent to stop it, or to die, and see to it that the worker ends."""
    # A parent killed before it has read the byte of readiness resets the connection.
    with suppress(OSError):
        line.recv(1)
    stop()
    time.sleep(GRACE_SECONDS)
    logger.warning("cut off %s after %d seconds", describe_rest(), GRACE_SECONDS)
    os._exit(0)


def tell_ready() -> None:
    """Tell whoever started this process and waits for it, as systemd does (sd_notify), that it is ready."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            # Linux has sockets without a file, whose name begins with a null.
            line.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else address)
