"""A real portal over a real PostgreSQL: every test commits, and begins with empty tables."""

import hashlib
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
import pyotp
import pytest
import webtest
from sqlalchemy import delete, func, select, text, update

from datameta import embedded, migrations
from datameta.app import make_app
from datameta.authz import Actor, Origin
from datameta.clock import utc_now
from datameta.database import Database
from datameta.logic import groups, identity, keys, users
from datameta.logic.mail import Order, open_order
from datameta.logic.ownership import claim_store
from datameta.models import AppSetting, AuditEvent, Base, User
from datameta.settings import Settings
from datameta.storage import Storage, open_storage
from datameta.vault import open_vault
from tests.rgw import RGW, missing_programs, run_rgw

# Programs that a script runs in its background, or with nohup, ignore these, and so would all that tests start.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)

BASE_URL = "http://portal.test"
API = "/api/v1"


LONGEST = (
    "tests/fuzz",
    "tests/e2e",
    "tests/portal/test_transfers",
    "tests/portal",
    "tests/flows/test_state_machine",
    "tests/storage",
    "tests/client",
    "tests/flows",
)
"""Where the tests are that take long; they begin first, so that none is left over when all others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with long tests first."""
    order = {place: number for number, place in enumerate(LONGEST)}

    def rank(item: pytest.Item) -> int:
        return next((number for place, number in order.items() if item.nodeid.startswith(place)), len(order))

    items.sort(key=rank)


