"""What Schemathesis is told about the portal: ids that exist, checks of our own, and what must not be broken.

The command loads this module; ``DATAMETA_FUZZ_WORLD`` names the file by which ``test_schemathesis.py``
describes the site. A request that was made to be valid is, three times in four, given ids and values that
exist: a stranger's ids would only ever see 404. A request that was made to be wrong is sent as it is, except
that nobody may end the identity that is asking:

* its own key and its own session are not deleted, but others of the same user are;
* it renames itself, but keeps its roles and its group;
* no setting that shuts out or signs out every user is changed;
* no field is made mandatory, refined or bound by a rule, and no quota set, or nothing could be staged any more.

Buckets of the throttle are emptied every hundred requests, as if time had passed.
"""

import atexit
import hashlib
import json
import os
import re
from collections import Counter, defaultdict, deque
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import schemathesis

WORLD: dict[str, Any] = json.loads(Path(os.environ["DATAMETA_FUZZ_WORLD"]).read_text("utf-8"))
OWN: dict[str, str] = WORLD["own"]
CONTENT = b"ACGT"
KEPT = 60
LONGEST_LIST = 2_000
"""So many characters of a list in an address are sent as they are; no header is longer than 64 KiB."""
POOLS: dict[str, deque[str]] = {name: deque(ids, maxlen=max(KEPT, len(ids))) for name, ids in WORLD["pools"].items()}
PATHS = {
    "appsettings": "settings",
    "files": "files",
    "get-file-url": "contents",
    "groups": "groups",
    "jobs": "jobs",
    "keys": "keys",
    "metadata": "fields",
    "metadatasets": "metadatasets",
    "registrations": "registrations",
    "services": "services",
    "sessions": "sessions",
    "submissions": "submissions",
    "users": "users",
}
"""The pool of ``{id}``, by the word before it."""
NAMES = {
    "actorId": "users",
    "awaitingService": "services",
    "entityId": "files",
    "fileIds": "files",
    "groupId": "groups",
    "metadatasetId": "metadatasets",
    "metadatumId": "fields",
    "metadatasetIds": "metadatasets",
    "org_select": "groups",
    "serviceId": "services",
    "submissionId": "submissions",
    "token": "tokens",
    "userId": "users",
    "userIds": "users",
}
"""The pool of every other parameter or property that holds an id, or a list of them."""
SHEETS = (b"ID,Day\nfuzz-sheet,x\n", b"ID;Day\n;;\n", b"\xff\xfe", b"PK\x03\x04", b"<html>", b'ID,Day\n"')
"""What is sent as a sample sheet."""
OF_SESSIONS = {"openUploadSession": "files", "abortUploadSession": "given_up", "completeUploadSession": "sent"}
"""The pool of each operation on an upload session; the others look at those that are ``in_parts``."""
LEARNT = {
    "createApiKey": "keys",
    "createFile": "files",
    "createGroup": "groups",
    "createMetaDataSet": "metadatasets",
    "createMetaDatum": "fields",
    "createSubmission": "submissions",
    "createUser": "users",
    "openUploadSession": "given_up",
    "postService": "services",
}
"""The pool that takes what an operation has made."""
HEADERS = {
    "Cache-Control",
    "Content-Security-Policy",
    "Cross-Origin-Opener-Policy",
    "Referrer-Policy",
    "X-Content-Type-Options",
}
LEAKS = re.compile(r'Traceback|File "|psycopg|sqlalchemy|site-packages|\bSELECT\b.+\bFROM\b|INSERT INTO|\$2b\$|/home/')
PROBLEM_KEYS = {"exception", "error_code", "message", "entity", "field"}

numbers = count(1)
statuses: dict[str, Counter[str]] = defaultdict(Counter)
uploads: deque[tuple[str, str]] = deque(maxlen=KEPT)
parts: deque[tuple[str, str]] = deque(maxlen=KEPT)


