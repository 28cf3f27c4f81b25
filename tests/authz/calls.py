"""How a cell of the matrix becomes a call, and what is checked of its answer besides the status."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pyotp
import webtest

from tests.authz.matrix import Cell, describe_operations, read_lists
from tests.authz.world import CONTENT, ELSEWHERE, HOME, Thing, World, make_registration
from tests.conftest import PASSWORD, Client, make_second_factor

CHECKSUM = hashlib.md5(CONTENT).hexdigest()
SIZE_HEADER = {"DataMeta-File-Size": str(len(CONTENT))}
WRONG_PASSWORD = "another password altogether"
PERSONAL = re.compile(r"user\d+@example\.org|User \d+")
"""The addresses and names of the world's users."""
SEE_SERVICES = ("site read", "service user")
READ_SETS = (
    "createMetaDataSet",
    "getMetaDataSet",
    "getMetaDataSets",
    "listStagedMetaDataSets",
    "serviceSetMetaDatum",
    "updateMetaDataSet",
)
ROLE_KEYS = ("groupAdmin", "siteAdmin", "siteRead", "email")
# An address for a file leaves a token and an event behind; checks, trials and previews nothing.
EXCEPTIONS = (
    "getFileUrl",
    "prevalidateSubmission",
    "checkSheet",
    "annotateSheet",
    "tryField",
    "tryRecordRules",
    "previewAppSetting",
    "checkStorage",
)
ENDS_ITS_SESSION = ("deleteCurrentSession",)
_numbers = count(1)


@dataclass
class Call:
    """One call: who makes it, and to which thing, which has its own id, token and state."""

    world: World
    cell: Cell
    client: Client
    thing: Thing
    path: str
    method: str
    body: dict[str, Any] | None = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return self.thing.get_id(self.cell.id_kind)

    @property
    def state(self) -> str:
        return self.cell.row.state

    @property
    def changes(self) -> bool:
        """Whether the call is expected to change something."""
        return _changes(self.cell, self.method)

    def send(self) -> webtest.TestResponse:
        """Make the call."""
        response = self.client.request(self.method, self.path, self.body, **self.more)
        self.world.portal.app.reset()
        return response


def prepare(world: World, cell: Cell) -> Call:
    """Return the call of a cell; what it needs to succeed is made for it alone."""
    row = cell.row
    path, method, _ = describe_operations()[row.operation]
    changes = _changes(cell, method)
    person = world.people[cell.actor]
    is_own_account = row.kind == "user" and row.relation == "own"
    if changes and (is_own_account or row.operation in ENDS_ITS_SESSION):
        person = world.add_person(cell.actor)
    client = person.get_client(cell.credential)
    call = Call(world, cell, client, _choose_thing(world, cell, client, changes), path, method)
    make = REQUESTS.get(row.operation)
    call.more = {} if make is None else make(call)
    call.body = call.more.pop("json", None)
    ids = {"id": call.id, "metadatasetId": call.id, "token": call.id, **call.more.pop("ids", {})}
    call.path = path.format_map(ids) + call.more.pop("query", "")
    return call


def _changes(cell: Cell, method: str) -> bool:
    is_reading = (method == "get") != (cell.row.operation in EXCEPTIONS)
    return cell.status < 400 and not is_reading


def _choose_thing(world: World, cell: Cell, client: Client, changes: bool) -> Thing:
    row = cell.row
    kind, state = row.kind, row.state.partition(",")[0]
    if row.operation == "downloadFile":
        kind = "download"
    elif "reset token" in state:
        kind = "reset"
    elif row.relation == "always":
        return Thing("")
    if "unknown" in (row.relation, *state.split()):
        return Thing("0", token="x" * 64) if kind == "reset" else world.make_unknown(kind)
    if kind == "user" and row.relation == "own":
        return Thing(client.uuid, client.site_id)
    owner = world.get_owner(cell.actor, row.relation)
    if changes and row.operation != "getFileUrl":
        return world.add_thing(kind, state, world.people[owner].key)
    return world.get_thing(kind, state, owner)


def _login(call: Call) -> dict[str, str]:
    email = call.client.email
    return {"email": email, "password": WRONG_PASSWORD if "wrong" in call.state else PASSWORD}


