"""docs/api.md shows every operation of the specification as it answers today."""

import hashlib
from typing import Any

import pyotp
from sqlalchemy import text

from tests.conftest import API, BASE_URL, PASSWORD, Client, Portal, announce, sign_in
from tests.docs import check_document
from tests.docs.api import Recorder

READS = b"@read1\nACGT\n+\nFFFF\n"
MD5 = hashlib.md5(READS).hexdigest()
NEW_PASSWORD = "seven purple herons rest"


def test_the_document_shows_every_operation_as_it_answers(portal: Portal) -> None:
    admin = portal.add_user("Office", site_admin=True)
    bot = portal.add_user("Office", site_read=True)
    lab = portal.add_user("Lab North")
    recorder = Recorder({lab.token: "KEY", admin.token: "ADMIN_KEY", bot.token: "BOT_KEY"})
    show_site(recorder, portal, admin)
    service = show_services(recorder, admin, bot)
    show_fields(recorder, admin, service)
    submit_files_and_records(recorder, lab)
    answer_as_a_service(recorder, bot, service)
    search_what_was_submitted(recorder, admin, lab, bot)
    send_sample_sheets(recorder, lab)
    throw_staged_things_away(recorder, lab)
    show_groups_and_users(recorder, admin)
    show_keys(recorder, lab)
    show_sessions(recorder, portal, lab)
    show_second_factor(recorder, admin, lab)
    show_events(recorder, admin, lab)
    look_after_the_site(recorder, admin)
    assert set(recorder.examples) == set(recorder.operations)
    check_document("api.md", recorder.render())


def site_of(thing: Any) -> str:
    """Return the site id of what was answered."""
    text: str = thing["id"]["site"]
    return text


def show_site(recorder: Recorder, portal: Portal, admin: Client) -> None:
    stranger = portal.anonymous()
    recorder.show(stranger, "getServerInfo")
    settings = recorder.show(admin, "appSettings").json
    name = next(setting for setting in settings if setting["key"] == "site_name")
    recorder.show(admin, "updateAppSettings", {"value": "Genome registry"}, id=name["id"]["uuid"])
    recorder.show(stranger, "getRegistrationSettings")
    wish = {
        "name": "Noor New",
        "email": "noor@example.org",
        "org_select": None,
        "org_create": "yes",
        "org_new_name": "Lab South",
        "check_user_agreement": True,
    }
    recorder.show(stranger, "postRegistration", wish)
    [registration] = recorder.show(admin, "listRegistrations").json
    answer = {"accept": True, "message": "Welcome!"}
    recorder.show(admin, "answerRegistration", answer, id=registration["id"]["uuid"])


def show_services(recorder: Recorder, admin: Client, bot: Client) -> str:
    service = site_of(recorder.show(admin, "postService", {"name": "Genome analysis"}).json)
    recorder.show(admin, "putService", {"userIds": [bot.site_id]}, id=service)
    recorder.show(admin, "getServiceInfo")
    return service


def show_fields(recorder: Recorder, admin: Client, service: str) -> None:
    definition = {
        "name": "ZIPCode",
        "regexDescription": "The first three digits of the postal code.",
        "longDescription": "Where the sample was taken.",
        "example": "720",
        "regExp": "[0-9]{3}",
        "dateTimeFmt": "",
        "isMandatory": False,
        "order": 200,
        "isFile": False,
        "isSubmissionUnique": False,
        "isSiteUnique": False,
        "serviceId": None,
    }
    added = recorder.show(admin, "createMetaDatum", definition).json
    recorder.show(admin, "updateMetaDatum", definition | {"isMandatory": True}, id=added["id"]["uuid"])
    admin.add_field("Lab-ID", order=100, isMandatory=True, isSiteUnique=True)
    admin.add_field("Reads", order=300, isFile=True)
    admin.add_field("Accession", order=400, serviceId=service)
    recorder.show(admin, "getMetaData")
    refine_fields(recorder, admin)


