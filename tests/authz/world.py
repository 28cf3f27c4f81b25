"""One world for all cells: somebody of every kind, and one thing of everybody in every state.

Cells that change nothing look at the shared things; one that succeeds in changing gets things of its own.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import Any
from uuid import uuid4

from sqlalchemy import TextClause, insert, text, update

from datameta.clock import utc_now
from datameta.credentials import hash_token, make_token
from datameta.models import ApiKey, DownloadToken, File, FileState, LoginSession, PasswordToken, User
from tests.authz.matrix import ACTORS, NOBODY, WITHOUT_SITE_ID, read_lists
from tests.conftest import Browser, Client, Portal, announce, confirm, send, sign_in

HOME, ELSEWHERE, THIRD = "Lab A", "Lab B", "Lab C"
ROLES: dict[str, dict[str, bool]] = {
    "group admin": {"group_admin": True},
    "site read": {"site_read": True},
    "site admin": {"site_admin": True},
}
OWNERS = {"same group": "colleague", "other group": "stranger"}
PAST = timedelta(days=1)
CONTENT = b"ACGT"
SENT_IN_PARTS = ("in parts", "verifying", "failed", "verified")

SURVIVES_REFUSAL = {
    # That a credential was used.
    "api_keys": ("last_used_on", "last_used_ip"),
    "login_sessions": ("last_seen_at",),
    # That a password was wrong.
    "users": ("password_failures",),
}
"""The columns that a refused call may change."""
UNCHECKED = {
    # Attempts are counted before they are refused.
    "throttles",
    # They follow from the audit's events, of which a refusal may write those of failed logins only.
    "audit_pending",
    "audit_seals",
    "audit_events",
}
"""The tables that a refused call may change."""


@dataclass(frozen=True)
class Thing:
    """Something that has an id, and what belongs to it: a token, the set that names it."""

    uuid: str
    site: str = ""
    token: str = ""

    def get_id(self, id_kind: str) -> str:
        return self.site if id_kind == "site" else self.uuid


@dataclass(frozen=True)
class Person:
    """A user with a key and a session."""

    key: Client
    browser: Browser

    def get_client(self, credential: str) -> Client:
        return self.key if credential == "key" else self.browser


@dataclass
class World:
    """Everybody, and everything they have."""

    portal: Portal
    people: dict[str, Person] = field(default_factory=dict)
    things: dict[tuple[str, str, str], Thing] = field(default_factory=dict)
    fingerprint: dict[str, str] | None = None

    def __post_init__(self) -> None:
        for name in (*ACTORS, "colleague"):
            self.people[name] = self.add_person(name)
        self.people["stranger"] = self.add_person("stranger", ELSEWHERE)
        self.root = self.people["site admin"].key
        self.third_group = self.portal.add_user(THIRD).group
        self.groups = {group["id"]["uuid"]: group["id"]["site"] for group in self.root.get("/groups").json}
        self.service = self._identify(self.root.post("/services", {"name": "Quality"}))
        self.root.add_field("ID")
        self.root.add_field("Reads", isFile=True)
        self.root.add_field("Quality", serviceId=self.service.uuid)
        self.root.add_field("Report", serviceId=self.service.site, isFile=True)
        self.metadatum = self.root.add_field("Spare")
        self._set_service_users(*self.people)
        for name, person in self.people.items():
            self._add_answered(name, person.key)
        self._set_service_users("service user")
        self._add_nobody()
        tokens = [token for person in self.people.values() for token in (person.key.token, person.browser.cookie)]
        self.secrets = {secret.encode() for secret in tokens if secret is not None}
        for listed in read_lists().values():
            for name in (*ACTORS, "colleague", "stranger"):
                self.get_thing(listed.kind, listed.state, name)

    def add_person(self, actor: str, group: str = HOME) -> Person:
        """Add a user with the rights of this kind of actor, but for a service's."""
        self.fingerprint = None
        client = self.portal.add_user(group, **ROLES.get(actor, {}))
        return Person(client, sign_in(client))

    def get_owner(self, actor: str, relation: str) -> str:
        """Return whose a thing of this relation is, as this actor sees it."""
        return OWNERS.get(relation, "user" if actor in NOBODY else actor)

    def get_thing(self, kind: str, state: str, owner: str) -> Thing:
        """Return the owner's thing of this kind and state, which all cells share."""
        if kind == "user" and not state.endswith("site admin"):
            return Thing(self.people[owner].key.uuid, self.people[owner].key.site_id)
        if (kind, state, owner) not in self.things:
            self.things[kind, state, owner] = self.add_thing(kind, state, self.people[owner].key)
        return self.things[kind, state, owner]

    def add_thing(self, kind: str, state: str, owner: Client) -> Thing:
        """Make a thing of this kind and state that is the owner's."""
        self.fingerprint = None
        make: Callable[[str, Client], Thing] = getattr(self, f"_add_{kind}")
        return make(state, owner)

    def make_unknown(self, kind: str) -> Thing:
        """Return a thing that does not exist."""
        return Thing(str(uuid4()), "" if kind in WITHOUT_SITE_ID else "DMX-00000000", make_token())

    def take_fingerprint(self) -> dict[str, str]:
        """Return a hash of every row of each table, without what may outlive a refusal."""
        with self.portal.database.autocommit.connect() as connection:
            return dict(iter(connection.execute(self.fingerprint_query)))

    @cached_property
    def fingerprint_query(self) -> TextClause:
        """The query that hashes all tables but ``UNCHECKED``, and counts the events a refusal may not write."""
        columns: dict[str, list[str]] = {}
        with self.portal.database.autocommit.connect() as connection:
            for table, column in connection.execute(_COLUMNS):
                if table not in UNCHECKED and column not in SURVIVES_REFUSAL.get(table, ()):
                    columns.setdefault(table, []).append(f'"{column}"')
        parts = [
            f"SELECT '{table}', md5(string_agg(row, '' ORDER BY row)) "
            f'FROM (SELECT md5(ROW({", ".join(names)})::text) AS row FROM "{table}") AS rows'
            for table, names in columns.items()
        ]
        parts.append("SELECT 'audit_events', count(*)::text FROM audit_events WHERE event NOT LIKE 'login.%'")
        return text(" UNION ALL ".join(parts))

    def forget_attempts(self) -> None:
        """Let the next call be nobody's too many."""
        with self.portal.database.autocommit.connect() as connection:
            connection.execute(text("DELETE FROM throttles"))

    def execute(self, statement: Any) -> None:
        """Do what no operation does."""
        self.fingerprint = None
        with self.portal.database.sessions.begin() as db:
            db.execute(statement)

    def _add_nobody(self) -> None:
        """Add everybody who gets in nowhere."""
        user = self.people["user"]
        for name in NOBODY[2:]:
            self.people[name] = self.add_person(name)
        past = {"expires_at": utc_now() - PAST}
        expired, disabled = self.people["expired credential"], self.people["disabled user"]
        assert expired.key.token is not None
        self.execute(update(ApiKey).where(ApiKey.token_hash == hash_token(expired.key.token)).values(past))
        self.execute(
            update(LoginSession).where(LoginSession.token_hash == hash_token(expired.browser.cookie)).values(past)
        )
        self.execute(update(User).where(User.site_id == disabled.key.site_id).values(enabled=False))
        forged = replace(user.browser, cookie=make_token())
        self.people["unknown credential"] = Person(replace(user.key, token=make_token()), forged)
        self.people["no credential"] = Person(replace(user.key, token=None), forged)

    def _set_service_users(self, *names: str) -> None:
        ids = [self.people[name].key.uuid for name in names]
        response = self.root.put(f"/services/{self.service.uuid}", {"userIds": ids})
        assert response.status_int == 200, response.body

    def _identify(self, response: Any) -> Thing:
        assert response.status_int == 200, response.body
        return _name(response.json)

    def _add_answered(self, name: str, owner: Client) -> None:
        """Let the owner submit a set and answer for it as the service, with a file each."""
        reads, answered = owner.upload("reads.fq", b"ACGT"), owner.stage(ID="answered", Reads="reads.fq")
        response = owner.submit([answered], [reads])
        assert response.status_int == 200, response.body
        report = owner.upload("report.txt", b"fine")
        path = f"/service-execution/{self.service.uuid}/{answered['id']['uuid']}"
        body = {"record": {"Quality": "good", "Report": "report.txt"}, "fileIds": [report["id"]["uuid"]]}
        self._identify(owner.post(path, body))
        self.things["file", "submitted", name] = _name(reads)
        self.things["file", "executed", name] = _name(report)
        self.things["metadataset", "executed", name] = _name(answered)

    def _add_user(self, state: str, owner: Client) -> Thing:
        user = self.portal.add_user(self._name_group(owner), site_admin=state.endswith("site admin"))
        return Thing(user.uuid, user.site_id)

    def _name_group(self, owner: Client) -> str:
        return ELSEWHERE if owner is self.people["stranger"].key else HOME

    def _add_group(self, state: str, owner: Client) -> Thing:
        return Thing(owner.group, self.groups[owner.group])

    def _add_key(self, state: str, owner: Client) -> Thing:
        return self._identify(owner.post("/keys", {"label": "spare"}))

    def _add_session(self, state: str, owner: Client) -> Thing:
        return self._identify(sign_in(owner).get("/sessions/current"))

    def _add_metadatum(self, state: str, owner: Client) -> Thing:
        return _name(self.metadatum)

    def _add_metadataset(self, state: str, owner: Client) -> Thing:
        made = owner.stage(ID=state)
        if state == "submitted":
            self._identify(owner.submit([made]))
        return _name(made)

    def _add_submission(self, state: str, owner: Client) -> Thing:
        return self._identify(owner.submit([owner.stage(ID="submission")]))

    def _add_file(self, state: str, owner: Client) -> Thing:
        if state in SENT_IN_PARTS:
            return self._add_file_in_parts(state, owner)
        announced = announce(owner)
        if state != "announced":
            assert send(owner, announced).status_int == 204
        if state == "confirmed":
            assert confirm(owner, announced).status_int == 200
        return replace(_name(announced), token=announced["requestHeaders"]["Access-Token"])

    def _add_file_in_parts(self, state: str, owner: Client) -> Thing:
        """Send the one part of a file; one that ``failed`` was announced with another checksum."""
        announced = _name(announce(owner, b"other" if state == "failed" else CONTENT))
        path = f"/files/{announced.uuid}/upload-session"
        assert owner.post(path, {"size": len(CONTENT)}).status_int == 200
        wanted = [{"number": 1, "md5": hashlib.md5(CONTENT).hexdigest()}]
        [url] = owner.post(f"{path}/part-urls", {"parts": wanted}).json["parts"]
        sent = send(owner, {"urlToUpload": url["url"], "requestHeaders": url["requestHeaders"]}, CONTENT)
        assert sent.status_int == 204, sent.body
        if state == "verifying":
            # As if it were put together, and too large to be read at once.
            fixed = {"state": FileState.VERIFYING, "storage_key": f"files/{announced.uuid}", "size": len(CONTENT)}
            self.execute(update(File).where(File.uuid == announced.uuid).values(fixed))
        elif state != "in parts":
            assert owner.post(f"{path}/complete", {}).status_int == 200
        return replace(announced, token=url["requestHeaders"]["Access-Token"])

    def _add_service(self, state: str, owner: Client) -> Thing:
        return self.service

    def _add_setting(self, state: str, owner: Client) -> Thing:
        settings = self.root.get("/appsettings").json
        key = "mail_reset_body" if state == "mail" else "support_email"
        return next(_name(setting) for setting in settings if setting["key"] == key)

    def _add_job(self, state: str, owner: Client) -> Thing:
        with self.portal.database.sessions.begin() as db:
            query = "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('default', 'tidy') RETURNING id"
            number = db.scalar(text(query))
            if state == "failed":
                db.execute(text("UPDATE procrastinate_jobs SET status = 'failed' WHERE id = :id"), {"id": number})
        return Thing(str(number))

    def _add_registration(self, state: str, owner: Client) -> Thing:
        email = f"{uuid4().hex}@example.org"
        assert self.portal.anonymous().post("/registrations", make_registration(email, owner.group)).status_int == 204
        made = next(item for item in self.root.get("/registrations").json if item["email"] == email)
        if state == "answered":
            path = f"/registrations/{made['id']['uuid']}"
            assert self.root.put(path, {"accept": False}).status_int == 204
        return _name(made)

    def _add_download(self, state: str, owner: Client) -> Thing:
        file = self.get_thing("file", "confirmed", "user")
        url: str = self.people["user"].key.get(f"/rpc/get-file-url/{file.uuid}").json["fileUrl"]
        token = url.rpartition("/")[2]
        if state == "expired token":
            is_it = DownloadToken.token_hash == hash_token(token)
            self.execute(update(DownloadToken).where(is_it).values(expires_at=utc_now() - PAST))
        return Thing(token)

    def _add_reset(self, state: str, owner: Client) -> Thing:
        user, token = self.portal.add_user(), make_token()
        expires_at = utc_now() + (-PAST if "expired" in state else PAST)
        with self.portal.database.sessions.begin() as db:
            user_id = db.scalars(text("SELECT id FROM users WHERE uuid = :uuid"), {"uuid": user.uuid}).one()
            row = {"user_id": user_id, "token_hash": hash_token(token), "expires_at": expires_at}
            db.execute(insert(PasswordToken).values(row))
        return Thing("0", token=token)


def make_registration(email: str, group: str) -> dict[str, Any]:
    """Return a wish for an account."""
    return {
        "name": "Newcomer",
        "email": email,
        "org_select": group,
        "org_create": None,
        "org_new_name": None,
        "check_user_agreement": True,
    }


def _name(made: dict[str, Any]) -> Thing:
    return Thing(made["id"]["uuid"], made["id"].get("site", ""))


_COLUMNS = text(
    "SELECT table_name, column_name FROM information_schema.columns JOIN information_schema.tables "
    "USING (table_schema, table_name) WHERE table_schema = 'public' AND table_type = 'BASE TABLE' "
    "AND NOT (SELECT relispartition FROM pg_class WHERE oid = quote_ident(table_name)::regclass) "
    "ORDER BY table_name, ordinal_position"
)
