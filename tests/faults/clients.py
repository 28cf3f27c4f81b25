"""Clients that never die: they announce, send, confirm, race, repeat and submit, and write every answer down.

The rule: a client does only what the API's documentation allows or a hostile one could do, tries again after a cut
or a 503, and sometimes walks away instead, so that all that is half done is also left to the sweeper.
"""

import hashlib
import http.client
import itertools
import json
import random
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from tests.faults.history import CUT, UNSURE, Event, History, make_content, now

API = "/api/v1"
ANSWER_SECONDS = 60
TRIES = 60
PAUSE_SECONDS = 0.25
MEET_SECONDS = 2.0
SAMPLE, READS = "Sample", "Reads"

WRONG_FIRST = 0.15
CONFIRM_TWICE = 0.30
DELETE_IN_CONFIRMATION = 0.15
SEND_AFTER_CONFIRMATION = 0.30
SUBMIT = 0.50
DELETE_IN_SUBMISSION = 0.30
WALK_AWAY = 0.08
NO_PATIENCE = 0.3
IS_SHA256 = 0.15
HAS_IDEMPOTENCY_KEY = 0.50
BREAK_OFF = 0.05
DOWNLOAD = 0.30
IN_PARTS = 0.15
IN_SEVERAL_PARTS = 0.15
WRONG_CONTENT = b"these are other bytes than were announced"


class WalkedAwayError(Exception):
    """The client gives up what it is at, as somebody who closes a laptop."""


