"""A whole portal at work, logging all it can: every line has its form, and none holds what would open a door."""

import json
import re
import socket
import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyotp
import pytest
import requests

from tests.e2e.conftest import (
    DATAMETA,
    DEADLINE_SECONDS,
    Api,
    Served,
    curl,
    make_environment,
    run_datameta,
    run_main_job,
    serve,
    serve_cleanly,
)
from tests.e2e.test_s3_rgw import make_store
from tests.rgw import RGW
from tests.unit.conftest import poll

MONITORING_TOKEN = "Mt-8f3Kq0zRw7LxV2nYb5TsHc9JdPg4AeUi"
SECRET_KEY = "Sk-Wq7Lz2Xv9Nb4Rt6Yh1Jm8Kc3Pd5Fg0Ae"
ANY_TOKEN = re.compile(r"\b(?![0-9a-f]{64}\b)[A-Za-z0-9]{64}\b")
QUERY = re.compile(r'https?://[^"\s?]+\?([^"\s]+)')


class Secrets:
    """What must not be found in a log, by kind."""

    def __init__(self) -> None:
        self.found: dict[str, set[str]] = {}

    def add(self, kind: str, *secrets: str) -> None:
        assert all(len(secret) >= 6 for secret in secrets), kind
        self.found.setdefault(kind, set()).update(secrets)

    def read(self, answer: requests.Response) -> None:
        """Take note of what an answer holds."""
        text = answer.text + str(answer.headers)
        self.add("token", *ANY_TOKEN.findall(text))
        for query in QUERY.findall(text):
            values = urllib.parse.parse_qs(query)
            self.add("signature", *values.get("X-Amz-Signature", []), *values.get("Signature", []))
            self.add("credential", *values.get("X-Amz-Credential", []))

    def check(self, log: str) -> None:
        """Fail for each secret in the log; the message does not show it."""
        told = {
            f"{kind} …{secret[-3:]}"
            for kind, secrets in self.found.items()
            for secret in secrets
            if secret in log or urllib.parse.quote(secret, safe="") in log
        }
        assert told == set()


class Listener(Api):
    """Somebody with an API key, whose answers are read for secrets."""

    secrets: Secrets

    def request(self, *words: Any, **more: Any) -> requests.Response:
        answer = super().request(*words, **more)
        self.secrets.read(answer)
        return answer


def listen(secrets: Secrets, address: str, token: str) -> Listener:
    listener = Listener(address, token)
    object.__setattr__(listener, "secrets", secrets)
    return listener


def work(served: Served, secrets: Secrets) -> None:
    """Do all that has to do with secrets, rightly and wrongly."""
    demo = served.read_demo()
    secrets.add("password", *demo["passwords"].values())
    secrets.add("key", demo["lab_key"], demo["bot_key"])
    lab, bot = (listen(secrets, served.address, demo[f"{name}_key"]) for name in ("lab", "bot"))
    run_main_job(lab, bot, "S1")
    assert curl(f"{served.address}/health/live")[0] == 200
    email, password = next(iter(demo["passwords"].items()))
    sign_in(served, secrets, email, password)
    reset_password(served, secrets, email)
    misbehave(lab, secrets, email)


def sign_in(served: Served, secrets: Secrets, email: str, password: str) -> None:
    """Sign in, set a second factor up, and sign in with it."""
    api = f"{served.address}/api/v1"
    with requests.Session() as session:
        session.trust_env = False

        def call(method: str, path: str, body: Any = None) -> Any:
            answer = session.request(method, api + path, json=body, timeout=DEADLINE_SECONDS)
            secrets.read(answer)
            assert answer.ok, answer.text
            secrets.add("cookie", *session.cookies.values())
            return answer.json() if answer.content else None

        begun = call("POST", "/sessions", {"email": email, "password": password})
        session.headers["X-CSRF-Token"] = begun["csrfToken"]
        secrets.add("csrf", begun["csrfToken"])
        user = call("GET", "/rpc/whoami")["id"]["uuid"]
        factor = call("POST", f"/users/{user}/totp", {"password": password})
        secret = factor["secret"]
        code = pyotp.TOTP(secret).now()
        confirmed = call("PUT", f"/users/{user}/totp", {"code": code})
        secrets.add("second factor", secret, code)
        secrets.add("recovery code", *confirmed["recoveryCodes"])
        call("DELETE", "/sessions/current")
        other = confirmed["recoveryCodes"][0]
        call("POST", "/sessions", {"email": email, "password": password, "otp": other})


