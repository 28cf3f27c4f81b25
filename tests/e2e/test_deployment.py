"""The files by which a portal is deployed: each is what its validator takes, and names what there is.

No container engine is needed. ``test_install.py`` runs the units and nginx's site.
"""

import configparser
import ipaddress
import json
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import compose_spec
import pytest
import yaml

from datameta.api import PREFIX
from datameta.checkup import find_unknown
from datameta.cli import main
from datameta.production import find_weaknesses
from datameta.settings import Settings, read_settings
from tests.e2e.conftest import REPOSITORY, Served, curl

EXAMPLES = REPOSITORY / "examples"
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text("utf-8")
UNITS = sorted((EXAMPLES / "systemd").glob("*.service"))
COMMAND = "/opt/datameta/bin/datameta"
IMAGE = "datameta:2.0.0"
VALUES = {"DATAMETA_BASE_URL": "https://data.example.org", "DATAMETA_SMTP_HOST": "", "DATAMETA_TRUSTED_PROXIES": ""}
"""What the compose files take from the environment."""


def require_command(words: list[str], config: Path | None = None) -> dict[str, Any]:
    """Return the options of a ``datameta`` command; raises ``click.UsageError`` if there is none like this."""
    words = [str(config) if word == "/etc/datameta/portal.ini" else word for word in words]
    command: click.Command = main
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        if found is None:
            raise click.UsageError(f"no command {words[0]}")
        command, words = found, words[1:]
    return command.make_context("datameta", list(words)).params


def find_instruction(name: str) -> str:
    """Return the words after the last instruction of the image with this name."""
    joined = DOCKERFILE.replace("\\\n", "").splitlines()
    return [line.strip().removeprefix(f"{name} ") for line in joined if line.strip().startswith(f"{name} ")][-1]


def read_compose(name: str) -> Any:
    """Return a compose file with what the environment would have put in."""
    text = (EXAMPLES / name / "compose.yaml").read_text("utf-8")
    text = re.sub(r"\$\{([A-Z_]+):[?-][^}]*\}", lambda found: json.dumps(VALUES[found[1]]), text)
    return yaml.safe_load(text)


def find_portals(compose: Any) -> dict[str, Any]:
    """Return the services that are made from the portal's image."""
    return {name: service for name, service in compose["services"].items() if service["image"] == IMAGE}


def test_a_command_that_is_none_is_seen() -> None:
    with pytest.raises(click.UsageError):
        require_command(["serve", "--no-such"])
    with pytest.raises(click.UsageError):
        require_command(["migrate"])


def test_the_image_is_well_made() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, REPOSITORY / "Dockerfile"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_an_ordinary_user_and_installs_what_is_locked() -> None:
    user, _, group = find_instruction("USER").partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert f"--owner={user} --group={group}" in DOCKERFILE
    assert "--require-hashes --no-deps --only-binary=:all: --requirement requirements.lock" in DOCKERFILE
    assert find_instruction("FROM") == "python:3.11-slim-bookworm"


def test_the_image_serves_on_the_port_that_it_exposes_and_is_asked_at(served_demo: Served) -> None:
    options = require_command(yaml.safe_load(find_instruction("CMD")))
    port = find_instruction("EXPOSE")
    assert (options["host"], str(options["port"])) == ("0.0.0.0", port)
    [asked] = re.findall(r"urlopen\('http://127\.0\.0\.1:(\d+)(/[^']*)'\)", DOCKERFILE)
    assert asked[0] == port
    status, answer = curl(f"{served_demo.address}{asked[1]}")
    assert (status, json.loads(answer)["status"]) == (200, "ready")


def test_what_the_image_is_built_from_is_in_its_context() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text("utf-8").splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert lines[1] == "*"
    assert {path for path in kept if not (REPOSITORY / path).exists()} == set()
    # Links, of which both ends are needed, and what setup.py reads.
    assert kept >= {"alembic", "openapi.yaml", "datameta", "frontend", "examples", "README.md", "setup.py"}


@pytest.mark.parametrize("name", ["minimal", "scale"])
def test_a_compose_file_is_one(name: str) -> None:
    compose = read_compose(name)
    compose_spec.PyCompose.from_yaml(yaml.safe_dump(compose))
    wrong = compose | {"services": compose["services"] | {"portal0": {"image": IMAGE, "readonly": True}}}
    with pytest.raises(ValueError, match="readonly"):
        compose_spec.PyCompose.from_yaml(yaml.safe_dump(wrong))


@pytest.mark.parametrize("name", ["minimal", "scale"])
def test_a_compose_file_names_what_there_is(name: str, tmp_path: Path) -> None:
    compose = read_compose(name)
    for service in compose["services"].values():
        assert set(service.get("secrets", [])) <= compose["secrets"].keys()
        assert set(service.get("depends_on", [])) <= compose["services"].keys()
        used = yaml.safe_dump(service)
        if "nginx" in service["image"]:
            used += (EXAMPLES / name / "site.conf").read_text("utf-8")
        named = re.findall(r"/run/secrets/([\w.]+)", used)
        assert set(named) == set(service.get("secrets", []))
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (EXAMPLES / name / source).is_file()
    for service in find_portals(compose).values():
        require_command(service.get("command", yaml.safe_load(find_instruction("CMD"))))


