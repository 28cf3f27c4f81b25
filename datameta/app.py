"""The application, put together: settings, database, store, and the API in front of them."""

import logging
import sys
from typing import Any
from uuid import uuid4

from pyramid.config import Configurator
from pyramid.request import Request

from datameta import embedded, migrations
from datameta.api import dispatch
from datameta.authz import Origin
from datameta.database import Database
from datameta.logic.health import Health
from datameta.logic.ownership import claim_store
from datameta.logic.sheets import SheetReader
from datameta.production import require_strength
from datameta.proxies import trust_proxies
from datameta.replica import Replica
from datameta.settings import Settings
from datameta.storage import Storage, StorageUnavailableError, open_storage
from datameta.vault import open_vault

log = logging.getLogger(__name__)


class StorageCheckError(Exception):
    """The store does not keep a promise; the message is a sentence for the operator."""


class PortalRequest(Request):  # type: ignore[misc]
    """A request whose body, where it is read whole, stays in memory.

    The server has bounded such a body; a temporary file for each would be slower, and closed late.
    """

    request_body_tempfile_limit = sys.maxsize


def open_app(settings: Settings) -> Any:
    """Return the WSGI application with the database and the store that the settings name.

    Without a configured database it holds the portal's own until the process ends, and brings it up
    to date; a configured one must be up to date, else it raises ``migrations.SchemaError``. Raises
    ``StorageCheckError``, and ``SettingsError`` where others reach a portal with weak settings.
    """
    require_strength(settings)
    url = settings.database_url or embedded.hold(settings.home)
    if settings.database_url:
        migrations.require_current(url)
    else:
        migrations.upgrade(url)
    storage = open_tested_storage(settings, url)
    database = open_database(settings, url)
    return make_app(settings, database, storage, open_replica(settings, database))


def open_database(settings: Settings, url: str, *, pool_size: int | None = None) -> Database:
    """Return the database at ``url`` as the settings want it used."""
    return Database(url, pool_size=pool_size or settings.database_pool, slow_query_ms=settings.slow_query_ms)


def open_tested_storage(settings: Settings, url: str) -> Storage:
    """Open the store at a start: claim it for the database at ``url`` if it is new, and try its protections.

    Raises ``StorageCheckError``.
    """
    store = open_storage(settings)
    database = Database(url)
    try:
        # First: what the check leaves in the store for a moment is content to another process.
        claim_store(database.sessions, store)
    except StorageUnavailableError as error:
        log.error("whose the store is can't be read: %s", error)
    finally:
        database.dispose()
    findings = [] if settings.storage_check == "off" else store.check()
    failed = [finding for finding in findings if finding.ok is False]
    for finding in failed:
        log.error("The store fails the check %r: %s", finding.name, finding.detail)
    if failed and settings.storage_check == "refuse":
        raise StorageCheckError(
            f"The store does not keep what the portal promises: {failed[0].name}: {failed[0].detail}. "
            "'datameta storage check' shows all of it; DATAMETA_STORAGE_CHECK=warn starts all the same."
        )
    return store


def open_replica(settings: Settings, database: Database) -> Replica | None:
    """Return the database's replica, or None if the site has none."""
    if not settings.database_replica_url:
        return None
    return Replica(
        settings.database_replica_url,
        database,
        pool_size=settings.database_pool,
        wait_ms=settings.database_replica_wait_ms,
        slow_query_ms=settings.slow_query_ms,
    )


def make_app(settings: Settings, database: Database, storage: Storage, replica: Replica | None = None) -> Any:
    """Return the WSGI application over an open database, its replica if there is one, and the store."""
    config = Configurator(
        request_factory=PortalRequest,
        settings={
            # The identity is nobody's business before routing, and costs a query.
            "tm.annotate_user": "false",
            "tm.commit_veto": "pyramid_tm.default_commit_veto",
        },
    )
    dispatch.install_routes(config)
    config.add_request_method(lambda request: settings, "portal_settings", property=True)
    config.add_request_method(lambda request: storage, "storage", property=True)
    config.add_request_method(lambda request: database, "database", reify=True)
    config.add_request_method(lambda request: replica, "replica", property=True)
    config.add_request_method(_open_session, "db", reify=True)
    health = Health(database, storage)
    config.add_request_method(lambda request: health, "health", property=True)
    vault = open_vault(settings)
    config.add_request_method(lambda request: vault, "vault", property=True)
    config.add_request_method(_make_origin, "origin", reify=True)
    reader = SheetReader(settings)
    config.add_request_method(lambda request: reader, "sheet_reader", property=True)
    # pyramid_tm comes first: what it commits has then passed the check of the response.
    config.include("pyramid_tm")
    config.include("datameta.security")
    config.include("datameta.api")
    config.include("datameta.web")
    dispatch.settle(config)
    return trust_proxies(config.make_wsgi_app(), settings.trusted_proxies)


def _make_origin(request: Request) -> Origin:
    """Return where the request comes from, with an id under which log and audit know it."""
    return Origin(ip=request.remote_addr, request_id=uuid4().hex)


def _open_session(request: Request) -> Any:
    """Return the session of the request's own transaction."""
    assert request.environ.get("tm.active"), "no transaction: use request.database.sessions"
    return request.database.request_session()