def reset_password(served: Served, secrets: Secrets, email: str) -> None:
    """Have a link mailed, and set a new password by it."""
    lab = listen(secrets, served.address, "x" * 64)
    lab.call("POST", "/rpc/request-password-reset", {"email": email}, status=204)
    folder = served.home / "mail"
    mail = poll(lambda: folder.exists() and next((path.read_text() for path in folder.glob("*.eml")), None))
    [token] = set(ANY_TOKEN.findall(mail.replace("=\n", "")))
    password = "entirely new words 2"
    secrets.add("link", token)
    secrets.add("password", password)
    body = {"passwordChangeCredential": token, "newPassword": password}
    lab.call("PUT", "/users/0/password", body, status=204)


def misbehave(lab: Api, secrets: Secrets, email: str) -> None:
    """Send secrets to where they do not belong, and in forms that are refused."""
    secrets.add("password", "hunter2hunter2")
    wrong = {"email": email, "password": "hunter2hunter2"}
    lab.request("POST", "/sessions", wrong)
    lab.request("POST", "/sessions", {**wrong, "nonsense": "hunter2hunter2"})
    headers = {"Content-Type": "application/json"}
    lab.request("POST", "/sessions", data=b'{"password": "hunter2hunter2",', headers=headers)
    lab.request("GET", f"/download/{lab.token}")
    lab.request("GET", f"/nothing/{lab.token}?token={lab.token}")
    lab.request("GET", "/metadatasets?cursor=hunter2hunter2")
    lab.request("PUT", "/upload/1", data=b"x", headers={"Access-Token": lab.token})
    lab.request("GET", "/rpc/whoami", headers={"X-Long": lab.token * 2000})
    curl("-X", "get", "-H", f"Authorization: Bearer {lab.token}", lab.address)


def check_lines(log: str) -> list[dict[str, Any]]:
    """Check that each line is an event, and return them."""
    events = [json.loads(line) for line in log.splitlines()]
    assert all({"time", "level", "logger", "message"} <= event.keys() for event in events)
    return events


def test_at_work_in_a_folder_nothing_secret_is_logged(tmp_path: Path) -> None:
    secrets = Secrets()
    secrets.add("setting", MONITORING_TOKEN, SECRET_KEY)
    variables = {
        "DATAMETA_LOG_LEVEL": "debug",
        "DATAMETA_SLOW_QUERY_MS": "1",
        "DATAMETA_MONITORING_TOKEN": MONITORING_TOKEN,
        "DATAMETA_SECRET_KEY": SECRET_KEY,
    }
    with serve_cleanly(tmp_path / "home", tmp_path, "--demo", variables=variables) as served:
        work(served, secrets)
        metrics = curl("-H", f"Authorization: Bearer {MONITORING_TOKEN}", f"{served.address}/metrics")
        assert metrics[0] == 200
    expected = {"token", "password", "key", "cookie", "csrf", "second factor", "recovery code", "link", "setting"}
    assert expected <= {kind for kind, found in secrets.found.items() if found}
    secrets.check(served.log)
    secrets.check(metrics[1].decode())
    events = check_lines(served.log)
    access = [event for event in events if event["logger"] == "datameta.access"]
    assert {"createSubmission", "createSession", "unknown"} <= {event["operation"] for event in access}
    assert all(re.fullmatch("[0-9a-f]{32}", event["request_id"]) for event in access)
    assert {event["operation"] for event in events if event["message"] == "slow query"} > {"createSession"}
    assert any(event["level"] == "debug" for event in events)
    assert any("job_id" in event for event in events)


