"""Servers of the unit tests: run in this process by a thread, or in one of their own."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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


@contextmanager
def running_server(app: Any, *, upload_max_bytes: int = 10) -> Iterator[Server]:
    """Serve an app by a thread of this process; ``server.connect()`` is a new connection to it."""
    listener = bind("127.0.0.1", 0)
    limits = Limits(
        threads=1, body_max_bytes=10, upload_max_bytes=upload_max_bytes, upload_prefix=UPLOAD_PREFIX
    )
    address = listener.getsockname()
    clients: list[socket.socket] = []

    def connect() -> socket.socket:
        clients.append(socket.create_connection(address, timeout=DEADLINE_SECONDS))
        return clients[-1]

    server = Server(app, listener, limits)
    server.connect = connect
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        for client in clients:
            client.close()
        server.stop()
        thread.join()
        server.task_dispatcher.shutdown()
        server.upload_dispatcher.shutdown()
        server.trigger.close()
