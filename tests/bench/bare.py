"""Waitress with nothing behind it: drains what it is sent and answers ``/N`` with N bytes."""

from collections.abc import Iterable
from typing import Any

from waitress import create_server

from tests.bench.portal import CLIENTS

BODY_MAX_BYTES = 2 * 1024**3


def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer a request."""
    while environ["wsgi.input"].read(1 << 20):
        pass
    size = int(environ["PATH_INFO"].removeprefix("/"))
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(size))])
    return [bytes(size)]


if __name__ == "__main__":
    server = create_server(answer, host="127.0.0.1", port=0, threads=CLIENTS, max_request_body_size=BODY_MAX_BYTES)
    print(f"http://127.0.0.1:{server.effective_port}", flush=True)
    server.run()
