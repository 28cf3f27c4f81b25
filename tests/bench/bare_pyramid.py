"""Pyramid under waitress with as little as can be: a view that gives JSON, and one that inserts it as a row."""

import logging
import os
import threading
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from pyramid.config import Configurator
from pyramid.request import Request
from waitress import create_server

from tests.bench.portal import CLIENTS

INSERT = "INSERT INTO bare (record) VALUES (%s) RETURNING id"

_local = threading.local()
_kept: list[Any] = [None]


def keep(request: Request) -> Any:
    """Take what ``give`` gives from now on."""
    _kept[0] = request.json_body
    return {}


def give(request: Request) -> Any:
    """Give what was kept."""
    return _kept[0]


def insert(request: Request) -> Any:
    """Insert the body as a row, in a transaction of its own."""
    if not hasattr(_local, "connection"):
        _local.connection = psycopg.connect(os.environ["BARE_DATABASE"], autocommit=True)
    [number] = _local.connection.execute(INSERT, [Jsonb(request.json_body)]).fetchone()
    return {"id": number}


def make_app() -> Any:
    """Return the application."""
    with psycopg.connect(os.environ["BARE_DATABASE"], autocommit=True) as connection:
        connection.execute("CREATE TABLE bare (id bigserial PRIMARY KEY, record jsonb NOT NULL)")
    config = Configurator()
    for path, method, view in (("/json", "PUT", keep), ("/json", "GET", give), ("/rows", "POST", insert)):
        config.add_route(f"{method} {path}", path, request_method=method)
        config.add_view(view, route_name=f"{method} {path}", renderer="json")
    return config.make_wsgi_app()


if __name__ == "__main__":
    # It would tell of each request that waits for a thread.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    server = create_server(make_app(), host="127.0.0.1", port=0, threads=CLIENTS)
    print(f"http://127.0.0.1:{server.effective_port}", flush=True)
    server.run()