def draw(pool: str) -> str:
    """Return one id of a pool, each in turn."""
    ids = POOLS[pool]
    ids.rotate()
    return ids[0]


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Give a valid request what exists, and keep every request from ending the identity that asks."""
    number = next(numbers)
    if number % 100 == 0:
        with psycopg.connect(WORLD["database"]) as connection:
            connection.execute("DELETE FROM throttles")
    name = case.operation.definition.raw["operationId"]
    if number % 4 and case.meta is not None and case.meta.generation.mode.is_positive:
        fill_parameters(name, case)
        fill_body(name, case, number)
    if name == "setVocabulary" and case.media_type == "text/csv" and not is_positive(case):
        # Of a table no text has the wrong type; this one is none.
        case.body = '"\0'
    shorten_lists(case)
    protect(name, case)


def is_positive(case: Any) -> bool:
    """Say whether the request is meant to be valid."""
    return case.meta is None or case.meta.generation.mode.is_positive


def shorten_lists(case: Any) -> None:
    """Keep lists in the address as long as they are, but of short words where an address does not hold them."""
    for parameter, value in (case.query or {}).items():
        if isinstance(value, list) and len(str(value)) > LONGEST_LIST:
            case.query[parameter] = ["x"] * len(value)


def fill_parameters(name: str, case: Any) -> None:
    """Put ids that exist into the path and the query, and the tokens and sizes that belong to them."""
    words = case.operation.path.split("/")
    for parameter in case.path_parameters or {}:
        pool = NAMES.get(parameter) or PATHS.get(words[words.index(f"{{{parameter}}}") - 1])
        if "upload-session" in words:
            pool = OF_SESSIONS.get(name, "in_parts")
        if pool is not None:
            case.path_parameters[parameter] = draw(pool)
    for parameter in NAMES.keys() & set(case.query or {}):
        case.query[parameter] = draw(NAMES[parameter])
    opened = parts if name == "uploadPart" else uploads
    if case.operation.path.startswith("/upload/") and opened:
        opened.rotate()
        case.path_parameters["id"], case.headers["Access-Token"] = opened[0]
    if name == "uploadPart":
        case.path_parameters["number"] = 1
        if case.media_type == "application/octet-stream":
            case.body = CONTENT
    if case.operation.path.startswith("/sheets/") and case.media_type == "application/octet-stream":
        case.body = SHEETS[next(numbers) % len(SHEETS)]
    if name == "createFile" and "DataMeta-File-Size" in case.headers:
        case.headers["DataMeta-File-Size"] = str(len(CONTENT))


def fill_body(name: str, case: Any, number: int) -> None:
    """Put ids and values that exist, or that fit, into the body."""
    if not isinstance(case.body, dict):
        return
    body = dict(case.body)
    for key in NAMES.keys() & body.keys():
        body[key] = [draw(NAMES[key])] if isinstance(body[key], list) else draw(NAMES[key])
    if name in ("createSubmission", "prevalidateSubmission"):
        body["fileIds"] = []
    if name in ("createMetaDataSet", "updateMetaDataSet"):
        body["record"] = {"ID": f"fuzz-{number}"}
    if name == "bulkCreateMetaDataSets":
        body["records"] = [{"ID": f"fuzz-{number}"}, {"ID": number}]
    if name == "serviceSetMetaDatum":
        body = {"record": {"Result": f"fuzz-{number}"}, "fileIds": []}
    if name == "createFile":
        algorithm = "md5" if number % 2 else "sha256"
        body |= {"name": f"fuzz-{number}.fq", "checksum": hashlib.new(algorithm, CONTENT).hexdigest()}
    if name == "bulkCreateFiles":
        checksum = hashlib.sha256(CONTENT).hexdigest()
        body["files"] = [{"name": f"fuzz-{number}.fq", "checksum": checksum, "size": len(CONTENT)}]
    if name == "openUploadSession":
        body = {"size": len(CONTENT)}
    if name == "createPartUrls":
        body = {"parts": [{"number": 1, "md5": hashlib.md5(CONTENT).hexdigest()}]}
    if name == "completeUploadSession":
        body = {"checksum": hashlib.sha256(CONTENT).hexdigest()} if number % 2 else {}
    if name == "updateFile":
        body = {"contentUploaded": True}
    if name in ("createSession", "createApiKey", "beginTotp", "renewRecoveryCodes", "removeTotp"):
        body |= {key: WORLD["account"][key] for key in ("email", "password") if key in body}
    if name == "createApiKey":
        body.pop("expires", None)
    if name == "postRegistration":
        body |= {"org_create": None, "check_user_agreement": True}
    if name in ("createUser", "postRegistration"):
        body |= {"name": f"Fuzz {number}", "email": f"fuzz-{number}@example.org"}
    if name in ("createGroup", "changeGroupName", "postService", "putService", "createMetaDatum") and "name" in body:
        body["name"] = f"{body['name'] or ''} {number}"[-255:]
    if name == "tryField" and isinstance(body.get("metadatum"), dict):
        body["metadatum"] = {**body["metadatum"], "serviceId": None}
    if name == "updateAppSettings":
        body["value"] = str(number % 40)
    case.body = body


def protect(name: str, case: Any) -> None:
    """Change what would end the identity that asks, or leave the site of no use."""
    identifier = (case.path_parameters or {}).get("id")
    is_own = identifier in OWN.values()
    if is_own and name in ("deleteApiKey", "deleteSession"):
        case.path_parameters["id"] = str(uuid4())
    if name == "updateAppSettings" and identifier not in POOLS["settings"]:
        case.path_parameters["id"] = str(uuid4())
    if isinstance(case.body, dict):
        if is_own and name == "userUpdateRequest":
            case.body = {key: value for key, value in case.body.items() if key == "name"}
        if name in ("createMetaDatum", "updateMetaDatum") and case.body.get("isMandatory") is True:
            case.body = {**case.body, "isMandatory": False}
        if name == "setRefinement" and case.body.get("kind") in ("number", "vocabulary"):
            case.body = {**case.body, "kind": "text"}
        if name == "setRecordRules" and case.body.get("rules"):
            case.body = {**case.body, "rules": []}


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """Count the answer, and remember what was made."""
    name = case.operation.definition.raw["operationId"]
    statuses[name][str(response.status_code)] += 1
    if response.status_code == 200 and name in LEARNT:
        made = response.json()
        POOLS[LEARNT[name]].append(made["fileId" if name == "openUploadSession" else "id"]["uuid"])
        if name == "createFile":
            uploads.append((made["id"]["uuid"], made["requestHeaders"]["Access-Token"]))
    if response.status_code == 200 and name == "createPartUrls":
        for part in response.json()["parts"]:
            parts.append((part["url"].split("/")[-2], part["requestHeaders"]["Access-Token"]))
    if response.status_code == 200 and name == "getFileUrl":
        POOLS["tokens"].append(response.json()["fileUrl"].rpartition("/")[2])


@schemathesis.check
def documented_status(ctx: Any, response: Any, case: Any) -> None:
    """Every status is listed by itself: ``default`` is not taken for an answer."""
    documented = case.operation.definition.raw["responses"]
    if case.method.upper() != case.operation.method.upper():
        assert response.status_code == 405, f"{response.status_code} for a method that is not there"
    else:
        assert str(response.status_code) in documented, f"{response.status_code} is not documented"


@schemathesis.check
def refusal_is_a_list_of_problems(ctx: Any, response: Any, case: Any) -> None:
    """Every refusal has the one shape."""
    if response.status_code < 400:
        return
    assert response.headers["content-type"] == ["application/json"], response.headers["content-type"]
    problems = response.json()
    assert isinstance(problems, list)
    assert problems
    for problem in problems:
        assert {"exception", "error_code", "message"} <= problem.keys() <= PROBLEM_KEYS, problem
        assert re.fullmatch("[a-z][a-z0-9_]*", problem["error_code"]), problem
        assert problem["message"], problem
        assert problem.get("entity", {}).keys() <= {"uuid", "site"}, problem


@schemathesis.check
def answer_tells_no_secret(ctx: Any, response: Any, case: Any) -> None:
    """No answer shows a trace, SQL, a path of the server or a hash."""
    # Where the store is, is what a site admin asks for.
    is_told = case.operation.definition.raw["operationId"] == "checkStorage"
    if not is_told and "octet-stream" not in str(response.headers.get("content-type")):
        leak = LEAKS.search(response.content.decode("utf-8", "replace"))
        assert leak is None, f"the answer shows {leak}"


@schemathesis.check
def answer_has_the_security_headers(ctx: Any, response: Any, case: Any) -> None:
    """Every answer has the headers that keep browsers from making something else of it."""
    missing = {name for name in HEADERS if name.lower() not in response.headers}
    assert not missing, f"{missing} missing"


@atexit.register
def write_report() -> None:
    """Leave the number of answers by operation and status where the test looks for it."""
    Path(WORLD["report"]).write_text(json.dumps(statuses), "utf-8")