def test_at_work_on_s3_nothing_secret_is_logged(rgw: RGW, tmp_path: Path) -> None:
    secrets, store = Secrets(), make_store(rgw)
    secrets.add("setting", rgw.secret_key)
    variables = {**store.settings, "DATAMETA_LOG_LEVEL": "debug", "DATAMETA_LOG_FORMAT": "plain"}
    with serve_cleanly(tmp_path / "home", tmp_path, "--demo", variables=variables) as served:
        work(served, secrets)
    assert len(secrets.found["signature"]) >= 3
    secrets.check(served.log)
    assert " DEBUG " in served.log
    assert "operation=createSubmission" in served.log


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Served]:
    """A portal of two processes and a worker, with a monitoring token in a file."""
    (tmp_path / "token").write_text(MONITORING_TOKEN)
    variables = {"DATAMETA_MONITORING_TOKEN_FILE": str(tmp_path / "token")}
    with serve(tmp_path / "home", tmp_path, "--demo", variables=variables) as served:
        yield served


def scrape(served: Served) -> str:
    status, body = curl("-H", f"Authorization: Bearer {MONITORING_TOKEN}", f"{served.address}/metrics")
    assert status == 200
    return body.decode()


def test_all_processes_count_together(watched: Served) -> None:
    lab = watched.open_lab()
    for _ in range(40):
        lab.call("GET", "/rpc/whoami")
    text = scrape(watched)
    assert 'datameta_requests_total{operation="getUserInformation",status="200"} 40.0\n' in text
    assert 'datameta_ready{part="worker"} 1.0\n' in text
    # The worker's own process.
    assert poll(lambda: 'datameta_job_seconds_count{result="done",task="' in scrape(watched))
    folders = list((watched.home / "spool").glob("metrics-*"))
    assert len(folders) == 1
    assert len(list(folders[0].glob("counter_*.db"))) >= 2
    assert watched.stop() == 0
    assert not folders[0].exists()


def test_what_a_killed_portal_left_is_removed(watched: Served, tmp_path: Path) -> None:
    [left] = (watched.home / "spool").glob("metrics-*")
    watched.process.kill()
    watched.process.wait()
    (tmp_path / "2").mkdir()

    def is_gone() -> bool:
        with serve(watched.home, tmp_path / "2") as again:
            assert again.stop() == 0
        return not left.exists()

    # The last of the killed portal's children may still be ending.
    assert poll(is_gone)


def test_a_worker_alone_serves_its_own_metrics(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [DATAMETA, "worker", "--metrics-port", str(port), "--home", str(tmp_path / "home")]
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(command, stderr=log, env=make_environment())
    try:
        poll(lambda: "The worker is ready." in (tmp_path / "log").read_text())
        status, body = curl(f"http://127.0.0.1:{port}/metrics")
    finally:
        worker.terminate()
        assert worker.wait(DEADLINE_SECONDS) == 0
    assert status == 200
    assert b"# HELP datameta_job_seconds " in body


def test_a_worker_whose_port_is_taken_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = run_datameta("worker", "--metrics-port", str(port), "--home", str(tmp_path))
    assert refused.returncode == 1
    assert f"/metrics cannot be served on port {port} of 127.0.0.1" in refused.stderr


def test_a_portal_that_others_would_reach_needs_its_address(tmp_path: Path) -> None:
    done = run_datameta("serve", "--host", "0.0.0.0", "--port", "0", "--home", str(tmp_path / "home"))
    assert done.returncode == 1
    assert "DATAMETA_BASE_URL is missing" in done.stderr
    assert not (tmp_path / "home").exists()
