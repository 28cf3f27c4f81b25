"""The checker by itself: a history and what is left, made up, in which one thing is wrong."""

import hashlib
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from tests.faults import checker
from tests.faults.checker import (
    CHANGED,
    DUPLICATE,
    FAILED,
    LOST,
    TORN,
    UNDELETED,
    UNFINISHED,
    UNTRUE,
    Finding,
    StoredContent,
    StoredFile,
    World,
    find_faults,
)
from tests.faults.history import CUT, Event, make_content

SIZE = 100
ID, NAME = "1", "a.fq"
CONTENT = make_content(NAME, SIZE)
MD5, SHA256 = hashlib.md5(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()
RIGHT, WRONG = StoredContent(SIZE, MD5, SHA256), StoredContent(SIZE, "0" * 32, "0" * 64)
KEY = f"files/{ID}"
FILE = StoredFile(ID, NAME, MD5, "confirmed", KEY, SIZE, None)
REFUSAL = [{"error_code": "no_data"}]
NOT_FOUND = [{"error_code": "not_found"}]
SUBMITTED = {"metadatasetIds": ["s"], "fileIds": [ID]}


def event(
    operation: str, status: int = 200, at: float = 0, answer: Any = None, sent: Any = None, **facts: Any
) -> Event:
    return Event(0, operation, at, at + 1, sent, status, answer, {"file": ID, "name": NAME, "to": "portal", **facts})


ANNOUNCED = Event(
    0, "announce", 0, 1, {"name": NAME}, 200, {"id": {"uuid": ID}}, {"name": NAME, "size": SIZE, "to": "portal"}
)
SENT = event("send", at=2, to="store")
CONFIRMED = event("confirm", at=4)
SUBMIT = event("submit", at=6, sent=SUBMITTED, label="l")
UPLOADED = World(files={ID: FILE}, objects={KEY: RIGHT})
WHOLE = World(
    files={ID: replace(FILE, submission="u")},
    objects={KEY: RIGHT},
    submissions={"u": "l"},
    sets={"s": "u"},
    values=[("s", "S1")],
    claims=1,
    references={ID: "s"},
)


def kinds(findings: list[Finding]) -> list[str]:
    return [finding.kind for finding in findings]


@pytest.mark.parametrize(
    ("events", "world"),
    [
        ([], World()),
        ([ANNOUNCED, SENT, CONFIRMED], UPLOADED),
        ([ANNOUNCED, SENT, CONFIRMED, SUBMIT], WHOLE),
        # What was cut off may have happened, or not.
        ([ANNOUNCED, SENT, event("confirm", CUT)], UPLOADED),
        ([ANNOUNCED], World(files={ID: replace(FILE, state="announced", storage_key=None, size=None)})),
        ([ANNOUNCED, SENT, CONFIRMED, event("delete", CUT)], World()),
        ([ANNOUNCED, SENT, CONFIRMED, event("delete", 503, answer=REFUSAL)], UPLOADED),
        ([ANNOUNCED, SENT, CONFIRMED, event("delete", 204, at=6)], World()),
        ([ANNOUNCED, SENT, CONFIRMED, event("submit", CUT, sent=SUBMITTED, label="l")], UPLOADED),
        # Bytes that were sent after it was asked for need not be there.
        ([ANNOUNCED, event("confirm", 400, at=1, answer=REFUSAL), SENT, CONFIRMED], UPLOADED),
        ([event("find", 503, answer=REFUSAL)], World()),
    ],
)
def test_nothing_is_found_where_nothing_is_wrong(events: list[Event], world: World) -> None:
    assert find_faults(events, world) == []


@pytest.mark.parametrize(
    ("events", "world", "kind"),
    [
        ([ANNOUNCED], World(), LOST),
        ([ANNOUNCED, SENT, CONFIRMED], World(), LOST),
        ([ANNOUNCED, SENT, CONFIRMED], replace(UPLOADED, objects={}), LOST),
        ([ANNOUNCED, SENT, CONFIRMED], replace(UPLOADED, files={ID: replace(FILE, state="announced")}), LOST),
        ([ANNOUNCED, SENT, event("confirm", 400, at=4, answer=REFUSAL)], UPLOADED, LOST),
        ([ANNOUNCED, SENT, CONFIRMED], replace(UPLOADED, objects={KEY: WRONG}), CHANGED),
        ([ANNOUNCED, SENT, CONFIRMED], replace(UPLOADED, files={ID: replace(FILE, size=1)}), CHANGED),
        ([ANNOUNCED, SENT, CONFIRMED, event("download", answer="0" * 64)], UPLOADED, CHANGED),
        ([ANNOUNCED, SENT, CONFIRMED, event("delete", 204)], UPLOADED, UNDELETED),
        ([ANNOUNCED, event("delete", 204, at=2), event("confirm", at=4)], World(), UNTRUE),
        ([ANNOUNCED, SENT, CONFIRMED, event("find", 404, answer=NOT_FOUND)], UPLOADED, UNTRUE),
        ([ANNOUNCED], World(files={ID: replace(FILE, state="new")}), UNFINISHED),
        ([ANNOUNCED], replace(UPLOADED, files={ID: replace(FILE, state="announced")}), UNFINISHED),
        ([ANNOUNCED, SENT, CONFIRMED, SUBMIT], UPLOADED, LOST),
        ([ANNOUNCED, SENT, CONFIRMED, SUBMIT], replace(WHOLE, sets={"s": None}), TORN),
        ([ANNOUNCED, SENT, CONFIRMED, SUBMIT], replace(WHOLE, files={ID: FILE}), TORN),
        ([ANNOUNCED, SENT, CONFIRMED, SUBMIT], replace(WHOLE, references={}), TORN),
        ([ANNOUNCED, SENT, CONFIRMED, SUBMIT], replace(WHOLE, submissions={"u": "l", "v": "l"}), DUPLICATE),
        ([ANNOUNCED, SENT, CONFIRMED, SUBMIT], replace(WHOLE, values=[("s", "S1"), ("t", "S1")], claims=2), DUPLICATE),
        ([ANNOUNCED, SENT, CONFIRMED, SUBMIT], replace(WHOLE, claims=0), DUPLICATE),
        (
            [ANNOUNCED, SENT, CONFIRMED, event("submit", 400, answer=REFUSAL, sent=SUBMITTED, label="l")],
            WHOLE,
            UNTRUE,
        ),
        ([ANNOUNCED, SENT, CONFIRMED], WHOLE, UNTRUE),
        ([event("stage", 500, answer=REFUSAL)], World(), FAILED),
        ([event("stage", 502)], World(), FAILED),
        ([event("stage", 404, answer="nothing")], World(), FAILED),
    ],
)
def test_what_is_wrong_is_found(events: list[Event], world: World, kind: str) -> None:
    findings = find_faults(events, world)
    assert kind in kinds(findings)
    assert all(str(finding).startswith(finding.kind) for finding in findings)


def test_an_idempotency_key_that_made_two_things_is_found() -> None:
    facts = {**ANNOUNCED.facts, "Idempotency-Key": "k"}
    twice = [replace(ANNOUNCED, facts=facts, answer={"id": {"uuid": uuid}}) for uuid in (ID, "2")]
    world = World(files={uuid: replace(FILE, uuid=uuid, state="announced", storage_key=None) for uuid in (ID, "2")})
    assert kinds(find_faults(twice, world)) == [UNTRUE]


def test_a_refused_answer_in_parts_counts_when_all_parts_were_taken() -> None:
    signed = event("sign parts", at=1, sent={"parts": [{}, {}]})
    refused = event("complete session", 409, at=9, answer=[{"error_code": "parts_missing"}])
    parts = [event("send part", at=at, number=number, to="store") for at, number in ((2, 1), (4, 2))]
    world = World(files={ID: replace(FILE, state="announced", storage_key=None, size=None)})
    assert kinds(find_faults([ANNOUNCED, signed, parts[0], refused], world)) == []
    assert kinds(find_faults([ANNOUNCED, signed, *parts, refused], world)) == [LOST]


def test_a_run_that_tried_too_little_proves_nothing() -> None:
    befell = {"kills of the whole portal": 2, "stops of PostgreSQL": 1, "kills of the store": 1}
    counted = Counter(befell)
    assert list(checker.find_untried(WHOLE, counted, kills=2, stops=1, freezes=1)) == []
    subjects = {each.subject for each in checker.find_untried(World(), counted, kills=10, stops=2, freezes=2)}
    assert subjects == {
        "kills of the portal",
        "stops of PostgreSQL",
        "freezes and kills of the store",
        "confirmed files",
        "submissions",
    }
