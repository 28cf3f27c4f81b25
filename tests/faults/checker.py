"""The checker: holds every answer that clients were given against the database and the store, read past the portal.

The rule: what was answered is true, and what was not answered is done or not done, never half. It runs when all is
healthy and swept, so nothing may be on its way any more. It believes nothing that the portal says of itself.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from datameta.storage.s3 import MARK
from tests.faults.clients import SAMPLE
from tests.faults.history import UNSURE, Event, make_content

LOST, CHANGED, TORN, DUPLICATE = "lost", "changed", "torn", "duplicate"
UNDELETED, UNFINISHED, FAILED, UNTRUE = "undeleted", "unfinished", "failed answer", "untrue answer"
UNTRIED = "hardly tried"
KINDS = (LOST, CHANGED, TORN, DUPLICATE, UNDELETED, UNFINISHED, FAILED, UNTRUE, UNTRIED)

PORTAL = ("the whole portal", "a portal process")
CONFIRMED, ANNOUNCED = "confirmed", "announced"
CONFIRMING = ("confirm", "complete session")
MISSING = ("no_data", "checksum_mismatch", "upload_expired", "parts_missing")


@dataclass(frozen=True)
class Finding:
    """One broken promise, with the requests that show it."""

    kind: str
    subject: str
    message: str
    events: tuple[Event, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.kind}: {self.subject}: {self.message}"]
        for event in sorted(self.events, key=lambda event: event.started):
            answer = str(event.answer)[:300]
            lines.append(
                f"  {event.started:.3f}–{event.ended:.3f} client {event.client} {event.operation} "
                f"{event.sent or ''} {event.facts} → {event.status} {answer}"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class StoredFile:
    """A row of the table of files."""

    uuid: str
    name: str
    checksum: str
    state: str
    storage_key: str | None
    size: int | None
    submission: str | None
    upload_suffix: str = ""


@dataclass(frozen=True)
class StoredContent:
    """An object as it was read from the store."""

    size: int
    md5: str
    sha256: str


@dataclass(frozen=True)
class World:
    """What is left."""

    files: Mapping[str, StoredFile] = field(default_factory=dict)
    objects: Mapping[str, StoredContent] = field(default_factory=dict)
    submissions: Mapping[str, str] = field(default_factory=dict)
    """Labels by uuid."""
    sets: Mapping[str, str | None] = field(default_factory=dict)
    """Every metadataset, and the submission it went out with."""
    values: Iterable[tuple[str, str]] = ()
    """The site-unique value of every submitted set."""
    claims: int = 0
    references: Mapping[str, str] = field(default_factory=dict)
    """The set that names a submitted file, by file."""


def read_world(read: Callable[[str], list[Any]], objects: Mapping[str, StoredContent]) -> World:
    """Read the database by the function ``read``, which takes a query."""
    files = read(
        "SELECT f.uuid::text, f.name, f.checksum, f.state, f.storage_key, f.size, s.uuid::text, f.upload_suffix "
        "FROM files f LEFT JOIN submissions s ON s.id = f.submission_id"
    )
    sample = f"(SELECT id FROM metadata WHERE name = '{SAMPLE}')"
    sets = "SELECT m.uuid::text, s.uuid::text FROM metadatasets m LEFT JOIN submissions s ON s.id = m.submission_id"
    return World(
        files={row[0]: StoredFile(*row) for row in files},
        objects=objects,
        submissions=dict(read("SELECT uuid::text, label FROM submissions")),
        sets=dict(read(sets)),
        values=read(f"SELECT uuid::text, record ->> {sample}::text FROM metadatasets WHERE submission_id IS NOT NULL"),
        claims=read(f"SELECT count(*) FROM unique_claims WHERE metadatum_id = {sample}")[0][0],
        references=dict(
            read(
                "SELECT f.uuid::text, m.uuid::text FROM file_references r "
                "JOIN files f ON f.id = r.file_id JOIN metadatasets m ON m.id = r.metadataset_id"
            )
        ),
    )


def read_objects(client: Any, bucket: str) -> dict[str, StoredContent]:
    """Read and hash every object of a bucket, but not the mark that says whose it is."""
    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for entry in page.get("Contents", []):
            if entry["Key"] == MARK:
                continue
            md5, sha256, size = hashlib.md5(), hashlib.sha256(), 0
            for chunk in client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].iter_chunks(1024**2):
                md5.update(chunk)
                sha256.update(chunk)
                size += len(chunk)
            found[entry["Key"]] = StoredContent(size, md5.hexdigest(), sha256.hexdigest())
    return found


def find_faults(events: Iterable[Event], world: World) -> list[Finding]:
    """Return every broken promise."""
    events = list(events)
    checks: tuple[Callable[[list[Event], World], Iterator[Finding]], ...] = (
        _check_answers,
        _check_rows,
        _check_files,
        _check_repeated_announcements,
        _check_downloads,
        _check_submissions,
        _check_values,
    )
    return [finding for check in checks for finding in check(events, world)]


def find_untried(world: World, befell: Mapping[str, int], *, kills: int, stops: int, freezes: int) -> Iterator[Finding]:
    """Yield what was done too seldom for a run to prove anything."""
    confirmed = sum(file.state == CONFIRMED for file in world.files.values())
    for what, number, least in (
        ("kills of the portal", sum(befell[f"kills of {part}"] for part in PORTAL), kills),
        ("stops of PostgreSQL", befell["stops of PostgreSQL"], stops),
        ("freezes and kills of the store", befell["freezes of the store"] + befell["kills of the store"], freezes),
        ("confirmed files", confirmed, kills // 2),
        ("submissions", len(world.submissions), kills // 10),
    ):
        if number < least:
            yield Finding(UNTRIED, what, f"{number:,}, and {least:,} are the least")


def count_kinds(findings: Iterable[Finding]) -> dict[str, int]:
    """Return the number of findings of each kind, also of those there are none of."""
    counted = Counter(finding.kind for finding in findings)
    return {kind: counted[kind] for kind in KINDS}


def _check_answers(events: list[Event], world: World) -> Iterator[Finding]:
    """Nothing is answered 5xx but 503, and every refusal is a list of problems."""
    for event in events:
        if event.facts.get("to") != "portal" or event.status < 400:
            continue
        if event.status >= 500 and event.status != 503:
            yield Finding(FAILED, event.operation, f"was answered {event.status}", (event,))
        elif not isinstance(event.answer, list) or not all("error_code" in problem for problem in event.answer):
            yield Finding(FAILED, event.operation, "was refused without the list of problems", (event,))


def _check_rows(events: list[Event], world: World) -> Iterator[Finding]:
    """Every row is at rest, and every confirmed one has the content it was announced with."""
    announced = {event.facts["name"]: event for event in events if event.operation == "announce"}
    about = _group(events, "file")
    for file in world.files.values():
        subject = f"file {file.uuid} ({file.name})"
        history = tuple(about.get(file.uuid, ()))
        if file.state not in (ANNOUNCED, CONFIRMED):
            yield Finding(UNFINISHED, subject, f"is still {file.state}", history)
        if file.state == ANNOUNCED and f"files/{file.uuid}{file.upload_suffix}" in world.objects:
            yield Finding(UNFINISHED, subject, "is announced, but the store has completed it", history)
        if file.state != CONFIRMED:
            continue
        content = world.objects.get(file.storage_key or "")
        if content is None:
            yield Finding(LOST, subject, f"is confirmed, but there is nothing at {file.storage_key}", history)
            continue
        right = make_content(file.name, announced[file.name].facts["size"])
        if content.sha256 != hashlib.sha256(right).hexdigest():
            yield Finding(CHANGED, subject, f"has other content ({content.size} bytes)", history)
        if file.checksum not in (content.md5, content.sha256) or file.size != content.size:
            yield Finding(CHANGED, subject, "has another checksum or size than its content", history)


def _check_files(events: list[Event], world: World) -> Iterator[Finding]:
    """What was announced, confirmed or deleted according to an answer, is."""
    about = _group(events, "file")
    for event in events:
        if event.operation != "announce" or event.status != 200:
            continue
        uuid, name = event.answer["id"]["uuid"], event.sent["name"]
        subject, history = f"file {uuid} ({name})", about.get(uuid, [])
        seen = (event, *history)
        file = world.files.get(uuid)
        deletions = [other for other in history if other.operation == "delete"]
        deleted = [other for other in deletions if other.status == 204]
        confirmed = [other for other in history if _says_confirmed(other)]
        if deleted:
            if file is not None:
                yield Finding(UNDELETED, subject, "was deleted and is still there", seen)
            first = min(other.ended for other in deleted)
            if any(other.started > first for other in confirmed):
                yield Finding(UNTRUE, subject, "was confirmed after it was deleted", seen)
        elif not any(other.status in UNSURE for other in deletions):
            if file is None:
                yield Finding(LOST, subject, "was never deleted and is gone", seen)
            elif confirmed and file.state != CONFIRMED:
                yield Finding(LOST, subject, f"was confirmed and is {file.state}", seen)
            yield from _check_refusals(subject, seen, history)


def _check_refusals(subject: str, seen: tuple[Event, ...], history: list[Event]) -> Iterator[Finding]:
    """A file nobody deleted is found, and bytes that were taken are there when the file is confirmed."""
    for event in history:
        if event.facts.get("to") == "portal" and event.status == 404 and _code(event) == "not_found":
            yield Finding(UNTRUE, subject, f"exists, but {event.operation} was answered 404", seen)
        is_refused = event.operation in CONFIRMING and event.status in (400, 409)
        if is_refused and _code(event) in MISSING and _had_all(event, history):
            yield Finding(LOST, subject, f"its bytes were taken, but {event.operation} said {_code(event)}", seen)


def _had_all(event: Event, history: list[Event]) -> bool:
    """Say whether all bytes had been taken before something was asked for, and no others can have come after them."""
    if any(other.operation.startswith("send wrong") and other.status in UNSURE for other in history):
        return False
    before = [other for other in history if other.ended < event.started and 200 <= other.status < 300]
    parts = max((len(other.sent["parts"]) for other in before if other.operation == "sign parts"), default=0)
    if parts:
        return len({other.facts["number"] for other in before if other.operation == "send part"}) == parts
    return any(other.operation == "send" for other in before)


def _check_repeated_announcements(events: list[Event], world: World) -> Iterator[Finding]:
    """The same Idempotency-Key gets the same answer."""
    for key, same in _group(events, "Idempotency-Key").items():
        answers = {event.answer["id"]["uuid"] for event in same if event.status == 200}
        if len(answers) > 1:
            yield Finding(UNTRUE, f"Idempotency-Key {key}", "made several things", tuple(same))


def _check_downloads(events: list[Event], world: World) -> Iterator[Finding]:
    """What was fetched is what was announced."""
    sizes = {event.facts["name"]: event.facts["size"] for event in events if event.operation == "announce"}
    for event in events:
        if event.operation != "download" or event.status != 200:
            continue
        name = event.facts["name"]
        if event.answer != hashlib.sha256(make_content(name, sizes[name])).hexdigest():
            yield Finding(CHANGED, f"file {event.facts['file']} ({name})", "was fetched with other content", (event,))


def _check_submissions(events: list[Event], world: World) -> Iterator[Finding]:
    """A submission is whole or absent; an answer says which."""
    made = defaultdict(list)
    for uuid, label in world.submissions.items():
        made[label].append(uuid)
    sets, files = _members(world.sets.items()), _members((file.uuid, file.submission) for file in world.files.values())
    attempts = _group(events, "label")
    for label in made.keys() - attempts.keys():
        yield Finding(UNTRUE, f"submission {made[label]}", "was never asked for")
    for label, same in attempts.items():
        subject, seen = f"submission {made[label]} ({label})", tuple(same)
        is_accepted = any(event.status == 200 for event in same)
        if len(made[label]) > 1:
            yield Finding(DUPLICATE, subject, "was made more than once", seen)
        elif not made[label]:
            if is_accepted:
                yield Finding(LOST, subject, "was accepted and is gone", seen)
        else:
            [uuid] = made[label]
            sent = same[0].sent
            if sets[uuid] != set(sent["metadatasetIds"]) or files[uuid] != set(sent["fileIds"]):
                found = f"has sets {sorted(sets[uuid])} and files {sorted(files[uuid])}"
                yield Finding(TORN, subject, f"is not whole: {found}", seen)
            if any(world.references.get(file) not in sets[uuid] for file in files[uuid]):
                yield Finding(TORN, subject, "has a file that none of its sets names", seen)
            if not is_accepted and not any(event.status in UNSURE for event in same):
                yield Finding(UNTRUE, subject, "was refused and exists", seen)


def _check_values(events: list[Event], world: World) -> Iterator[Finding]:
    """No two submitted sets hold the same site-unique value, and each holds its claim."""
    holders = defaultdict(list)
    for uuid, value in world.values:
        holders[value].append(uuid)
    for value, uuids in holders.items():
        if len(uuids) > 1:
            involved = [event for event in events if event.operation == "submit" and _names(event, uuids)]
            yield Finding(DUPLICATE, f"value {value}", f"is held by the sets {uuids}", tuple(involved))
    if world.claims != sum(map(len, holders.values())):
        yield Finding(DUPLICATE, "claims", f"there are {world.claims} for {sum(map(len, holders.values()))} values")


def _says_confirmed(event: Event) -> bool:
    if event.status != 200:
        return False
    if event.operation == "confirm":
        return True
    if event.operation == "read":
        return bool(event.answer["contentUploaded"])
    return event.operation == "complete session" and event.answer["state"] == "verified"


def _code(event: Event) -> Any:
    return event.answer[0]["error_code"] if isinstance(event.answer, list) else event.answer


def _names(event: Event, uuids: list[str]) -> bool:
    return any(uuid in event.sent["metadatasetIds"] for uuid in uuids)


def _members(pairs: Iterable[tuple[str, str | None]]) -> dict[str | None, set[str]]:
    members: dict[str | None, set[str]] = defaultdict(set)
    for uuid, submission in pairs:
        members[submission].add(uuid)
    return members


def _group(events: Iterable[Event], fact: str) -> dict[str, list[Event]]:
    groups = defaultdict(list)
    for event in events:
        if fact in event.facts:
            groups[event.facts[fact]].append(event)
    return groups