def _create_key(call: Call) -> dict[str, Any]:
    return {"json": {"label": "new", **({} if call.state == "by credential" else _login(call))}}


def _set_password(call: Call) -> dict[str, Any]:
    old = call.thing.token if "reset token" in call.state else _login(call)["password"]
    return {"json": {"passwordChangeCredential": old, "newPassword": f"violet harmonica {next(_numbers)}"}}


def _request_reset(call: Call) -> dict[str, Any]:
    return {"json": {"email": call.client.email if call.state == "known address" else _make_address()}}


def _confirm_totp(call: Call) -> dict[str, Any]:
    if not call.changes:
        return {"json": {"code": "000000"}}
    secret = call.client.post(f"/users/{call.id}/totp", {"password": PASSWORD}).json["secret"]
    return {"json": {"code": pyotp.TOTP(secret).now()}}


def _prove_totp(call: Call) -> dict[str, Any]:
    return {"json": {"password": PASSWORD, "code": make_second_factor(call.client)() if call.changes else "000000"}}


def _create_user(call: Call) -> dict[str, Any]:
    return {"json": {"name": "Newcomer", "email": _make_address(), "groupId": call.id}}


def _change_user(call: Call) -> dict[str, Any]:
    values = {
        "name": f"Renamed {next(_numbers)}",
        "groupId": call.world.third_group,
        "groupAdmin": True,
        "siteAdmin": True,
        "siteRead": True,
        "enabled": False,
    }
    return {"json": {name: value for name, value in values.items() if name in call.state.split()}}


def _try_field(call: Call) -> dict[str, Any]:
    return {"json": {"metadatum": _define_field(call)["json"], "metadatumId": call.id}}


def _define_field(call: Call) -> dict[str, Any]:
    unset = dict.fromkeys(("regexDescription", "longDescription", "example", "regExp", "dateTimeFmt"), "")
    rules = dict.fromkeys(("isMandatory", "isFile", "isSubmissionUnique", "isSiteUnique"), False)
    return {"json": {"name": f"Field {next(_numbers)}", "order": 9, "serviceId": None, **unset, **rules}}


def _stage(call: Call) -> dict[str, Any]:
    return {"json": {"record": {"ID": "new"} if call.state == "own fields" else {"Quality": "good"}}}


def _change_set(call: Call) -> dict[str, Any]:
    return {"json": {"record": {"ID": f"changed {next(_numbers)}"}}}


def _refine(call: Call) -> dict[str, Any]:
    bounds = {"minimum": None, "maximum": str(next(_numbers)), "isInteger": False}
    return {"json": {"kind": "number", "unit": "ng", "missingTerms": [], **bounds}}


def _set_rules(call: Call) -> dict[str, Any]:
    """The world's records go on passing."""
    rule = {"field": call.world.metadatum["id"]["uuid"], "operator": "is_empty"}
    return {"json": {"rules": [{"message": f"Rule {next(_numbers)}", "when": [], "then": [rule]}]}}


def _query_sets(call: Call) -> dict[str, Any]:
    return {"params": {"awaitingService": call.id}} if call.id else {}


def _search(call: Call) -> dict[str, Any]:
    awaiting = {"serviceId": call.id, "serviceState": "awaiting"} if call.id else {}
    more = {"format": "csv"} if call.cell.row.operation == "exportMetaDataSets" else {"limit": "500"}
    return {"params": {**awaiting, **more}}


def _delete_many(call: Call) -> dict[str, Any]:
    """Name one of the asker's own, too: a refusal must spare it."""
    kind, state = {"metadataset": ("metadataset", "staged"), "file": ("file", "confirmed")}[call.cell.row.kind]
    own = call.world.get_owner(call.cell.actor, "own")
    more = [] if call.changes else [call.world.get_thing(kind, state, own).uuid]
    return {"json": {f"{kind}Ids": [*more, call.id]}}


def _execute(call: Call) -> dict[str, Any]:
    is_unknown = call.state.endswith("unknown service")
    service = call.world.make_unknown("service") if is_unknown else call.world.service
    body = {"record": {"Quality": "good", "Report": None}, "fileIds": []}
    return {"json": body, "ids": {"serviceId": service.get_id(call.cell.id_kind)}}


