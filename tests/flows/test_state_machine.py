"""Staging as a state machine: whatever is done in whatever order, the portal says and holds what a few dicts do.

After each step the database is compared with the model as a whole, and the stored content of confirmed files
with their checksums; what the API lists and hides is looked at list by list and user by user in between, and
whole at the end.
``DATAMETA_FUZZ_EXAMPLES`` and ``DATAMETA_FUZZ_STEPS`` choose a longer run, with other steps each time.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import pytest
import webtest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from datameta.logic import parts
from datameta.logic.ownership import adopt_store
from datameta.logic.sweep import sweep
from tests.conftest import Client, Portal, empty_tables, send

EXAMPLES = int(os.environ.get("DATAMETA_FUZZ_EXAMPLES", "30"))
STEPS = int(os.environ.get("DATAMETA_FUZZ_STEPS", "40"))
NAMES = ("a.fq", "b.fq", "Ä ö.fq")
BAD_NAMES = ("../a.fq", "a\nb", " a.fq", "x" * 256)
CONTENTS = (b"ACGT", b"TTTT", b"")
ALGORITHMS = ("md5", "sha256")
PART = 3
"""How many bytes a part of an upload session has here."""
NOTE_RULES = ("", "[a-z]+")
OWNER = None

files, metadatasets = Bundle("files"), Bundle("metadatasets")
in_parts = Bundle("in parts")
"""Those of the files that are sent in parts at first."""
asker = st.sampled_from((OWNER, OWNER, OWNER, OWNER, 0, 1, 2))
records = st.fixed_dictionaries(
    {
        "ID": st.sampled_from((None, None, *"123456789")),
        "Sample": st.sampled_from((None, "s", "t")),
        "File": st.sampled_from((None, *NAMES)),
        "Note": st.sampled_from((None, "abc", "abc", "123")),
    }
)


@dataclass
class ModelFile:
    """A file as its owner knows it; ``checksum`` is of what was announced, ``content`` what was sent last.

    In an upload session, for ``size`` bytes, ``wanted`` are the parts as they were announced last, ``sent`` as they
    were sent last, and ``urls`` where they went. ``has_url`` says whether the address for the whole is still good.
    """

    owner: int
    name: str
    checksum: str
    announced: dict[str, Any]
    content: bytes | None = None
    is_open: bool = True
    is_confirmed: bool = False
    submission: str | None = None
    has_url: bool = True
    is_failed: bool = False
    size: int | None = None
    wanted: dict[int, bytes] = field(default_factory=dict)
    sent: dict[int, bytes] = field(default_factory=dict)
    urls: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def state(self) -> str:
        return "confirmed" if self.is_confirmed else "failed" if self.is_failed else "announced"

    @property
    def arrived(self) -> dict[int, bytes]:
        """The parts that are as they were announced last, by number."""
        return {number: self.sent[number] for number in sorted(self.sent) if self.sent[number] == self.wanted[number]}

    @property
    def is_whole(self) -> bool:
        """Whether all parts of the session have arrived."""
        return self.size is not None and len(self.arrived) == max(1, -(-self.size // PART))

    def cut(self, number: int, content: bytes) -> bytes:
        """Return what a part has if the whole begins with this content."""
        assert self.size is not None
        return content.ljust(self.size, b"G")[: self.size][(number - 1) * PART : number * PART]

    def join(self) -> bytes:
        return b"".join(self.arrived.values())


@dataclass
class ModelSet:
    """A metadataset; ``result`` is what the service answered."""

    owner: int
    record: dict[str, str | None]
    submission: str | None = None
    result: str | None = None


@dataclass
class Model:
    """All there is. What was deleted is remembered in ``owners`` only."""

    files: dict[str, ModelFile] = field(default_factory=dict)
    sets: dict[str, ModelSet] = field(default_factory=dict)
    submissions: dict[str, tuple[int, str | None]] = field(default_factory=dict)
    owners: dict[str, int] = field(default_factory=dict)
    note_rule: str = ""
    is_note_mandatory: bool = False

    def fits(self, record: dict[str, str | None]) -> bool:
        """Say whether a record passes today's definitions."""
        note = record["Note"]
        return not self.is_note_mandatory if note is None else bool(re.fullmatch(self.note_rule or ".*", note))

    def may_submit(self, user: int, set_ids: Iterable[str], file_ids: Iterable[str]) -> bool:
        """Say whether the user may submit just these."""
        chosen_sets = [self.sets.get(uuid) for uuid in set(set_ids)]
        chosen_files = [self.files.get(uuid) for uuid in set(file_ids)]
        chosen = [*chosen_sets, *chosen_files]
        if not chosen or not all(item and item.owner == user and not item.submission for item in chosen):
            return False
        if not all(file.is_confirmed for file in chosen_files):
            return False
        rows = [item.record for item in chosen_sets]
        columns = {name: [row[name] for row in rows if row[name]] for name in ("ID", "Sample", "File")}
        taken = {item.record["ID"] for item in self.sets.values() if item.submission}
        return (
            all(map(self.fits, rows))
            and all(len(set(column)) == len(column) for column in columns.values())
            and sorted(columns["File"]) == sorted(file.name for file in chosen_files)
            and not taken & set(columns["ID"])
        )


