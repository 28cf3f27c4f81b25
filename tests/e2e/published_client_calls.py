"""What a lab, a service and an administrator do with the published client; run by the client's own Python.

Called with a folder for files. Prints, as its last line, what came back, and which operations succeeded.
"""

import email
import email.policy
import json
import os
import re
import sys
import time
import urllib.request
from pathlib import Path

from datameta_client import config, files, groups, metadatasets, services, submissions, users
from datameta_client_lib import ApiClient, ApiException, api_client
from datameta_client_lib.api.authentication_and_users_api import AuthenticationAndUsersApi
from datameta_client_lib.api.files_api import FilesApi
from datameta_client_lib.api.groups_api import GroupsApi
from datameta_client_lib.api.metadata_api import MetadataApi
from datameta_client_lib.api.remote_procedure_calls_api import RemoteProcedureCallsApi
from datameta_client_lib.api.server_api import ServerApi
from datameta_client_lib.api.services_api import ServicesApi
from datameta_client_lib.api.settings_api import SettingsApi
from datameta_client_lib.api.submissions_api import SubmissionsApi
from datameta_client_lib.api.user_api import UserApi
from datameta_client_lib.models import (
    AppSettingsUpdateRequest,
    CreateTokenRequest,
    FileAnnouncement,
    FileUpdateRequest,
    GroupUpdateRequest,
    MetaDatum,
    PasswordChange,
    RegistrationRequest,
    ServiceRequest,
    ServiceUpdateRequest,
    StagedFiles,
    StagedMetaDataSets,
    UserUpdateRequest,
)

folder = Path(sys.argv[1])
lab_token, bot_token, admin_token = os.environ["DATAMETA_TOKEN"], os.environ["BOT_TOKEN"], os.environ["ADMIN_TOKEN"]
succeeded = set()
call = api_client.Endpoint.__call__


def record_call(endpoint, *args, **kwargs):
    answer = call(endpoint, *args, **kwargs)
    succeeded.add(f"{endpoint.settings['http_method']} {endpoint.settings['endpoint_path']}")
    return answer


api_client.Endpoint.__call__ = record_call


def act_as(token):
    """Be somebody else from now on; the client's functions for files take nobody's word but the environment's."""
    os.environ["DATAMETA_TOKEN"] = token
    return ApiClient(config.get_config())


def write(name, content):
    path = folder / name
    path.write_bytes(content)
    return str(path)


def make_record(sample, **others):
    return {
        "Lab-ID": sample,
        "Sampling date": "2026-03-14",
        "ZIPCode": "072",
        "Sequencing platform": "Illumina",
        "FileR1": f"{sample}_R1.fastq",
        **others,
    }