def _change_file(call: Call) -> dict[str, Any]:
    return {"json": {"contentUploaded": True} if call.state == "sent" else {"name": "renamed.fq"}}


def _submit(call: Call) -> dict[str, Any]:
    is_foreign = call.state.endswith("foreign file")
    files = [call.world.get_thing("file", "confirmed", "stranger").get_id(call.cell.id_kind)] if is_foreign else []
    return {"json": {"metadatasetIds": [call.id], "fileIds": files}}


def _upload(call: Call) -> dict[str, Any]:
    token = "x" * 64 if call.state.endswith("wrong token") else call.thing.token
    return {"params": CONTENT, "content_type": "application/octet-stream", "headers": {"Access-Token": token}}


def _open_session(call: Call) -> dict[str, Any]:
    return {"json": {"size": len(CONTENT) + call.state.endswith("another size")}}


def _complete(call: Call) -> dict[str, Any]:
    right_or_other = {"right checksum": CHECKSUM, "another checksum": "0" * 32}
    found = [checksum for words, checksum in right_or_other.items() if call.state.endswith(words)]
    return {"json": {"checksum": found[0]} if found else {}}


def _upload_form(call: Call) -> dict[str, Any]:
    return {"upload_files": [("file", "reads.fq", CONTENT)], "headers": _upload(call)["headers"]}


def _send_sheet(call: Call) -> dict[str, Any]:
    return {
        "params": f"ID,Reads\nsheet {next(_numbers)},\n".encode(),
        "content_type": "application/octet-stream",
        "query": "?filename=run.csv",
    }


def _name_anew(call: Call) -> dict[str, Any]:
    return {"json": {"name": f"Name {next(_numbers)}"}}


def _rename_group(call: Call) -> dict[str, Any]:
    """The world's groups keep their names."""
    name = HOME if call.cell.row.relation == "own" else ELSEWHERE
    return {"json": {"name": name}} if call.changes else _name_anew(call)


def _list_long(call: Call) -> dict[str, Any]:
    return {"params": {"limit": "1000"}}


def _make_address() -> str:
    return f"newcomer{next(_numbers)}@example.org"


REQUESTS: dict[str, Callable[[Call], dict[str, Any]]] = {
    "createApiKey": _create_key,
    "createSession": lambda call: {"json": _login(call)},
    "setUserPassword": _set_password,
    "requestPasswordReset": _request_reset,
    "beginTotp": lambda call: {"json": {"password": PASSWORD}},
    "confirmTotp": _confirm_totp,
    "renewRecoveryCodes": _prove_totp,
    "removeTotp": _prove_totp,
    "listUsers": _list_long,
    "createUser": _create_user,
    "userUpdateRequest": _change_user,
    "createMetaDatum": _define_field,
    "updateMetaDatum": _define_field,
    "setRefinement": _refine,
    "tryField": _try_field,
    "setVocabulary": lambda call: {"json": {"terms": [{"term": f"Word {next(_numbers)}"}]}},
    "setRecordRules": _set_rules,
    "tryRecordRules": lambda call: {"json": {**_set_rules(call)["json"], "record": {}}},
    "createMetaDataSet": _stage,
    "bulkCreateMetaDataSets": lambda call: {"json": {"records": [_stage(call)["json"]["record"]]}},
    "updateMetaDataSet": _change_set,
    "getMetaDataSets": _query_sets,
    "searchMetaDataSets": _search,
    "exportMetaDataSets": _search,
    "listStagedMetaDataSets": _list_long,
    "bulkDeleteStagedMetaDataSets": _delete_many,
    "bulkDeleteStagedFiles": _delete_many,
    "bulkCreateFiles": lambda call: {"json": {"files": [{"name": "new.fq", "checksum": CHECKSUM}]}},
    "createFile": lambda call: {"json": {"name": "new.fq", "checksum": CHECKSUM}, "headers": SIZE_HEADER},
    "updateFile": _change_file,
    "listStagedFiles": _list_long,
    "uploadFile": _upload,
    "uploadFileForm": _upload_form,
    "openUploadSession": _open_session,
    "createPartUrls": lambda call: {"json": {"parts": [{"number": 1, "md5": CHECKSUM}]}},
    "completeUploadSession": _complete,
    "uploadPart": lambda call: {**_upload(call), "ids": {"number": "1"}},
    "checkSheet": _send_sheet,
    "stageSheet": _send_sheet,
    "annotateSheet": _send_sheet,
    "createSubmission": _submit,
    "prevalidateSubmission": _submit,
    "listSubmissions": _list_long,
    "createGroup": _name_anew,
    "changeGroupName": _rename_group,
    "serviceSetMetaDatum": _execute,
    "postService": _name_anew,
    "putService": _name_anew,
    "updateAppSettings": lambda call: {"json": {"value": f"support{next(_numbers)}@example.org"}},
    "previewAppSetting": lambda call: {"json": {"value": "Hello {name}"}},
    "postRegistration": lambda call: {"json": make_registration(_make_address(), call.client.group)},
    "answerRegistration": lambda call: {"json": {"accept": True}},
}
"""What an operation is sent, beside the id in its path."""


