"""The client that labs and bots have from PyPI works against the portal, unmodified."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from datameta import __version__, api
from tests.e2e.conftest import DEADLINE_SECONDS, Served, make_environment, run_datameta

PACKAGES = ("setuptools<81", "datameta-client==1.0.1", "datameta-client-lib==1.4.0")
CALLS = Path(__file__).with_name("published_client_calls.py")
# What came after this version of the client.
NEWER = {
    "abortUploadSession",
    "annotateSheet",
    "answerRegistration",
    "beginTotp",
    "bulkCreateFiles",
    "bulkCreateMetaDataSets",
    "checkSheet",
    "checkStorage",
    "completeUploadSession",
    "confirmTotp",
    "createGroup",
    "createPartUrls",
    "createSession",
    "createUser",
    "deleteCurrentSession",
    "deleteSession",
    "deleteTotpSecret",
    "downloadFile",
    "exportMetaDataSets",
    "getCurrentSession",
    "getMetaDataSetHistory",
    "getOverview",
    "getRecordRules",
    "getRefinement",
    "getSheetTemplate",
    "getSite",
    "getSubmission",
    "getUploadSession",
    "getVocabulary",
    "listAuditEvents",
    "listGroups",
    "listJobs",
    "listRegistrations",
    "listSessions",
    "listStagedFiles",
    "listStagedMetaDataSets",
    "listSubmissionFiles",
    "listSubmissions",
    "listUploadParts",
    "listUserEvents",
    "listUsers",
    "openUploadSession",
    "previewAppSetting",
    "removeTotp",
    "renewRecoveryCodes",
    "renewUploadUrl",
    "requestPasswordReset",
    "retryJob",
    "searchMetaDataSets",
    "setRecordRules",
    "setRefinement",
    "setVocabulary",
    "stageSheet",
    "tryField",
    "tryRecordRules",
    "updateMetaDataSet",
    "uploadFile",
    "uploadFileForm",
    "uploadPart",
}


@pytest.fixture(scope="session")
def client_programs(request: pytest.FixtureRequest) -> Path:
    """Install the client in an environment of its own, once, and return the folder of its programs."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    environment = Path(request.config.cache.mkdir(f"published-client-{version}")) / "venv"
    is_complete = environment / "complete"
    if not is_complete.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
        pip: list[str | Path] = [
            environment / "bin" / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        subprocess.run([*pip, *PACKAGES], check=True)
        is_complete.write_text("\n".join(PACKAGES))
    return environment / "bin"


@pytest.fixture(scope="session")
def answers(served_demo: Served, client_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Do everything with the client's functions and return what came back."""
    added = run_datameta("key", "add", "site.admin@demo.example", "--label", "client", "--home", str(served_demo.home))
    assert added.returncode == 0, added.stderr
    folder = tmp_path_factory.mktemp("client")
    tokens = {"BOT_TOKEN": served_demo.open_bot().token, "ADMIN_TOKEN": added.stdout.strip()}
    tokens["MAIL_FOLDER"] = str(served_demo.home / "mail")
    output = run_client([client_programs / "python", CALLS, folder], served_demo, folder, **tokens)
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def run_client(command: list[str | Path], served: Served, home: Path, **variables: str) -> str:
    """Run a program of the client as the lab, and return what it printed."""
    tokens = {"DATAMETA_URL": served.address, "DATAMETA_TOKEN": served.open_lab().token}
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env=make_environment(HOME=str(home), **tokens, **variables),
        timeout=DEADLINE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_lab_stages_uploads_submits_and_reads_back(answers: dict[str, Any]) -> None:
    assert answers["me"] == "lab@demo.example"
    assert answers["version"] == __version__
    assert {"Lab-ID", "FileR1", "Accession"} < set(answers["fields"])
    assert (answers["too early"], answers["valid"]) == (False, True)
    assert answers["submitted sets"] == [answers["staged"]]
    assert answers["submitted files"] == [answers["file"]]
    assert "client" in answers["by groups"]
    assert answers["by submissions"] == answers["by groups"]
    assert answers["staged"] in answers["found"]
    assert answers["read"] == "C1"
    assert answers["file read"] == hashlib.md5(b"@c1").hexdigest()
    assert answers["downloaded"] == "@c1"


def test_a_lab_changes_its_mind(answers: dict[str, Any]) -> None:
    assert answers["renamed"] == "y"
    assert {"second", "demo"} <= set(answers["keys"])
    assert answers["user"] == "Lena Lab"


def test_an_administrator_defines_a_service_and_its_field(answers: dict[str, Any]) -> None:
    assert len(answers["service users"]) == 1
    assert answers["changed"] == "good"
    assert answers["renamed group"] == f"{answers['group']} 2"


def test_accounts_and_settings_are_within_the_clients_reach(answers: dict[str, Any]) -> None:
    assert answers["renamed user"] == "Lena L."
    assert answers["site name"] == "Client's site"
    assert "Demo Lab North" in answers["offered groups"]


def test_a_service_answers(answers: dict[str, Any]) -> None:
    assert answers["staged"] in answers["awaiting"]
    assert answers["staged"] not in answers["awaiting now"]
    assert answers["answer"]["Accession"] == "ACC-C1"
    assert answers["answer"]["Verdict"] == "good"
    assert answers["answer files"]["Report"] == answers["report"]
    assert answers["executions"] == ["Accession", "Report", "Verdict"]


def test_every_operation_that_the_client_knows_was_called(answers: dict[str, Any]) -> None:
    called = {
        described["operationId"]
        for path, method, described in api.iterate_operations(api.load_spec())
        if f"{method.upper()} {path}" in answers["succeeded"]
    }
    every = {described["operationId"] for _, _, described in api.iterate_operations(api.load_spec())}
    assert called == every - NEWER


def test_the_clients_command_stages_and_submits(client_programs: Path, served_demo: Served, tmp_path: Path) -> None:
    (tmp_path / "D1_R1.fastq").write_bytes(b"@d1")
    record = {
        "Lab-ID": "D1",
        "Sampling date": "2026-03-14",
        "ZIPCode": "720",
        "Sequencing platform": "Other",
        "FileR1": "D1_R1.fastq",
    }
    (tmp_path / "record.json").write_text(json.dumps(record))
    command = client_programs / "dmclient"
    words: list[str | Path] = [command, "shortcuts", "stage-and-submit", tmp_path / "record.json", tmp_path]
    run_client([*words, "--label", "command"], served_demo, tmp_path)
    found = run_client([command, "metadatasets", "search"], served_demo, tmp_path)
    assert "D1_R1.fastq" in found