def read_reset_token(address):
    """Wait for the mail with the link to a new password, and return the link's token."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in Path(os.environ["MAIL_FOLDER"]).glob("*.eml"):
            mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            token = re.search(r"/setpass#([A-Za-z0-9_-]+)", mail.get_content())
            if mail["To"] == address and token:
                return token[1]
        time.sleep(0.1)
    raise TimeoutError(address)


# A lab stages, tries, submits, and reads back.
lab = act_as(lab_token)
me = RemoteProcedureCallsApi(lab).get_user_information()
version = ServerApi(lab).get_server_info().datameta_version
fields = [field.name for field in MetadataApi(lab).get_meta_data().value]
staged = metadatasets.stage(make_record("C1"), quiet=True)
file = files.stage(write("C1_R1.fastq", b"@c1"), quiet=True)
chosen = {"metadataset_ids": [staged["id"]["site"]], "file_ids": [file["id"]["uuid"]], "label": "client"}
too_early = submissions.prevalidate(**{**chosen, "file_ids": []}, quiet=True)
valid = submissions.prevalidate(**chosen, quiet=True)
submitted = submissions.submit(**chosen, quiet=True)
group = groups.get_group(me.group.id.site, quiet=True)
by_groups = GroupsApi(lab).get_group_submissions(group["id"]["uuid"]).value
by_submissions = SubmissionsApi(lab).get_group_submissions(group["id"]["site"]).value
read = MetadataApi(lab).get_meta_data_set(staged["id"]["uuid"]).to_dict()
found = metadatasets.search(quiet=True)
file_read = FilesApi(lab).get_file(file["id"]["site"]).to_dict()
url = files.download_url(file["id"]["site"], expires=5, quiet=True)
with urllib.request.urlopen(url["file_url"]) as answer:
    downloaded = answer.read().decode()

# It changes its mind.
announced = FilesApi(lab).create_file(file_announcement=FileAnnouncement(name="x", checksum="0" * 32))
renamed = FilesApi(lab).update_file(announced.id.uuid, file_update_request=FileUpdateRequest(name="y")).name
FilesApi(lab).delete_file(announced.id.uuid)
unwanted = files.stage(write("unwanted", b"?"), quiet=True)["id"]["site"]
RemoteProcedureCallsApi(lab).bulk_delete_staged_files(staged_files=StagedFiles(file_ids=[unwanted]))
unwanted = [metadatasets.stage(make_record(f"C{number}"), quiet=True)["id"]["site"] for number in (2, 3)]
MetadataApi(lab).delete_metadata_set(unwanted[0])
RemoteProcedureCallsApi(lab).bulk_delete_staged_meta_data_sets(
    staged_meta_data_sets=StagedMetaDataSets(metadataset_ids=unwanted[1:])
)

# It makes a second key, and revokes it.
accounts = AuthenticationAndUsersApi(lab)
key = accounts.create_api_key(create_token_request=CreateTokenRequest(label="second"))
keys = [entry["label"] for entry in accounts.get_user_api_keys(me.id.site).value]
accounts.delete_api_key(key.id.uuid)
user = users.get_user(me.id.uuid, quiet=True)

# An administrator adds a service with a field of its own.
admin = act_as(admin_token)
created = ServicesApi(admin).post_service(service_request=ServiceRequest(name="Client check"))
[bot_id] = [user.site for each in services.list_(quiet=True).value for user in each.user_ids]
service = ServicesApi(admin).put_service(
    created.id.uuid, service_update_request=ServiceUpdateRequest(name="Client test", user_ids=[bot_id])
)
definition = {
    "name": "Verdict",
    "regex_description": "",
    "long_description": "",
    "example": "",
    "reg_exp": "",
    "date_time_fmt": "",
    "is_mandatory": False,
    "order": 900,
    "is_file": False,
    "is_submission_unique": False,
    "is_site_unique": False,
    "service_id": service.id.site,
}
field = MetadataApi(admin).create_meta_datum(meta_datum=MetaDatum(**definition))
changed = MetadataApi(admin).update_meta_datum(field.id.uuid, meta_datum=MetaDatum(**definition | {"reg_exp": "good"}))
GroupsApi(admin).change_group_name(
    group["id"]["uuid"], group_update_request=GroupUpdateRequest(name=group["name"] + " 2")
)
renamed_group = groups.get_group(group["id"]["uuid"], quiet=True)["name"]
GroupsApi(admin).change_group_name(group["id"]["uuid"], group_update_request=GroupUpdateRequest(name=group["name"]))

# The administrator changes a user and a setting.
AuthenticationAndUsersApi(admin).user_update_request(me.id.site, user_update_request=UserUpdateRequest(name="Lena L."))
renamed_user = users.get_user(me.id.uuid, quiet=True)["name"]
AuthenticationAndUsersApi(admin).user_update_request(me.id.site, user_update_request=UserUpdateRequest(name=me.name))
setting = next(each for each in SettingsApi(admin).app_settings() if each.key == "site_name")
SettingsApi(admin).update_app_settings(
    setting.id.uuid, app_settings_update_request=AppSettingsUpdateRequest(value="Client's site")
)
site_name = next(each.value for each in SettingsApi(admin).app_settings() if each.key == "site_name")

# A stranger registers; a user who forgot the password sets another by the link in a mail.
offered = [each.name for each in UserApi(admin).get_registration_settings().groups]
UserApi(admin).post_registration(
    registration_request=RegistrationRequest(
        name="Nora New",
        email="nora@demo.example",
        org_select=None,
        org_create="yes",
        org_new_name="Client's lab",
        check_user_agreement=True,
    )
)
forgetful = "other.lab@demo.example"
urllib.request.urlopen(
    urllib.request.Request(
        os.environ["DATAMETA_URL"] + "/api/v1/rpc/request-password-reset",
        data=json.dumps({"email": forgetful}).encode(),
        headers={"Content-Type": "application/json"},
    )
)
AuthenticationAndUsersApi(admin).set_user_password(
    "0",
    password_change=PasswordChange(
        password_change_credential=read_reset_token(forgetful), new_password="another fine long phrase"
    ),
)

# The services' user takes what awaits it, and answers with a text and a file.
bot = act_as(bot_token)
analysis = next(each.service_id.site for each in MetadataApi(bot).get_meta_data().value if each.name == "Accession")
awaiting = metadatasets.search(awaiting_service=analysis, quiet=True)
report = files.stage(write("C1_report.txt", b"good"), quiet=True)
services.execute(service.id.site, staged["id"]["site"], {"Verdict": "good"}, "", quiet=True)
answered = services.execute(
    analysis,
    staged["id"]["uuid"],
    {"Accession": "ACC-C1", "Report": "C1_report.txt"},
    [report["id"]["site"]],
    quiet=True,
).to_dict()
try:
    awaiting_now = [each["id"] for each in metadatasets.search(awaiting_service=analysis, quiet=True)]
except ApiException as error:
    if error.status != 404:
        raise
    awaiting_now = []

print(
    json.dumps(
        {
            "me": me.email,
            "version": version,
            "fields": fields,
            "too early": too_early,
            "valid": valid,
            "submitted sets": submitted["metadataset_ids"],
            "submitted files": submitted["file_ids"],
            "by groups": [each.label for each in by_groups],
            "by submissions": [each.label for each in by_submissions],
            "staged": staged["id"],
            "found": [each["id"] for each in found],
            "read": read["record"]["Lab-ID"],
            "file": file["id"],
            "file read": file_read["checksum"],
            "downloaded": downloaded,
            "renamed": renamed,
            "keys": keys,
            "user": user["name"],
            "service users": [each.site for each in service.user_ids],
            "changed": changed.reg_exp,
            "group": group["name"],
            "renamed group": renamed_group,
            "renamed user": renamed_user,
            "site name": site_name,
            "offered groups": offered,
            "awaiting": [each["id"] for each in awaiting],
            "awaiting now": awaiting_now,
            "answer": answered["record"],
            "answer files": answered["file_ids"],
            "report": report["id"],
            "executions": sorted(name for name, value in answered["service_executions"].items() if value),
            "succeeded": sorted(succeeded),
        },
        default=str,
    )
)