@dataclass(frozen=True)
class Answer:
    """What came back; ``status`` is 0 if nothing did."""

    status: int
    body: bytes = b""

    @property
    def is_good(self) -> bool:
        """Say whether it was done."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return what the body says; None if it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


@dataclass(frozen=True)
class SentFile:
    """A file as its client knows it."""

    id: str
    name: str
    content: bytes
    url: str
    headers: dict[str, str]
    is_sha256: bool

    @property
    def facts(self) -> dict[str, Any]:
        """What is noted with every request about it."""
        return {"file": self.id, "name": self.name}


@dataclass
class Client:
    """One client with one key; ``numbers`` and ``values`` are shared by all."""

    index: int
    address: str
    token: str
    history: History
    random: random.Random
    values: "Values"
    stop: threading.Event
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def run(self) -> None:
        """Work until told to stop."""
        while not self.stop.is_set():
            try:
                self.do_something()
            except WalkedAwayError:
                continue

    def do_something(self) -> None:
        """Hand in one to three files, or less than that."""
        files = [self.hand_in() for _ in range(self.random.choice((1, 1, 2, 3)))]
        confirmed = [file for file in files if file is not None]
        if confirmed and self.chance(SUBMIT):
            self.submit(confirmed)

    # One file

    def hand_in(self) -> SentFile | None:
        """Announce, send and confirm a file; return it if it is confirmed."""
        name = f"{self.index}-{next(self.numbers)}.fq"
        if self.chance(IN_PARTS):
            return self.hand_in_parts(name)
        content = make_content(name, self.random.choice((0, 1, 100, 5000, 70_000, 300_000)))
        file = self.announce(name, content, is_sha256=self.chance(IS_SHA256))
        if self.chance(WRONG_FIRST):
            self.send(file, WRONG_CONTENT, operation="send wrong")
            if self.chance(0.5):
                self.confirm(file, operation="confirm wrong")
        if self.chance(BREAK_OFF):
            self.send(file, content, break_off=True)
        self.persist(lambda: self.send(file, content))
        return self.finish(file, lambda: self.confirm(file))

    def finish(self, file: SentFile, confirm: Callable[[], Answer]) -> SentFile | None:
        """Confirm a file whose bytes are there, with what can come between; return it if it is confirmed."""
        answers = []
        if self.chance(DELETE_IN_CONFIRMATION):
            answers = self.at_once(confirm, lambda: self.delete(file))
            if self.persist(lambda: self.delete(file)).is_good:
                return None
        elif self.chance(CONFIRM_TWICE):
            answers = self.at_once(confirm, confirm)
        if not any(answer.is_good for answer in answers):
            answers.append(self.persist(confirm))
        is_confirmed = any(answer.is_good for answer in answers) or self.read(file).get("contentUploaded", False)
        if not is_confirmed:
            return None
        if self.chance(SEND_AFTER_CONFIRMATION):
            content = self.random.choice((WRONG_CONTENT, file.content, file.content[::-1]))
            self.send(file, content, operation="send late")
        if self.chance(DOWNLOAD):
            self.download(file)
        return file

    def announce(self, name: str, content: bytes, *, is_sha256: bool = False, **more: str) -> SentFile:
        """Announce a file until the portal has answered."""
        checksum = hashlib.new("sha256" if is_sha256 else "md5", content).hexdigest()
        headers = {"Idempotency-Key": str(uuid.uuid4())} if self.chance(HAS_IDEMPOTENCY_KEY) else {}
        body = {"name": name, "checksum": checksum}
        facts = {"name": name, "size": len(content), **headers}
        answer = self.persist(lambda: self.call("announce", "POST", "/files", body, facts, headers | more))
        announced = answer.json()
        if not answer.is_good:
            raise WalkedAwayError
        sent_headers = announced["requestHeaders"]
        return SentFile(announced["id"]["uuid"], name, content, announced["urlToUpload"], sent_headers, is_sha256)

    def send(self, file: SentFile, content: bytes, *, operation: str = "send", break_off: bool = False) -> Answer:
        """Send bytes to where the announcement said."""
        facts = file.facts | {"md5": hashlib.md5(content).hexdigest(), "broken off": break_off}
        return self.exchange(operation, "PUT", file.url, content, file.headers, facts, break_off=break_off)

    def confirm(self, file: SentFile, operation: str = "confirm") -> Answer:
        """Confirm a file."""
        return self.call(operation, "PUT", f"/files/{file.id}", {"contentUploaded": True}, file.facts)

    def delete(self, file: SentFile) -> Answer:
        """Delete a file, alone or by a list of one."""
        if self.random.random() < 0.8:
            return self.call("delete", "DELETE", f"/files/{file.id}", None, file.facts)
        return self.call("delete", "POST", "/rpc/delete-files", {"fileIds": [file.id]}, file.facts)

    def read(self, file: SentFile) -> dict[str, Any]:
        """Return what the portal says of a file; nothing if there is none."""
        answer = self.persist(lambda: self.call("read", "GET", f"/files/{file.id}", None, file.facts))
        return answer.json() if answer.is_good else {}

    def download(self, file: SentFile) -> None:
        """Fetch a file and note what came."""
        answer = self.persist(lambda: self.call("find", "GET", f"/rpc/get-file-url/{file.id}", None, file.facts))
        if answer.is_good:
            self.exchange("download", "GET", answer.json()["fileUrl"], None, {}, file.facts)

    # One file in parts

    def hand_in_parts(self, name: str) -> SentFile | None:
        """Announce a file, send it in parts, and confirm it; return it if it is confirmed."""
        size = 16 * 1024**2 + 5000 if self.chance(IN_SEVERAL_PARTS) else self.random.choice((1, 5000, 300_000))
        content = make_content(name, size)
        file = self.announce(name, content, is_sha256=self.chance(IS_SHA256), **{"DataMeta-File-Size": str(size)})
        path = f"/files/{file.id}/upload-session"
        answer = self.persist(lambda: self.call("open session", "POST", path, {"size": size}, file.facts))
        if not answer.is_good:
            return None
        part_size = answer.json()["partSize"]
        pieces = [content[start : start + part_size] for start in range(0, size, part_size)]
        md5s = [hashlib.md5(piece).hexdigest() for piece in pieces]
        body = {"parts": [{"number": number, "md5": md5} for number, md5 in enumerate(md5s, 1)]}
        answer = self.persist(lambda: self.call("sign parts", "POST", f"{path}/part-urls", body, file.facts))
        if not answer.is_good:
            return None
        parts = answer.json()["parts"]
        for part, piece in zip(parts, pieces, strict=True):
            if self.chance(WRONG_FIRST):
                self.send_part(file, part, piece[::-1] + b"!", operation="send wrong part")
            if self.chance(BREAK_OFF):
                self.send_part(file, part, piece, break_off=True)
            self.persist(partial(self.send_part, file, part, piece))
        self.call("list parts", "GET", f"{path}/parts", None, file.facts)

        def complete() -> Answer:
            if self.chance(0.5):
                return self.confirm(file)
            return self.call("complete session", "POST", f"{path}/complete", {}, file.facts)

        late = SentFile(file.id, name, content, parts[0]["url"], parts[0]["requestHeaders"], file.is_sha256)
        return self.finish(late, complete)

    def send_part(
        self,
        file: SentFile,
        part: dict[str, Any],
        content: bytes,
        *,
        operation: str = "send part",
        break_off: bool = False,
    ) -> Answer:
        """Send one part to its own address."""
        facts = file.facts | {"number": part["number"], "md5": hashlib.md5(content).hexdigest()}
        return self.exchange(operation, "PUT", part["url"], content, part["requestHeaders"], facts, break_off=break_off)

    # A submission

    def stage(self, record: dict[str, str]) -> Answer:
        """Describe a sample."""
        return self.call("stage", "POST", "/metadatasets", {"record": record})

    def submit(self, files: list[SentFile]) -> None:
        """Describe files by sets with values that others want too, and submit them, once or twice at a time."""
        sets = []
        values, meeting = self.values.take(len(files))
        for file, value in zip(files, values, strict=True):
            answer = self.persist(partial(self.stage, {SAMPLE: value, READS: file.name}))
            if not answer.is_good:
                return
            sets.append(answer.json()["id"]["uuid"])
        label = str(uuid.uuid4())
        body = {"metadatasetIds": sets, "fileIds": [file.id for file in files], "label": label}
        headers = {"Idempotency-Key": str(uuid.uuid4())} if self.chance(HAS_IDEMPOTENCY_KEY) else {}
        facts = {"label": label, **headers}

        def submit() -> Answer:
            return self.call("submit", "POST", "/submissions", body, facts, headers)

        # Who does not come, or comes too late, is not waited for.
        with suppress(threading.BrokenBarrierError):
            meeting.wait(MEET_SECONDS)
        if self.chance(DELETE_IN_SUBMISSION):
            delete_set = {"metadatasetIds": [sets[0]]}
            racing = self.random.choice(
                (
                    lambda: self.delete(files[-1]),
                    lambda: self.call("delete set", "POST", "/rpc/delete-metadatasets", delete_set, {"set": sets[0]}),
                )
            )
            self.at_once(submit, racing)
        else:
            # Another submission of the same sets, by another label, is a race with oneself.
            other = str(uuid.uuid4())
            again = self.random.choice(
                (
                    None,
                    submit,
                    lambda: self.call("submit", "POST", "/submissions", body | {"label": other}, {"label": other}),
                )
            )
            answers = self.at_once(submit, again) if again else []
            if not any(answer.is_good for answer in answers):
                self.persist(submit)

    # What every request has in common

    def chance(self, probability: float) -> bool:
        """Say yes so often."""
        return self.random.random() < probability

    def persist(self, action: Callable[[], Answer]) -> Answer:
        """Do it until it is answered; sometimes walk away when it is not."""
        for _ in range(TRIES):
            answer = action()
            is_asked_to_wait = _asks_to_wait(answer)
            if answer.status not in UNSURE and not is_asked_to_wait:
                return answer
            # Who verifies a file and is killed keeps the others out for two minutes.
            if self.chance(NO_PATIENCE if is_asked_to_wait else WALK_AWAY):
                raise WalkedAwayError
            time.sleep(PAUSE_SECONDS)
        return answer

    def at_once(self, *actions: Callable[[], Answer]) -> list[Answer]:
        """Do several things at the same time."""
        answers: list[Answer] = []
        threads = [threading.Thread(target=lambda action=action: answers.append(action())) for action in actions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return answers

    def call(
        self,
        operation: str,
        method: str,
        path: str,
        body: Any = None,
        facts: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Call the API."""
        sent = None if body is None else json.dumps(body).encode()
        sent_headers = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        if sent is not None:
            sent_headers["Content-Type"] = "application/json"
        return self.exchange(operation, method, f"{self.address}{API}{path}", sent, sent_headers, facts or {}, body)

    def exchange(
        self,
        operation: str,
        method: str,
        url: str,
        content: bytes | None,
        headers: dict[str, str],
        facts: dict[str, Any],
        shown: Any = None,
        *,
        break_off: bool = False,
    ) -> Answer:
        """Send one request on a connection of its own, and note its answer before it is looked at."""
        parts = urlsplit(url)
        started = now()
        connection = http.client.HTTPConnection(parts.netloc, timeout=ANSWER_SECONDS)
        try:
            target = parts._replace(scheme="", netloc="").geturl()
            if break_off and content:
                connection.putrequest(method, target)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    connection.putheader(name, value)
                connection.endheaders(content[: len(content) // 2])
                answer = Answer(CUT)
            else:
                connection.request(method, target, content, headers)
                response = connection.getresponse()
                answer = Answer(response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            answer = Answer(CUT)
            facts = facts | {"cut": type(error).__name__}
        finally:
            connection.close()
        note: Any = None
        if operation == "download" and answer.is_good:
            note = hashlib.sha256(answer.body).hexdigest()
        elif answer.body:
            note = answer.json() or answer.body[:500].decode(errors="replace")
        is_portal = url.startswith(self.address)
        noted = {**facts, "to": "portal" if is_portal else "store"}
        self.history.add(Event(self.index, operation, started, now(), shown, answer.status, note, noted))
        return answer


class Values:
    """Site-unique values that several clients are given, and a place where they wait for each other."""

    def __init__(self, takers: int = 2) -> None:
        self._name = uuid.uuid4().hex[:8]
        self._numbers = itertools.count()
        self._takers = takers
        self._meetings: dict[int, threading.Barrier] = {}
        self._lock = threading.Lock()

    def take(self, count: int) -> tuple[list[str], threading.Barrier]:
        """Return so many different values that others get too, and where to meet them."""
        with self._lock:
            group = next(self._numbers) // self._takers
            meeting = self._meetings.setdefault(group, threading.Barrier(self._takers))
        return [f"{self._name}-{group}-{place}" for place in range(count)], meeting


def _asks_to_wait(answer: Answer) -> bool:
    """Say whether a refusal means to ask again in a moment."""
    if answer.status != 409:
        return False
    body = answer.json()
    return isinstance(body, list) and body[0]["error_code"] in ("verification_in_progress", "confirmation_running")