def refine_fields(recorder: Recorder, admin: Client) -> None:
    amount = admin.add_field("Concentration", order=500)["id"]["uuid"]
    refinement = {
        "kind": "number",
        "unit": "ng/µl",
        "minimum": "0",
        "maximum": "500",
        "isInteger": False,
        "missingTerms": ["not collected", "not provided"],
    }
    recorder.show(admin, "setRefinement", refinement, id=amount)
    recorder.show(admin, "getRefinement", id=amount)
    host = admin.add_field("Host", order=600)["id"]["uuid"]
    terms = [{"term": "Homo sapiens", "synonyms": ["human", "man"]}, {"term": "Mus musculus", "synonyms": ["mouse"]}]
    recorder.show(admin, "setVocabulary", {"terms": terms}, id=host)
    recorder.show(admin, "getVocabulary", id=host)
    rule = {
        "message": "The host is needed where a concentration is given.",
        "when": [{"field": "Concentration", "operator": "is_filled"}],
        "then": [{"field": "Host", "operator": "is_filled"}],
    }
    recorder.show(admin, "tryRecordRules", {"rules": [rule], "record": {"Concentration": "12.5"}})
    recorder.show(admin, "setRecordRules", {"rules": [rule]})
    recorder.show(admin, "getRecordRules")


def submit_files_and_records(recorder: Recorder, lab: Client) -> None:
    body, headers = {"name": "reads.fastq", "checksum": MD5}, {"DataMeta-File-Size": str(len(READS))}
    announced = recorder.show(lab, "createFile", body, headers=headers).json
    file = site_of(announced)
    announced = recorder.show(lab, "renewUploadUrl", id=file).json
    upload = announced["id"]["uuid"]
    headers = announced["requestHeaders"]
    stranger = lab.portal.anonymous()
    recorder.show(stranger, "uploadFile", upload=READS, headers=headers, id=upload)
    recorder.show(stranger, "uploadFileForm", upload=READS, headers=headers, id=upload)
    recorder.show(lab, "updateFile", {"contentUploaded": True}, id=file)
    recorder.show(lab, "getFile", id=file)
    send_in_parts(recorder, lab)
    recorder.show(lab, "listStagedFiles")
    url = recorder.show(lab, "getFileUrl", query="?expires=10", id=file).json["fileUrl"]
    assert url.startswith(BASE_URL)
    recorder.show(stranger, "downloadFile", token=url.rsplit("/", 1)[1])
    record = {"Lab-ID": "S001", "ZIPCode": "720", "Reads": "reads.fastq"}
    metadataset = site_of(recorder.show(lab, "createMetaDataSet", {"record": record}).json)
    recorder.show(lab, "updateMetaDataSet", {"record": record | {"ZIPCode": "721"}}, id=metadataset)
    stage_and_announce_many(recorder, lab)
    recorder.show(lab, "getMetaDataSet", id=metadataset)
    recorder.show(lab, "listStagedMetaDataSets")
    body = {"metadatasetIds": [metadataset], "fileIds": [file], "label": "First run"}
    recorder.show(lab, "prevalidateSubmission", body)
    headers = {"Idempotency-Key": "first-run"}
    submission = site_of(recorder.show(lab, "createSubmission", body, headers=headers).json)
    recorder.show(lab, "listSubmissions")
    recorder.show(lab, "getSubmission", id=submission)
    recorder.show(lab, "listSubmissionFiles", id=submission)
    recorder.show(lab, "getGroupSubmissions", id=lab.group)
    give_a_session_up(recorder, lab)


def stage_and_announce_many(recorder: Recorder, lab: Client) -> None:
    """Show what becomes of a good one and a bad one, and throw the good ones away."""
    body: dict[str, Any] = {"records": [{"Lab-ID": "S010", "ZIPCode": "720"}, {"Lab-ID": "S011", "ZIPCode": "72"}]}
    [staged, _] = recorder.show(lab, "bulkCreateMetaDataSets", body, query="?only=good").json["results"]
    lab.delete(f"/metadatasets/{site_of(staged)}")
    body = {"files": [{"name": f"S010_R{number}.fastq", "checksum": MD5, "size": len(READS)} for number in (1, 2)]}
    announced = recorder.show(lab, "bulkCreateFiles", body).json["results"]
    lab.post("/rpc/delete-files", {"fileIds": [site_of(result["upload"]) for result in announced]})