def check_refusal(response: webtest.TestResponse) -> None:
    """A refusal tells what is wrong, and nothing about anybody."""
    assert response.content_type == "application/json"
    assert all(problem["error_code"] and problem["message"] for problem in response.json)
    assert not PERSONAL.search(response.text)


def check_answer(call: Call, response: webtest.TestResponse) -> None:
    """An answer holds what the actor may see, and no more."""
    operation, actor = call.cell.row.operation, call.cell.actor
    assert not any(secret in response.body for secret in call.world.secrets)
    if operation in read_lists() and not call.state.startswith("awaiting"):
        _check_list(call, response.text)
    if operation == "userInformationRequest":
        is_open = actor == "site admin" or (actor == "group admin" and call.cell.row.relation != "other group")
        assert all((response.json[key] is not None) == is_open for key in ROLE_KEYS)
    if operation == "searchMetaDataSets":
        for row in response.json["rows"]:
            _check_service_fields(row["metadataset"], is_seen=actor in SEE_SERVICES)
    if operation == "exportMetaDataSets":
        # Others may have added fields, and changed names.
        headings = response.text.lstrip("\ufeff").splitlines()[0].split(",")
        assert headings[:5] == ["Metadataset", "Submission", "Submitted", "Group", "User"]
        assert bool({"Quality", "Report"} & set(headings)) == (actor in SEE_SERVICES)
    if operation == "getMetaDataSetHistory":
        is_told = "service.executed" in {event["event"] for event in response.json}
        assert is_told == (call.state == "executed" and actor in SEE_SERVICES)
    if operation == "getOverview":
        _check_overview(actor, response.json)
    if operation in READ_SETS:
        shown = response.json if isinstance(response.json, list) else [response.json]
        for each in shown:
            _check_service_fields(each, is_seen=actor in SEE_SERVICES)
        if call.state == "executed" and actor in SEE_SERVICES:
            assert shown[0]["record"]["Quality"] == "good"


def _check_list(call: Call, text: str) -> None:
    """The list shows the things of those whom the matrix names, and of nobody else."""
    listed = read_lists()[call.cell.row.operation]
    for relation, actors in listed.shown_to.items():
        thing = call.world.get_thing(listed.kind, listed.state, call.world.get_owner(call.cell.actor, relation))
        is_shown = any(name and name in text for name in (thing.uuid, thing.site))
        assert is_shown == (call.cell.actor in actors), relation


def _check_overview(actor: str, shown: dict[str, Any]) -> None:
    assert (shown["site"] is not None) == (actor == "site admin")
    assert bool(shown["lastAnswers"]) == (actor in SEE_SERVICES)
    groups = {submission["group"]["name"] for submission in shown["lastSubmissions"]}
    assert groups <= ({HOME, ELSEWHERE} if actor == "site read" else {HOME})


def _check_service_fields(shown: dict[str, Any], *, is_seen: bool) -> None:
    assert ("Report" in shown["fileIds"]) == is_seen
    if is_seen:
        assert shown["serviceExecutions"].keys() == {"Quality", "Report"}
    else:
        assert shown["serviceExecutions"] is None
        assert not {"Quality", "Report"} & shown["record"].keys()