@pytest.mark.parametrize("name", ["minimal", "scale"])
def test_the_settings_of_a_compose_file_are_fit_for_production(name: str, tmp_path: Path) -> None:
    for secret in ("secret_key", "postgres_password"):
        (tmp_path / secret).write_text(secrets.token_hex(32))
    password = (tmp_path / "postgres_password").read_text()
    (tmp_path / "database_url").write_text(f"postgresql://datameta:{password}@database/datameta\n")
    for service in find_portals(read_compose(name)).values():
        environment = {
            variable: text.replace("/run/secrets", str(tmp_path)) for variable, text in service["environment"].items()
        }
        assert list(find_unknown(environment)) == []
        settings = read_settings({}, environment)
        assert list(find_weaknesses(settings)) == []
        assert settings.secret_key


@pytest.mark.parametrize("name", ["minimal", "scale"])
def test_the_containers_of_a_compose_file_are_locked_down(name: str) -> None:
    compose = read_compose(name)
    for service in find_portals(compose).values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "/tmp" in service["tmpfs"]
        # What is written stands in /data, which is a volume, or is forgotten.
        places = [*service.get("volumes", []), *service["tmpfs"]]
        assert any(re.search(r"(^|:)/data(:|$)", place) for place in places)
        assert "privileged" not in service
        assert "user" not in service
    # No secret stands in the environment, and nobody outside reaches the database or the store.
    for service in compose["services"].values():
        kept = [
            key for key in service.get("environment", {}) if re.search("PASSWORD|SECRET|TOKEN|_KEY|DATABASE_URL", key)
        ]
        assert [key for key in kept if not key.endswith("_FILE")] == []
    assert {service for service, its in compose["services"].items() if "ports" in its} <= {"portal", "nginx"}


@pytest.mark.parametrize("name", ["minimal", "scale"])
def test_the_schema_is_upgraded_before_a_process_of_a_compose_file_starts(name: str) -> None:
    portals = find_portals(read_compose(name))
    migrate = portals.pop("migrate")
    assert migrate["command"] == ["db", "upgrade"]
    assert migrate["depends_on"]["database"] == {"condition": "service_healthy"}
    for service in portals.values():
        assert service["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}


def test_the_minimal_example_is_reached_on_the_portals_port() -> None:
    [port] = read_compose("minimal")["services"]["portal"]["ports"]
    assert port == f"127.0.0.1:8080:{find_instruction('EXPOSE')}"


def test_nginx_of_the_large_example_knows_its_portals_and_they_know_it() -> None:
    compose = read_compose("scale")
    site = (EXAMPLES / "scale" / "site.conf").read_text("utf-8")
    addresses = {
        name: service["networks"]["default"]["ipv4_address"]
        for name, service in compose["services"].items()
        if "networks" in service
    }
    nginx = addresses.pop("nginx")
    assert set(addresses) == {"portal1", "portal2", "portal3"}
    asked = re.findall(r"server ([\d.]+):(\d+) ", site)
    assert asked == [(address, find_instruction("EXPOSE")) for address in addresses.values()]
    [pool] = compose["networks"]["default"]["ipam"]["config"]
    for address in [nginx, *addresses.values()]:
        assert ipaddress.ip_address(address) in ipaddress.ip_network(pool["subnet"])
        assert ipaddress.ip_address(address) not in ipaddress.ip_network(pool["ip_range"])
    for name, service in find_portals(compose).items():
        assert service["environment"]["DATAMETA_TRUSTED_PROXIES"] == nginx
        assert service["command"] == [
            "serve",
            "--host",
            "0.0.0.0",
            "--port",
            "8080",
            "--workers",
            "2",
            "--no-worker",
        ] or (name in ("worker", "migrate"))
    assert compose["services"]["worker"]["deploy"]["replicas"] == 2


def test_the_connections_of_the_large_example_suffice() -> None:
    compose = read_compose("scale")
    [limit] = re.findall(r"max_connections=(\d+)", " ".join(compose["services"]["database"]["command"]))
    pool = int(compose["services"]["portal1"]["environment"]["DATAMETA_DATABASE_POOL"])
    assert (3 * 2 + 2) * 2 * max(pool, 4 + Settings.verification_jobs) < int(limit)


def test_a_unit_names_a_command_that_there_is(tmp_path: Path) -> None:
    config = tmp_path / "portal.ini"
    config.write_text("[app:main]\n")
    assert [unit.name for unit in UNITS] == ["datameta-portal@.service", "datameta-worker.service"]
    for unit in UNITS:
        found = re.findall(rf"^ExecStart(?:Pre)?={COMMAND} (.*)$", unit.read_text("utf-8"), re.M)
        assert found[0].startswith("db upgrade ")
        options = [require_command(line.replace("%i", "8081").split(), config) for line in found]
        assert all(option["config"] == config for option in options)
    words = (EXAMPLES / "systemd" / "datameta-admin").read_text("utf-8")
    assert f'{COMMAND} "$@" --config /etc/datameta/portal.ini' in words


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Return a folder with the units, of programs that there are."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze not found; install the Debian package systemd")
    folder = tmp_path / "units"
    shutil.copytree(EXAMPLES / "systemd", folder)
    for unit in folder.glob("*.service"):
        unit.write_text(unit.read_text("utf-8").replace(COMMAND, str(Path(sys.executable).with_name("datameta"))))
    return folder