def send_in_parts(recorder: Recorder, lab: Client) -> None:
    file = site_of(announce(lab, READS, name="run.bam"))
    recorder.show(lab, "openUploadSession", {"size": len(READS)}, id=file)
    [part] = recorder.show(lab, "createPartUrls", {"parts": [{"number": 1, "md5": MD5}]}, id=file).json["parts"]
    upload = part["url"].removeprefix(f"{BASE_URL}{API}/upload/").removesuffix("/1")
    stranger = lab.portal.anonymous()
    recorder.show(stranger, "uploadPart", upload=READS, headers=part["requestHeaders"], id=upload, number="1")
    recorder.show(lab, "listUploadParts", id=file)
    recorder.show(lab, "completeUploadSession", {"checksum": hashlib.sha256(READS).hexdigest()}, id=file)
    recorder.show(lab, "getUploadSession", id=file)


def give_a_session_up(recorder: Recorder, lab: Client) -> None:
    file = site_of(announce(lab, READS))
    assert lab.post(f"/files/{file}/upload-session", {"size": len(READS)}).status_int == 200
    recorder.show(lab, "abortUploadSession", id=file)


def answer_as_a_service(recorder: Recorder, bot: Client, service: str) -> None:
    [waiting] = recorder.show(bot, "getMetaDataSets", query=f"?awaitingService={service}&limit=100").json
    body = {"record": {"Accession": "ACC-S001"}, "fileIds": []}
    recorder.show(bot, "serviceSetMetaDatum", body, serviceId=service, metadatasetId=site_of(waiting))


def search_what_was_submitted(recorder: Recorder, admin: Client, lab: Client, bot: Client) -> None:
    query = "?q=s001&where=ZIPCode%3D%3D721&sort=field:Lab-ID&limit=10"
    [row] = recorder.show(lab, "searchMetaDataSets", query=query).json["rows"]
    columns = "&column=Lab-ID&column=ZIPCode&column=Accession"
    recorder.show(bot, "exportMetaDataSets", query=f"?format=csv&submittedAfter=2026-01-01T00:00:00Z{columns}")
    recorder.show(bot, "getMetaDataSetHistory", id=site_of(row["metadataset"]))
    recorder.show(admin, "getOverview")


def send_sample_sheets(recorder: Recorder, lab: Client) -> None:
    """Show a sheet with a mistake, and the same without it."""
    bad, good = (f"Lab-ID,ZIPCode\nS-101,{code}\n".encode() for code in ("72", "721"))
    recorder.show(lab, "getSheetTemplate")
    recorder.show(lab, "checkSheet", query="?filename=run7.csv&rows=true", sheet=bad)
    recorder.show(lab, "annotateSheet", query="?filename=run7.csv", sheet=bad)
    recorder.show(lab, "stageSheet", query="?filename=run7.csv", sheet=good)


def throw_staged_things_away(recorder: Recorder, lab: Client) -> None:
    files = [site_of(lab.upload(f"{name}.fastq", READS)) for name in "abc"]
    recorder.show(lab, "deleteFile", id=files.pop())
    recorder.show(lab, "bulkDeleteStagedFiles", {"fileIds": files})
    sets = [site_of(lab.stage(**{"Lab-ID": name, "ZIPCode": "720"})) for name in ("S002", "S003", "S004")]
    recorder.show(lab, "deleteMetadataSet", id=sets.pop())
    recorder.show(lab, "bulkDeleteStagedMetaDataSets", {"metadatasetIds": sets})


