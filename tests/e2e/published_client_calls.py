"""What a lab, a service and an administrator do with the published client; run by the client's own Python.

Called with a folder for files. Prints, as its last line, what came back, and which operations succeeded.
"""

import json
import os
import sys
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
from datameta_client_lib.api.submissions_api import SubmissionsApi
from datameta_client_lib.models import (
    CreateTokenRequest,
    FileAnnouncement,
    FileUpdateRequest,
    GroupUpdateRequest,
    MetaDatum,
    ServiceRequest,
    ServiceUpdateRequest,
    StagedFiles,
    StagedMetaDataSets,
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