@pytest.fixture(scope="session")
def database_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL of this test process with the newest schema."""
    with embedded.running(tmp_path_factory.mktemp("home"), durable=False) as url:
        migrations.upgrade(url)
        yield url


@pytest.fixture(scope="session")
def shared_database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.dispose()


@pytest.fixture(scope="session")
def rgw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RGW]:
    """Run a Ceph gateway, once for all tests; where nothing may be left out, its absence is a failure."""
    if message := missing_programs():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    with run_rgw(tmp_path_factory.mktemp("rgw")) as gateway:
        yield gateway


def empty_tables(database: Database) -> None:
    """Delete every row of the database."""
    names = [*(table.name for table in Base.metadata.sorted_tables), "procrastinate_jobs"]
    # Much faster than TRUNCATE, which makes new files for each table and index.
    statements = "; ".join(f'DELETE FROM "{name}"' for name in names)
    with database.engine.begin() as connection:
        # The audit's tables refuse to be emptied; for a replica's session triggers are off.
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text(statements))


@pytest.fixture
def database(shared_database: Database) -> Database:
    """The database with empty tables."""
    empty_tables(shared_database)
    return shared_database


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", base_url=BASE_URL, bcrypt_cost=4)


@pytest.fixture
def storage(settings: Settings) -> Storage:
    return open_storage(settings)


@pytest.fixture
def portal(database: Database, settings: Settings, storage: Storage) -> "Portal":
    """A portal with local storage and nothing in it."""
    return Portal(database, settings, storage)


@dataclass
class Portal:
    """A running portal as tests see it: the application, and a way to add what only an administrator can."""

    database: Database
    settings: Settings
    storage: Storage
    app: webtest.TestApp = field(init=False)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        # As every start does.
        claim_store(self.database.sessions, self.storage)
        self.app = webtest.TestApp(make_app(self.settings, self.database, self.storage))

    def add_user(self, group: str = "Lab A", **roles: bool) -> "Client":
        """Add a user with an API key; ``roles`` are site_admin, site_read, group_admin."""
        number = next(self.numbers)
        with self.database.sessions.begin() as db:
            row, _ = groups.find_or_add_group(db, name=group, site_id_format=self.settings.id_groups)
            email = f"user{number}@example.org"
            user = users.add_user(
                db,
                settings=self.settings,
                email=email,
                name=f"User {number}",
                group=row,
                password="a long enough password",
                **roles,
            )
            expires_at = utc_now().replace(year=utc_now().year + 1, day=1)
            _, token = keys.add_key(db, user_id=user.id, label="test", expires_at=expires_at)
        return Client(self, token, str(user.uuid), user.site_id, email, str(row.uuid))

    def anonymous(self) -> "Client":
        """Return a client without a credential."""
        return Client(self, None, "", "", "", "")


@dataclass
class Client:
    """Somebody who talks to the portal."""

    portal: Portal
    token: str | None
    uuid: str
    site_id: str
    email: str
    group: str

    def request(self, method: str, path: str, json: Any = None, **more: Any) -> webtest.TestResponse:
        """Send a request below ``/api/v1``; every answer is returned, also refusals."""
        headers = dict(more.pop("headers", {}))
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        call = getattr(self.portal.app, f"{method}_json" if json is not None else method)
        arguments = (API + path,) if json is None else (API + path, json)
        return call(*arguments, headers=headers, expect_errors=True, **more)

    def get(self, path: str, **more: Any) -> webtest.TestResponse:
        return self.request("get", path, **more)

    def post(self, path: str, json: Any = None, **more: Any) -> webtest.TestResponse:
        return self.request("post", path, json, **more)

    def put(self, path: str, json: Any = None, **more: Any) -> webtest.TestResponse:
        return self.request("put", path, json, **more)

    def delete(self, path: str, **more: Any) -> webtest.TestResponse:
        return self.request("delete", path, **more)

    def add_field(self, name: str, **changes: Any) -> dict[str, Any]:
        """Define a field (as a site admin); optional text unless ``changes`` say otherwise."""
        definition = {
            "name": name,
            "regexDescription": "",
            "longDescription": "",
            "example": "",
            "regExp": "",
            "dateTimeFmt": "",
            "isMandatory": False,
            "order": 1,
            "isFile": False,
            "isSubmissionUnique": False,
            "isSiteUnique": False,
            "serviceId": None,
            **changes,
        }
        response = self.post("/metadata", definition)
        assert response.status_int == 200, response.body
        return response.json

    def stage(self, **record: Any) -> dict[str, Any]:
        """Stage a metadataset."""
        response = self.post("/metadatasets", {"record": record})
        assert response.status_int == 200, response.body
        return response.json

    def upload(self, name: str, content: bytes) -> dict[str, Any]:
        """Announce a file, send its bytes through the portal, and confirm it."""
        import hashlib

        announced = self.post("/files", {"name": name, "checksum": hashlib.md5(content).hexdigest()}).json
        path = announced["urlToUpload"].removeprefix(BASE_URL)
        self.portal.app.put(path, content, headers=announced["requestHeaders"], status=204)
        response = self.put(f"/files/{announced['id']['uuid']}", {"contentUploaded": True})
        assert response.status_int == 200, response.body
        return response.json

    def submit(self, metadatasets: list[Any], files: list[Any] = (), **more: Any) -> webtest.TestResponse:
        """Submit what ``stage`` and ``upload`` returned."""
        return self.post(
            "/submissions",
            {
                "metadatasetIds": [item["id"]["uuid"] for item in metadatasets],
                "fileIds": [item["id"]["uuid"] for item in files],
                **more,
            },
        )


def codes(response: webtest.TestResponse) -> set[tuple[str, str | None]]:
    """Return the error code and field of every problem of a refusal."""
    return {(problem["error_code"], problem.get("field")) for problem in response.json}


def announce(user: Client, content: bytes = b"ACGT", *, name: str = "a.fq", algorithm: str = "md5") -> dict[str, Any]:
    """Announce a file that shall have this content."""
    response = user.post("/files", {"name": name, "checksum": hashlib.new(algorithm, content).hexdigest()})
    assert response.status_int == 200, response.body
    return response.json


def send(user: Client, announced: dict[str, Any], content: bytes = b"ACGT", **headers: str) -> webtest.TestResponse:
    """Send bytes through the portal as its announcement says; every answer is returned."""
    path = announced["urlToUpload"].removeprefix(BASE_URL)
    headers = announced["requestHeaders"] | headers
    return user.portal.app.put(path, content, headers=headers, expect_errors=True)


def confirm(user: Client, announced: dict[str, Any], **changes: str) -> webtest.TestResponse:
    """Confirm an announced file, maybe with changes; every answer is returned."""
    return user.put(f"/files/{announced['id']['uuid']}", {"contentUploaded": True, **changes})


class Crash(BaseException):
    """The process ends here."""


@dataclass
class FaultyStorage:
    """A real store of which one method fails: before it has done its work, or after."""

    real: Storage
    method: str = ""
    error: BaseException = field(default_factory=Crash)
    is_after: bool = False

    def __getattr__(self, name: str) -> Any:
        action = getattr(self.real, name)
        if name != self.method:
            return action

        def fail(*arguments: Any, **more: Any) -> None:
            if self.is_after:
                action(*arguments, **more)
            raise self.error

        return fail


def actor_of(client: Client) -> Actor:
    """Return the actor whom a client's key stands for."""
    assert client.token is not None
    actor = identity.get_key_actor(client.portal.database, client.token, Origin())
    assert actor is not None
    return actor


def assert_refused(response: webtest.TestResponse, status: int, *expected: tuple[str, str | None]) -> None:
    """Check the status, the type, and the code and field of every problem of a refusal."""
    assert response.status_int == status, response.body
    assert response.content_type == "application/json"
    assert codes(response) == set(expected)


