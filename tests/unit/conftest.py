"""What tests of the server share: a server that a thread of this process runs."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from datameta.server import Limits, Server, bind

DEADLINE_SECONDS = 30
UPLOAD_PREFIX = "/api/v1/upload/"


def poll(question: Callable[[], Any]) -> Any:
    """Ask until the answer is true, and fail at the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (answer := question()):
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)
    return answer


@pytest.fixture
def run_app() -> Iterator[Callable[..., tuple[Server, socket.socket]]]:
    """Run an app in a thread and connect to it."""
    running: list[tuple[Server, threading.Thread, socket.socket]] = []

    def run(app: Any, *, upload_max_bytes: int = 10) -> tuple[Server, socket.socket]:
        listener = bind("127.0.0.1", 0)
        limits = Limits(
            threads=1,
            body_max_bytes=10,
            upload_max_bytes=upload_max_bytes,
            upload_prefix=UPLOAD_PREFIX,
            sheet_max_bytes=20,
            sheet_prefix="/sheets/",
        )
        client = socket.create_connection(listener.getsockname(), timeout=DEADLINE_SECONDS)
        server = Server(app, listener, limits)
        thread = threading.Thread(target=server.run)
        thread.start()
        running.append((server, thread, client))
        return server, client

    yield run
    for server, thread, client in running:
        client.close()
        server.stop()
        thread.join()
        server.task_dispatcher.shutdown()
        server.upload_dispatcher.shutdown()
        server.trigger.close()