class Staging(RuleBasedStateMachine):
    """Three users of two groups, and an administrator who changes the rules meanwhile."""

    def __init__(self, portal: Portal) -> None:
        super().__init__()
        empty_tables(portal.database)
        adopt_store(portal.database.sessions, portal.storage)
        self.portal = portal
        self.model = Model()
        self.admin = portal.add_user("Office", site_admin=True)
        self.users = [portal.add_user(group) for group in ("Lab A", "Lab A", "Lab B")]
        self.service = self.admin.post("/services", {"name": "Analysis"}).json["id"]["uuid"]
        self.bot = 2
        self.admin.put(f"/services/{self.service}", {"userIds": [self.users[self.bot].uuid]})
        self.admin.add_field("ID", isSiteUnique=True, order=1)
        self.admin.add_field("Sample", isSubmissionUnique=True, order=2)
        self.admin.add_field("File", isFile=True, order=3)
        self.note = self.admin.add_field("Note", order=4)
        self.admin.add_field("Result", serviceId=self.service, order=5)
        self.looks = cycle([(look, user) for user in range(3) for one in self.LOOKS for look in (one, None)])

    # The lists that rules choose from are never empty.

    @initialize(target=files, user=st.integers(0, 2), name=st.sampled_from(NAMES))
    def begin_with_a_file(self, user: int, name: str) -> str:
        return self.announce(user, name, CONTENTS[0], "md5", True)

    @initialize(targets=(files, in_parts), user=st.integers(0, 2), content=st.sampled_from(CONTENTS))
    def begin_in_parts(self, user: int, content: bytes) -> str:
        uuid = self.announce(user, NAMES[0], CONTENTS[0], "md5", True)
        self.open_session(uuid, OWNER, content)
        self.announce_part(uuid, OWNER, 1, content, True)
        return uuid

    @initialize(target=metadatasets, user=st.integers(0, 2), record=records)
    def begin_with_a_set(self, user: int, record: dict[str, str | None]) -> str:
        return self.stage(user, record)

    # Files.

    @rule(target=files, user=st.integers(0, 2), name=st.sampled_from(NAMES), content=st.sampled_from(CONTENTS),
          algorithm=st.sampled_from(ALGORITHMS), is_sent=st.booleans())  # fmt: skip
    def announce(self, user: int, name: str, content: bytes, algorithm: str, is_sent: bool) -> str:
        checksum = hashlib.new(algorithm, content).hexdigest()
        answer = self.users[user].post("/files", {"name": name, "checksum": checksum})
        assert answer.status_int == 200, answer.body
        uuid: str = answer.json["id"]["uuid"]
        self.model.files[uuid] = ModelFile(user, name, checksum, answer.json)
        self.model.owners[uuid] = user
        if is_sent:
            self.upload(uuid, content, False)
        return uuid

    @rule(uuid=files, content=st.sampled_from(CONTENTS), is_torn=st.booleans())
    def upload(self, uuid: str, content: bytes, is_torn: bool) -> None:
        file = self.model.files.get(uuid)
        if file is None:
            return
        torn = {"Content-Length": str(len(content) + 1)} if is_torn else {}
        answer = send(self.users[file.owner], file.announced, content, **torn)
        if not file.has_url:
            assert answer.status_int == 404, answer.body
        elif file.is_confirmed:
            assert answer.status_int == 409, answer.body
        elif not file.is_open:
            assert answer.status_int == 404, answer.body
        elif is_torn:
            assert answer.status_int == 400, answer.body
        else:
            assert answer.status_int == 204, answer.body
            file.content = content

    @rule(uuid=files, who=asker, name=st.sampled_from((None, None, *NAMES)))
    def confirm(self, uuid: str, who: int | None, name: str | None) -> None:
        was_failed = uuid in self.model.files and self.model.files[uuid].is_failed
        answer = self.ask(uuid, who, "put", "/files", {"contentUploaded": True} | ({"name": name} if name else {}))
        file = self.expect_open(uuid, who, answer)
        if file is None:
            return
        if file.size is not None:
            self.expect_completion(file, answer, is_v1=True)
            # Only what is refused for its parts is as it was before.
            file.name = name or file.name if file.is_confirmed or (file.is_failed and not was_failed) else file.name
        elif file.content is None:
            assert answer.status_int == 400, answer.body
        elif digest(file, file.content) != file.checksum:
            assert answer.status_int == 409, answer.body
        else:
            assert answer.status_int == 200, answer.body
            file.is_confirmed, file.name = True, name or file.name

    @rule(uuid=files, who=asker, name=st.sampled_from((*NAMES, *BAD_NAMES[:2])))
    def rename(self, uuid: str, who: int | None, name: str) -> None:
        answer = self.ask(uuid, who, "put", "/files", {"name": name})
        file = self.expect_open(uuid, who, answer)
        if file is not None and name in BAD_NAMES:
            assert answer.status_int == 400, answer.body
        elif file is not None:
            assert answer.status_int == 200, answer.body
            file.name = name

    @rule(uuid=files, who=asker, content=st.sampled_from(CONTENTS), algorithm=st.sampled_from(ALGORITHMS))
    def change_checksum(self, uuid: str, who: int | None, content: bytes, algorithm: str) -> None:
        checksum = hashlib.new(algorithm, content).hexdigest()
        answer = self.ask(uuid, who, "put", "/files", {"checksum": checksum})
        file = self.expect_open(uuid, who, answer)
        if file is not None:
            assert answer.status_int == 200, answer.body
            if len(checksum) != len(file.checksum) and file.size is None:
                # The upload begins anew.
                file.content = None
            file.checksum = checksum

    @rule(uuid=files, who=asker)
    def delete_file(self, uuid: str, who: int | None) -> None:
        answer = self.ask(uuid, who, "delete", "/files")
        self.expect_deletion([uuid], who, answer, self.model.files)

    @rule(uuids=st.lists(files, max_size=3), who=asker)
    def delete_files(self, uuids: list[str], who: int | None) -> None:
        answer = self.pick(uuids, who).post("/rpc/delete-files", {"fileIds": uuids})
        self.expect_deletion(uuids, who, answer, self.model.files)

    @rule(uuid=files | in_parts, is_swept=st.booleans())
    def expire(self, uuid: str, is_swept: bool) -> None:
        with self.portal.database.engine.begin() as connection:
            query = "UPDATE files SET upload_expires_at = now() - interval '2 hours' WHERE uuid = :uuid"
            connection.execute(text(query), {"uuid": uuid})
        file = self.model.files.get(uuid)
        if file is not None:
            file.is_open = False
        if is_swept:
            sweep(self.portal.database.sessions, self.portal.storage)
            for old in [uuid for uuid, it in self.model.files.items() if it.state == "announced" and not it.is_open]:
                del self.model.files[old]

    @rule(uuid=files | in_parts, who=asker)
    def renew_url(self, uuid: str, who: int | None) -> None:
        answer = self.ask(uuid, who, "post", "/files", then="/upload-url")
        file = self.expect_open(uuid, who, answer)
        if file is not None and file.size is not None:
            assert answer.status_int == 409, answer.body
        elif file is not None and not file.is_open:
            assert answer.status_int == 410, answer.body
        elif file is not None:
            assert answer.status_int == 200, answer.body
            file.announced, file.has_url = answer.json, True

    # Files sent in parts.

    @rule(uuid=files, who=asker, content=st.sampled_from(CONTENTS))
    def open_session(self, uuid: str, who: int | None, content: bytes) -> None:
        size = len(content)
        answer = self.ask(uuid, who, "post", "/files", {"size": size}, then="/upload-session")
        file = self.expect_open(uuid, who, answer)
        if file is not None and file.size not in (None, size):
            assert answer.status_int == 409, answer.body
        elif file is not None:
            assert answer.status_int == 200, answer.body
            assert answer.json["partSize"] == PART
            if file.size is None:
                file.size, file.content, file.has_url, file.is_open = size, None, False, True

    @rule(uuid=in_parts, who=asker, number=st.sampled_from((1, 1, 2, 3)), content=st.sampled_from(CONTENTS),
          is_sent=st.booleans())  # fmt: skip
    def announce_part(self, uuid: str, who: int | None, number: int, content: bytes, is_sent: bool) -> None:
        file = self.model.files.get(uuid)
        part = file.cut(number, content) if file is not None and file.size is not None else b""
        body = {"parts": [{"number": number, "md5": hashlib.md5(part).hexdigest()}]}
        answer = self.ask(uuid, who, "post", "/files", body, then="/upload-session/part-urls")
        file = self.expect_open(uuid, who, answer)
        if file is None:
            return
        if file.size is None:
            assert answer.status_int == 404, answer.body
        elif file.is_failed:
            assert answer.status_int == 409, answer.body
        elif not file.is_open:
            assert answer.status_int == 410, answer.body
        elif number > max(1, -(-file.size // PART)):
            assert answer.status_int == 400, answer.body
        else:
            assert answer.status_int == 200, answer.body
            file.wanted[number], [file.urls[number]] = part, answer.json["parts"]
            if is_sent:
                self.send_part(uuid, number, part)

    @rule(uuid=in_parts, number=st.sampled_from((1, 1, 2)), content=st.sampled_from((*CONTENTS, b"ACG", b"T")))
    def send_part(self, uuid: str, number: int, content: bytes) -> None:
        file = self.model.files.get(uuid)
        if file is None or number not in file.urls:
            return
        url = {"urlToUpload": file.urls[number]["url"], "requestHeaders": file.urls[number]["requestHeaders"]}
        answer = send(self.users[file.owner], url, content)
        wanted = file.wanted.get(number)
        if wanted is None or file.is_confirmed:
            assert answer.status_int == 404, answer.body
        elif file.is_failed:
            assert answer.status_int == 409, answer.body
        elif not file.is_open:
            assert answer.status_int == 404, answer.body
        elif content == wanted:
            assert answer.status_int == 204, answer.body
            file.sent[number] = content
        else:
            assert answer.status_int == (413 if len(content) > len(wanted) else 400), answer.body

    @rule(uuid=in_parts, who=asker, content=st.sampled_from((None, None, *CONTENTS)),
          algorithm=st.sampled_from(ALGORITHMS))  # fmt: skip
    def complete_session(self, uuid: str, who: int | None, content: bytes | None, algorithm: str) -> None:
        checksum = None if content is None else hashlib.new(algorithm, content).hexdigest()
        body = {} if checksum is None else {"checksum": checksum}
        answer = self.ask(uuid, who, "post", "/files", body, then="/upload-session/complete")
        file = self.model.files.get(uuid)
        if file is None or (file.owner == self.index([uuid], who) and file.size is None):
            assert answer.status_int == 404, answer.body
        elif file.owner != self.index([uuid], who):
            assert answer.status_int == 403, answer.body
        elif file.is_confirmed:
            assert answer.status_int == (200 if checksum in (None, file.checksum) else 403), answer.body
        else:
            former, was_failed, file.checksum = file.checksum, file.is_failed, checksum or file.checksum
            self.expect_completion(file, answer, is_v1=False)
            if not file.is_confirmed and was_failed == file.is_failed:
                file.checksum = former

    @rule(uuid=in_parts, who=asker)
    def abort_session(self, uuid: str, who: int | None) -> None:
        answer = self.ask(uuid, who, "delete", "/files", then="/upload-session")
        file = self.expect_open(uuid, who, answer)
        if file is not None and file.size is None:
            assert answer.status_int == 404, answer.body
        elif file is not None:
            assert answer.status_int == 204, answer.body
            file.size, file.wanted, file.sent, file.is_failed, file.is_open = None, {}, {}, False, True

    @rule(targets=(files, in_parts), user=st.integers(0, 2), name=st.sampled_from(NAMES),
          content=st.sampled_from(CONTENTS), algorithm=st.sampled_from(ALGORITHMS), is_late=st.booleans())  # fmt: skip
    def send_in_parts(self, user: int, name: str, content: bytes, algorithm: str, is_late: bool) -> str:
        """Announce, open, send and complete; ``is_late``: the checksum is only known at the end."""
        uuid = self.announce(user, name, b"provisional" if is_late else content, algorithm, False)
        self.open_session(uuid, OWNER, content)
        for number in range(1, max(1, -(-len(content) // PART)) + 1):
            self.announce_part(uuid, OWNER, number, content, True)
        self.complete_session(uuid, OWNER, content if is_late else None, algorithm)
        return uuid

    # Metadatasets.

    @rule(target=metadatasets, user=st.integers(0, 2), record=records)
    def stage(self, user: int, record: dict[str, str | None]) -> str:
        answer = self.users[user].post("/metadatasets", {"record": record})
        if not self.model.fits(record):
            assert answer.status_int == 400, answer.body
            return self.stage(user, {**record, "Note": "abc"})
        assert answer.status_int == 200, answer.body
        uuid: str = answer.json["id"]["uuid"]
        self.model.sets[uuid] = ModelSet(user, record)
        self.model.owners[uuid] = user
        return uuid

    @rule(uuid=metadatasets, who=asker, record=records)
    def change_set(self, uuid: str, who: int | None, record: dict[str, str | None]) -> None:
        answer = self.ask(uuid, who, "put", "/metadatasets", {"record": record})
        chosen = self.model.sets.get(uuid)
        if chosen is None:
            assert answer.status_int == 404, answer.body
        elif chosen.owner != self.index([uuid], who) or chosen.submission:
            assert answer.status_int == 403, answer.body
        elif not self.model.fits(record):
            assert answer.status_int == 400, answer.body
        else:
            assert answer.status_int == 200, answer.body
            chosen.record = record

    @rule(uuid=metadatasets, who=asker)
    def delete_set(self, uuid: str, who: int | None) -> None:
        answer = self.ask(uuid, who, "delete", "/metadatasets")
        self.expect_deletion([uuid], who, answer, self.model.sets)

    @rule(uuids=st.lists(metadatasets, max_size=3), who=asker)
    def delete_sets(self, uuids: list[str], who: int | None) -> None:
        answer = self.pick(uuids, who).post("/rpc/delete-metadatasets", {"metadatasetIds": uuids})
        self.expect_deletion(uuids, who, answer, self.model.sets)

    @rule(uuid=files, user=st.integers(0, 2), name=st.sampled_from(BAD_NAMES))
    def send_nonsense(self, uuid: str, user: int, name: str) -> None:
        client = self.users[user]
        assert client.post("/files", {"name": name, "checksum": "0" * 32}).status_int == 400
        assert client.post("/files", {"name": "a.fq", "checksum": "0" * 33}).status_int == 400
        for record in ({"Unknown": "1"}, {"Result": "of the service"}, {"ID": ["1"]}):
            assert client.post("/metadatasets", {"record": record}).status_int == 400
        headers = {"Access-Token": "x" * 64, "Content-Type": "application/octet-stream"}
        answer = self.portal.anonymous().put(f"/upload/{uuid}", params=b"stray", headers=headers)
        assert answer.status_int == 404, answer.body

    # Submissions, and what comes after.

    @rule(target=metadatasets, user=st.integers(0, 2), rows=st.lists(records, min_size=2, max_size=3))
    def hand_in(self, user: int, rows: list[dict[str, str | None]]) -> Any:
        """Stage sets and submit them with what they name."""
        set_ids = [self.stage(user, row) for row in rows]
        self.submit_with_files(set_ids)
        return multiple(*set_ids)

    @rule(set_ids=st.lists(metadatasets, max_size=3), file_ids=st.lists(files, max_size=3), who=asker)
    def prevalidate(self, set_ids: list[str], file_ids: list[str], who: int | None) -> None:
        # That nothing was written, the comparison of the whole database will tell.
        body = {"metadatasetIds": set_ids, "fileIds": file_ids}
        user = self.index([*set_ids, *file_ids], who)
        is_good = self.model.may_submit(user, set_ids, file_ids)
        assert self.users[user].post("/presubvalidation", body).status_int == (204 if is_good else 400)

    @rule(set_ids=st.lists(metadatasets, max_size=3), file_ids=st.lists(files, max_size=3), who=asker,
          label=st.sampled_from((None, "Batch")))  # fmt: skip
    def submit(self, set_ids: list[str], file_ids: list[str], who: int | None, label: str | None) -> None:
        user = self.index([*set_ids, *file_ids], who)
        body = {"metadatasetIds": set_ids, "fileIds": file_ids, "label": label}
        forecast = self.users[user].post("/presubvalidation", body)
        answer = self.users[user].post("/submissions", body)
        if not self.model.may_submit(user, set_ids, file_ids):
            assert (answer.status_int, forecast.status_int) == (400, 400), answer.body
            assert answer.json == forecast.json
            return
        assert (answer.status_int, forecast.status_int) == (200, 204), answer.body
        submission: str = answer.json["id"]["uuid"]
        self.model.submissions[submission] = (user, label)
        for uuid in set_ids:
            self.model.sets[uuid].submission = submission
        for uuid in file_ids:
            self.model.files[uuid].submission = submission

    @rule(target=files, set_ids=st.lists(metadatasets, min_size=1, max_size=5, unique=True))
    def submit_with_files(self, set_ids: list[str]) -> Any:
        """Send and confirm what the sets of one owner name, so that few reasons are left to refuse them."""
        owner = self.model.owners[set_ids[0]]
        chosen = {uuid: self.model.sets[uuid] for uuid in set_ids if uuid in self.model.sets}
        names = [item.record["File"] for item in chosen.values() if item.owner == owner]
        sent = [self.announce(owner, name, CONTENTS[0], "md5", True) for name in dict.fromkeys(names) if name]
        for uuid in sent:
            self.confirm(uuid, OWNER, None)
        self.submit([uuid for uuid in chosen if chosen[uuid].owner == owner], sent, owner, None)
        return multiple(*sent)

    @rule(uuid=metadatasets, who=st.sampled_from((2, 2, 2, 0)), result=st.sampled_from(("good", "poor")))
    def execute_service(self, uuid: str, who: int, result: str) -> None:
        body = {"record": {"Result": result}, "fileIds": []}
        answer = self.users[who].post(f"/service-execution/{self.service}/{uuid}", body)
        chosen = self.model.sets.get(uuid)
        if chosen is None:
            assert answer.status_int == 404, answer.body
        elif who != self.bot or chosen.submission is None or chosen.result is not None:
            assert answer.status_int == 403, answer.body
        else:
            assert answer.status_int == 200, answer.body
            chosen.result = result

    @rule(note_rule=st.sampled_from(NOTE_RULES), is_mandatory=st.sampled_from((False, False, True)))
    def change_metadatum(self, note_rule: str, is_mandatory: bool) -> None:
        definition = {key: value or "" for key, value in self.note.items() if key != "id"}
        definition |= {"serviceId": None, "regExp": note_rule, "isMandatory": is_mandatory}
        for key in ("isFile", "isSubmissionUnique", "isSiteUnique"):
            definition[key] = False
        answer = self.admin.put(f"/metadata/{self.note['id']['uuid']}", definition)
        assert answer.status_int == 200, answer.body
        self.model.note_rule, self.model.is_note_mandatory = note_rule, is_mandatory
        staged = [item.record for item in self.model.sets.values() if item.submission is None]
        assert int(answer.headers["DataMeta-Affected"]) == sum(not self.model.fits(record) for record in staged)

    # What holds after each step.

    @invariant()
    def the_database_is_the_model(self) -> None:
        owners = {client.uuid: number for number, client in enumerate(self.users)}
        with self.portal.database.engine.connect() as connection:
            found = connection.execute(
                text(
                    "SELECT f.uuid::text, u.uuid::text, f.name, f.checksum, f.state, s.uuid::text, f.storage_key"
                    " FROM files f JOIN users u ON u.id = f.user_id LEFT JOIN submissions s ON s.id = f.submission_id"
                )
            ).all()
            sets = connection.execute(
                text(
                    "SELECT m.uuid::text, u.uuid::text, s.uuid::text, e.record, m.record,"
                    " (SELECT json_object_agg(id, name) FROM metadata)"
                    " FROM metadatasets m JOIN users u ON u.id = m.user_id"
                    " LEFT JOIN submissions s ON s.id = m.submission_id"
                    " LEFT JOIN service_executions e ON e.metadataset_id = m.id"
                )
            ).all()
            claims = connection.execute(text("SELECT count(*) FROM unique_claims")).scalar_one()
        assert {row[0]: (owners[row[1]], *row[2:6]) for row in found} == {
            uuid: (
                file.owner,
                file.name,
                file.checksum,
                file.state,
                file.submission,
            )
            for uuid, file in self.model.files.items()
        }
        assert {
            uuid: (owners[owner], submission, [*(result or {}).values()], {names[key]: record[key] for key in record})
            for uuid, owner, submission, result, record, names in sets
        } == {
            uuid: (item.owner, item.submission, [item.result] if item.result else [], without_nulls(item.record))
            for uuid, item in self.model.sets.items()
        }
        for row in found:
            if row.storage_key is not None:
                file, content = self.model.files[row[0]], b"".join(self.portal.storage.read(row.storage_key))
                assert (digest(file, content) == row.checksum) == file.is_confirmed
                assert file.size is None or content == file.join()
        taken = [item.record["ID"] for item in self.model.sets.values() if item.submission and item.record["ID"]]
        assert claims == len(taken) == len(set(taken))

    @invariant()
    def the_api_says_what_the_model_does(self) -> None:
        # One look after every other step, all of them at the end: it is the requests that take the time.
        look, user = next(self.looks)
        if look is not None:
            look(self, user)

    def teardown(self) -> None:
        for user in range(3):
            for look in self.LOOKS:
                look(self, user)

    def look_at_staged_files(self, user: int) -> None:
        assert [
            (item["id"]["uuid"], item["name"], item["checksum"], item["contentUploaded"])
            for item in self.users[user].get("/staged/files").json
        ] == [
            (uuid, file.name, file.checksum, file.is_confirmed)
            for uuid, file in reversed(self.model.files.items())
            if file.owner == user and not file.submission
        ]

    def look_at_sessions(self, user: int) -> None:
        for uuid, file in self.model.files.items():
            if file.owner == user and file.size is not None:
                path = f"/files/{uuid}/upload-session"
                state = {"announced": "open", "confirmed": "verified", "failed": "failed"}[file.state]
                session, listed = self.users[user].get(path).json, self.users[user].get(f"{path}/parts")
                assert (session["state"], session["size"], session["checksum"]) == (state, file.size, file.checksum)
                if file.state == "announced":
                    assert {part["number"]: (part["size"], part["md5"]) for part in listed.json} == {
                        number: (len(part), hashlib.md5(part).hexdigest()) for number, part in file.arrived.items()
                    }
                else:
                    assert listed.status_int == 409, listed.body

    def look_at_staged_sets(self, user: int) -> None:
        listed = self.users[user].get("/staged/metadatasets").json
        assert [(item["id"]["uuid"], item["record"]) for item in listed] == [
            (uuid, self.shown(user, item))
            for uuid, item in reversed(self.model.sets.items())
            if item.owner == user and not item.submission
        ]

    def look_at_submitted_sets(self, user: int) -> None:
        mates = self.mates(user)
        submitted = {uuid: item for uuid, item in self.model.sets.items() if item.submission and item.owner in mates}
        answer = self.users[user].get("/metadatasets")
        assert answer.status_int == (200 if submitted else 404)
        shown = {item["id"]["uuid"]: item["record"] for item in answer.json} if submitted else {}
        assert shown == {uuid: self.shown(user, item) for uuid, item in submitted.items()}

    def look_at_submissions(self, user: int) -> None:
        listed = self.users[user].get(f"/groups/{self.users[user].group}/submissions").json
        assert {
            item["id"]["uuid"]: (item["label"], uuids_of(item["metadatasetIds"]), uuids_of(item["fileIds"]))
            for item in listed
        } == {
            uuid: (label, self.members(self.model.sets, uuid), self.members(self.model.files, uuid))
            for uuid, (owner, label) in self.model.submissions.items()
            if owner in self.mates(user)
        }

    def look_at_what_others_staged(self, user: int) -> None:
        for path, things in (("/files", self.model.files), ("/metadatasets", self.model.sets)):
            foreign = [uuid for uuid, thing in things.items() if thing.owner != user and not thing.submission]
            for uuid in foreign[-1:]:
                assert self.users[user].get(f"{path}/{uuid}").status_int == 403

    LOOKS = (
        look_at_staged_files,
        look_at_sessions,
        look_at_staged_sets,
        look_at_submitted_sets,
        look_at_submissions,
        look_at_what_others_staged,
    )

    # Helpers.

    def shown(self, user: int, item: ModelSet) -> dict[str, str | None]:
        """Return a record as this user sees it: the service's field once it has answered, and for its users only."""
        return item.record | ({"Result": item.result} if item.result and user == self.bot else {})

    def mates(self, user: int) -> list[int]:
        """Return who is in the user's group."""
        return [number for number, other in enumerate(self.users) if other.group == self.users[user].group]

    def members(self, things: dict[str, Any], submission: str) -> set[str]:
        return {uuid for uuid, thing in things.items() if thing.submission == submission}

    def index(self, uuids: Sequence[str], who: int | None) -> int:
        """Return who asks: the owner of the first thing, or whoever was chosen."""
        if who is not OWNER:
            return who
        return self.model.owners[uuids[0]] if uuids else 0

    def pick(self, uuids: Sequence[str], who: int | None) -> Client:
        return self.users[self.index(uuids, who)]

    def ask(
        self, uuid: str, who: int | None, method: str, path: str, body: Any = None, *, then: str = ""
    ) -> webtest.TestResponse:
        return self.pick([uuid], who).request(method, f"{path}/{uuid}{then}", body)

    def expect_open(self, uuid: str, who: int | None, answer: webtest.TestResponse) -> ModelFile | None:
        """Return a file that the asker may change, or check that the answer is the right refusal."""
        file = self.model.files.get(uuid)
        if file is None:
            assert answer.status_int == 404, answer.body
        elif file.owner != self.index([uuid], who) or file.is_confirmed:
            assert answer.status_int == 403, answer.body
            return None
        return file

    def expect_completion(self, file: ModelFile, answer: webtest.TestResponse, *, is_v1: bool) -> None:
        """Check how the completion of a session went, and note it: wrong content is 409 in v1, else ``failed``."""
        was_failed = file.is_failed
        if not file.arrived:
            assert answer.status_int == 400, answer.body
        elif not file.is_whole:
            assert answer.status_int == 409, answer.body
        else:
            file.is_confirmed = digest(file, file.join()) == file.checksum
            file.is_failed = not file.is_confirmed
            is_refused = file.is_failed and (is_v1 or was_failed)
            assert answer.status_int == (409 if is_refused else 200), answer.body

    def expect_deletion(
        self, uuids: list[str], who: int | None, answer: webtest.TestResponse, things: dict[str, Any]
    ) -> None:
        """Check that all were deleted, or none for the right reason."""
        found = [things.get(uuid) for uuid in uuids]
        user = self.index(uuids, who)
        if None in found:
            assert answer.status_int == 404, answer.body
        elif any(thing.owner != user or thing.submission for thing in found):
            assert answer.status_int == 403, answer.body
        else:
            assert answer.status_int == 204, answer.body
            for uuid in set(uuids):
                del things[uuid]


def digest(file: ModelFile, content: bytes) -> str:
    """Return the checksum of content, of the kind that was announced."""
    return hashlib.new("md5" if len(file.checksum) == 32 else "sha256", content).hexdigest()


def uuids_of(identifiers: Iterable[dict[str, str]]) -> set[str]:
    return {identifier["uuid"] for identifier in identifiers}


def without_nulls(record: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in record.items() if value is not None}


@pytest.mark.usefixtures("database")
def test_staging_is_what_the_model_says(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SMALLEST_PART", PART)
    monkeypatch.setattr(parts, "MIB", 1)
    # The same steps every time, unless a longer run is asked for.
    run_state_machine_as_test(
        lambda: Staging(portal),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            derandomize="DATAMETA_FUZZ_EXAMPLES" not in os.environ,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