def do_before(monkeypatch: pytest.MonkeyPatch, storage: Storage, method: str, action: Callable[[], Any]) -> None:
    """Let ``action`` happen just before the next call of one of the store's methods."""
    real = getattr(storage, method)

    def act(*arguments: Any) -> Any:
        monkeypatch.setattr(storage, method, real)
        action()
        return real(*arguments)

    monkeypatch.setattr(storage, method, act)


PASSWORD = "a long enough password"
"""The password of every user of ``Portal.add_user``."""


@dataclass
class Browser(Client):
    """Somebody who has signed in: the cookie and what goes with it instead of a key."""

    cookie: str = ""
    csrf: str = ""

    def request(self, method: str, path: str, json: Any = None, **more: Any) -> webtest.TestResponse:
        headers = {"Cookie": f"datameta={self.cookie}", "X-CSRF-Token": self.csrf, **more.pop("headers", {})}
        response = super().request(method, path, json, headers=headers, **more)
        # The application's tester would send the cookies of one client for all the others.
        self.portal.app.reset()
        return response


def sign_in(client: Client, password: str = PASSWORD, **more: Any) -> Browser:
    """Return a browser in which the client's user has signed in."""
    response = client.portal.anonymous().post("/sessions", {"email": client.email, "password": password, **more})
    assert response.status_int == 200, response.body
    cookie = client.portal.app.cookies["datameta"]
    client.portal.app.reset()
    return Browser(
        client.portal,
        None,
        client.uuid,
        client.site_id,
        client.email,
        client.group,
        cookie=cookie,
        csrf=response.json["csrfToken"],
    )


def read_mails(portal: Portal) -> list[Order]:
    """Return the mails that wait to be sent, oldest first."""
    vault = open_vault(portal.settings)
    with portal.database.sessions() as db:
        query = "SELECT args ->> 'sealed' FROM procrastinate_jobs WHERE task_name = 'send_mail' ORDER BY id"
        return [open_order(vault, sealed) for sealed in db.scalars(text(query))]


def set_setting(portal: Portal, key: str, value: str) -> None:
    """Give a setting another value, as a site admin would."""
    with portal.database.sessions.begin() as db:
        db.execute(delete(AppSetting).where(AppSetting.key == key))
        db.add(AppSetting(key=key, value=value))


def list_events(portal: Portal, prefix: str) -> Sequence[AuditEvent]:
    """Return the audit's events whose name begins so, oldest first."""
    with portal.database.sessions() as db:
        query = select(AuditEvent).where(AuditEvent.event.startswith(prefix))
        return db.scalars(query.order_by(AuditEvent.id)).all()


@contextmanager
def counted(portal: Portal) -> Iterator[list[str]]:
    """Yield the list of all statements that are sent to the database meanwhile."""
    statements: list[str] = []

    with portal.database.engine.connect() as connection:
        dsn = connection.connection.driver_connection.info.dsn

    def noting(send: Any) -> Any:
        def note(cursor: Any, statement: Any, *args: Any, **kw: Any) -> Any:
            # By the last the pool tries a connection.
            if cursor.connection.info.dsn == dsn and statement != ";":
                statements.append(str(statement))
            return send(cursor, statement, *args, **kw)

        return note

    sending = {name: noting(getattr(psycopg.Cursor, name)) for name in ("execute", "executemany")}
    with mock.patch.multiple(psycopg.Cursor, **sending):
        yield statements


def make_second_factor(client: Client, step: int | None = None) -> Callable[[], str]:
    """Give the client's user a second factor; return what makes two codes, each good for half a minute at least."""
    secret = pyotp.random_base32()
    sealed = open_vault(client.portal.settings).encrypt(secret.encode())
    with client.portal.database.sessions.begin() as db:
        values = {"totp_secret": sealed, "totp_confirmed_at": func.now(), "totp_step": None}
        db.execute(update(User).where(User.site_id == client.site_id).values(**values))
    steps = count(int(time.time() // 30) if step is None else step)
    return lambda: pyotp.TOTP(secret).generate_otp(next(steps))


def read_pages(client: Client, path: str, **query: Any) -> list[list[Any]]:
    """Read a list page after page as its Link headers say; return the pages."""
    pages = []
    while path:
        answer = client.get(path, params=query)
        assert answer.status_int == 200, answer.body
        pages.append(answer.json)
        link = re.fullmatch(r'<(.+)>; rel="next"', answer.headers.get("Link", ""))
        path, query = (link[1].removeprefix(BASE_URL + API) if link else ""), {}
    return pages