@pytest.mark.parametrize("name", ["datameta-portal@8081.service", "datameta-worker.service"])
def test_systemd_takes_a_unit(units: Path, name: str) -> None:
    source = units / name.replace("@8081", "@")
    done = subprocess.run(["systemd-analyze", "verify", units / name], check=False, capture_output=True, text=True)
    # Of this machine's own units it may say more.
    assert (done.returncode, [line for line in done.stderr.splitlines() if "datameta" in line]) == (0, [])
    source.write_text(source.read_text().replace("ExecStart=", "ExecStarts="))
    done = subprocess.run(["systemd-analyze", "verify", units / name], check=False, capture_output=True, text=True)
    assert "ExecStarts" in done.stderr


@pytest.mark.skipif(not shutil.which("nginx", path="/usr/sbin:/usr/bin"), reason="install the Debian package nginx")
@pytest.mark.parametrize("site", ["nginx/datameta.conf", "scale/site.conf"])
def test_nginx_takes_a_site(tmp_path: Path, site: str) -> None:
    text = (EXAMPLES / site).read_text("utf-8")
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=example"]
    subprocess.run(
        ["openssl", *words, "-keyout", tmp_path / "key", "-out", tmp_path / "certificate"],
        check=True,
        capture_output=True,
    )
    # Where an ordinary user may listen and read, too.
    text = re.sub(r"(listen (\[::\]:)?)(80|443)\b", r"\g<1>2\g<3>", text)
    text = re.sub(r"ssl_certificate .*;", f"ssl_certificate {tmp_path}/certificate;", text)
    text = re.sub(r"ssl_certificate_key .*;", f"ssl_certificate_key {tmp_path}/key;", text)
    (tmp_path / "site.conf").write_text(text)
    (tmp_path / "snippets").mkdir()
    shutil.copy(EXAMPLES / "nginx" / "datameta-proxy.conf", tmp_path / "snippets")
    places = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; events {{}} http {{ access_log off; {places} include site.conf; }}"
    )
    command = ["nginx", "-t", "-q", "-e", "stderr", "-p", f"{tmp_path}/", "-c", "nginx.conf"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={"PATH": "/usr/sbin:/usr/bin"})
    assert (done.returncode, done.stderr) == (0, "")


def test_nginx_lets_the_bodies_of_uploads_flow() -> None:
    text = (EXAMPLES / "nginx" / "datameta-proxy.conf").read_text("utf-8")
    [uploads] = re.findall(rf"location {PREFIX}/upload/ {{(.*?)}}", text, re.S)
    assert "proxy_request_buffering off;" in uploads
    assert "client_max_body_size 0;" in text
    assert "non_idempotent" not in re.sub("#.*", "", text)


def test_the_page_names_commands_and_settings_that_there_are(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "install.md").read_text("utf-8")
    lines = re.findall(r"^(?:datameta-admin|docker compose exec portal1? datameta) (.*)$", page, re.M)
    assert len(lines) > 10
    for line in lines:
        require_command(shlex.split(re.sub(r"(?<=--adopt )\S+", str(tmp_path), line)))
    [ini] = re.findall(r"^cat > /etc/datameta/portal.ini <<END\n(.*?)^END$", page, re.M | re.S)
    (tmp_path / "secret").write_text(secrets.token_hex(32))
    parser = configparser.ConfigParser()
    parser.read_string(re.sub(r"/etc/datameta/\w+", str(tmp_path / "secret"), ini).replace("$STORE", "https://s3"))
    settings = read_settings(dict(parser["app:main"]), {})
    assert list(find_weaknesses(settings)) == []
    # Processes of two portals and a worker share the connections that Debian's PostgreSQL has by default.
    assert (2 * 2 + 1) * 2 * settings.database_pool < 100
    # nginx asks the portals that are started, from the address that they trust.
    started = set(re.findall(r"datameta-portal@(\d+)", page))
    site = (EXAMPLES / "nginx" / "datameta.conf").read_text("utf-8")
    assert set(re.findall(r"server 127\.0\.0\.1:(\d+) ", site)) == started
    assert settings.trusted_proxies == (ipaddress.ip_network("127.0.0.1"),)