def show_groups_and_users(recorder: Recorder, admin: Client) -> None:
    group = site_of(recorder.show(admin, "createGroup", {"name": "Lab West"}).json)
    recorder.show(admin, "changeGroupName", {"name": "Lab East"}, id=group)
    recorder.show(admin, "groupInformationRequest", id=group)
    recorder.show(admin, "listGroups")
    body = {"name": "Eda East", "email": "eda@example.org", "groupId": group}
    user = site_of(recorder.show(admin, "createUser", body).json)
    recorder.show(admin, "userUpdateRequest", {"groupAdmin": True}, id=user)
    recorder.show(admin, "userInformationRequest", id=user)
    recorder.show(admin, "listUsers", query="?search=eda")


def show_keys(recorder: Recorder, lab: Client) -> None:
    recorder.show(lab, "getUserInformation")
    body = {"email": lab.email, "password": PASSWORD, "label": "laptop"}
    key = recorder.show(lab.portal.anonymous(), "createApiKey", body).json
    recorder.show(lab, "getUserApiKeys", id=lab.site_id)
    recorder.show(lab, "deleteApiKey", id=key["id"]["uuid"])


def show_sessions(recorder: Recorder, portal: Portal, lab: Client) -> None:
    body = {"email": lab.email, "password": PASSWORD}
    other = recorder.show(portal.anonymous(), "createSession", body).json
    browser = sign_in(lab)
    recorder.show(browser, "getCurrentSession")
    recorder.show(browser, "listSessions")
    recorder.show(browser, "deleteSession", id=other["id"]["uuid"])
    body = {"passwordChangeCredential": PASSWORD, "newPassword": NEW_PASSWORD}
    recorder.show(browser, "setUserPassword", body, id=lab.site_id)
    recorder.show(portal.anonymous(), "requestPasswordReset", {"email": lab.email})
    recorder.show(sign_in(lab, NEW_PASSWORD), "deleteCurrentSession")


def show_second_factor(recorder: Recorder, admin: Client, lab: Client) -> None:
    browser = sign_in(lab, NEW_PASSWORD)
    begun = recorder.show(browser, "beginTotp", {"password": NEW_PASSWORD}, id=lab.site_id).json
    code = pyotp.TOTP(begun["secret"]).now()
    [code, *_] = recorder.show(browser, "confirmTotp", {"code": code}, id=lab.site_id).json["recoveryCodes"]
    proof = {"password": NEW_PASSWORD, "code": code}
    [code, *_] = recorder.show(browser, "renewRecoveryCodes", proof, id=lab.site_id).json["recoveryCodes"]
    recorder.show(browser, "removeTotp", proof | {"code": code}, id=lab.site_id)
    recorder.show(admin, "deleteTotpSecret", id=lab.site_id)


def show_events(recorder: Recorder, admin: Client, lab: Client) -> None:
    recorder.show(lab, "listUserEvents", query="?limit=2", id=lab.site_id)
    recorder.show(admin, "listAuditEvents", query="?event=user.changed&limit=10")


def look_after_the_site(recorder: Recorder, admin: Client) -> None:
    recorder.show(admin.portal.anonymous(), "getSite")
    field = next(field for field in admin.get("/metadata").json if field["name"] == "ZIPCode")
    draft = {name: "" if value is None else value for name, value in field.items() if name != "id"}
    trial = {"metadatum": draft | {"regExp": "[0-9]{5}", "serviceId": None}, "metadatumId": field["id"]["uuid"]}
    recorder.show(admin, "tryField", trial | {"value": "72076"})
    settings = admin.get("/appsettings").json
    body = next(setting for setting in settings if setting["key"] == "mail_totp_removed_body")
    words = "Hello {name},\n\nyour second factor at {site_name} was removed.\n"
    recorder.show(admin, "previewAppSetting", {"value": words}, id=body["id"]["uuid"])
    recorder.show(admin, "checkStorage")
    [mail, *_] = recorder.show(admin, "listJobs", query="?status=todo").json
    with admin.portal.database.sessions.begin() as db:
        db.execute(text("UPDATE procrastinate_jobs SET status = 'failed' WHERE id = :id"), {"id": mail["id"]})
    recorder.show(admin, "retryJob", id=str(mail["id"]))
