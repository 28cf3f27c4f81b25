"""A DataMeta 1.1.1, as it is on PyPI and filled by its own code, comes over whole, and as often as one likes."""

import json
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pyotp
import pytest
import sqlalchemy
from cryptography.fernet import Fernet
from sqlalchemy import text

from datameta import embedded
from datameta.models import Base
from tests.e2e.conftest import DEADLINE_SECONDS, Api, Served, make_environment, run_datameta, serve_cleanly

SCRIPT = Path(__file__).with_name("released_portal.py")
PINS = (
    "SQLAlchemy==1.3.24", "alembic<1.8", "bcrypt<5", "cryptography", "dataclasses-json==0.5.2", "jsonschema<4",
    "openapi-core<0.14", "openapi-schema-validator==0.1.5", "openapi-spec-validator==0.3.1", "openpyxl", "pandas",
    "plaster-pastedeploy", "psycopg2-binary", "pyotp", "pyramid<2.1", "pyramid-beaker==0.8", "pyramid-chameleon",
    "pyramid-debugtoolbar", "pyramid-openapi3==0.11", "pyramid-retry", "pyramid-tm", "python-json-logger<3", "pyyaml",
    "qrcode[pil]", "setuptools<81", "transaction", "waitress", "xlrd", "zope.sqlalchemy<2",
)  # fmt: skip
"""What it needs, but for pylibmc, which needs a C library, and gunicorn: neither is used here."""
KINDS = ("users", "groups", "submissions", "metadatasets", "files", "services")
PREFIXES = ("DMU-", "DMG-", "DMS-", "DMR-", "DMF-", "DMP-")
INI = """
[app:main]
use = egg:datameta
datameta.storage_path = {storage}
datameta.smtp_host = localhost
datameta.smtp_port = 587
datameta.smtp_user =
datameta.smtp_pass =
datameta.smtp_tls =
datameta.smtp_from =
datameta.apikeys.max_expiration_period = 30
datameta.tfa.enabled = true
datameta.tfa.otp_issuer = DataMeta
datameta.tfa.encrypt_key = {key}
sqlalchemy.url = {url}
session.type = memory
session.key = datameta
session.secret = changemechangemechangemechangeme
retry.attempts = 3
{ids}

[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = plain
[logger_root]
level = ERROR
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain
[formatter_plain]
format = %(message)s
"""


@pytest.fixture(scope="session")
def released_python(request: pytest.FixtureRequest) -> Path:
    """Install DataMeta 1.1.1 in an environment of its own, once, and return its Python."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    environment = Path(request.config.cache.mkdir(f"released-portal-{version}")) / "venv"
    python, is_complete = environment / "bin" / "python", environment / "complete"
    if not is_complete.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for words in (PINS, ("--no-deps", "datameta==1.1.1")):
            done = subprocess.run([*pip, *words], check=False, capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"PyPI does not give DataMeta 1.1.1: {done.stderr[-1000:]}")
        is_complete.write_text("\n".join(PINS))
    return python


@dataclass
class Old:
    """The old portal: where it is, and what is in it."""

    python: Path
    ini: Path
    url: str
    storage: Path
    key: Path
    known: dict[str, Any]

    def run(self, *words: str, text: str = "") -> Any:
        """Run its script, and return what that prints."""
        done = subprocess.run(
            [self.python, "-W", "ignore", SCRIPT, self.ini, *words],
            check=False,
            capture_output=True,
            text=True,
            input=text,
            cwd=self.ini.parent,
            env=make_environment(),
            timeout=DEADLINE_SECONDS,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def find(self, file: dict[str, str]) -> Path:
        """Return the place of a file's content."""
        [path] = self.storage.glob(f"{file['uuid']}__*")
        return path


@pytest.fixture(scope="module")
def old(released_python: Path, database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Old]:
    """A portal in which labs have handed in data, with all that the new one does not take as it is."""
    folder, name = tmp_path_factory.mktemp("old"), f"old_{uuid.uuid4().hex}"
    server = sqlalchemy.make_url(database_url).set(drivername="postgresql")
    plain, url = (each.render_as_string(hide_password=False) for each in (server, server.set(database=name)))
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    (folder / "storage").mkdir()
    (folder / "key").write_bytes(Fernet.generate_key())
    ids = "".join(
        f"datameta.site_id_digits.{kind} = 8\ndatameta.site_id_prefix.{kind} = {prefix}\n"
        for kind, prefix in zip(KINDS, PREFIXES, strict=True)
    )
    key = (folder / "key").read_text()
    (folder / "old.ini").write_text(
        INI.format(storage=folder / "storage", key=key, url=url.replace("%", "%%"), ids=ids)
    )
    old = Old(released_python, folder / "old.ini", url, folder / "storage", folder / "key", {})
    old.known = old.run()
    yield old
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def read_tables(home: Path) -> dict[str, str]:
    """Return a digest of the rows of each table."""
    found = {}
    with embedded.running(home) as url:
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            for name in Base.metadata.tables:
                query = text(f"SELECT count(*) || md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {name} t")
                found[name] = connection.scalars(query).one()
    return {name: digest for name, digest in found.items() if digest is not None}


@dataclass
class New:
    """The new portal: what the imports have said, and the tables and files after the dry run."""

    home: Path
    reports: dict[str, str]
    after_dry_run: tuple[set[str], list[Path]]
    changed_by_second: set[str]
    fsck: dict[str, int]


@pytest.fixture(scope="module")
def new(old: Old, tmp_path_factory: pytest.TempPathFactory) -> New:
    """Import: dry, with two files that are not right, with these put right, and once more."""
    home = tmp_path_factory.mktemp("new") / "home"
    reports, fsck = {}, {}
    words = ["import-datameta", old.url, str(old.storage), "--home", str(home), "--second-factor-key", str(old.key)]

    def run(name: str, *more: str) -> None:
        done = run_datameta(*words, *more)
        assert done.returncode == 0, done.stderr
        reports[name] = done.stdout

    def prove() -> int:
        return run_datameta("fsck", "--content", "--home", str(home)).returncode

    spoilt, lost = (old.find(file) for file in old.known["second"])
    kept = {path: path.read_bytes() for path in (spoilt, lost)}
    spoilt.write_bytes(b"@20.0")
    lost.unlink()
    run("dry", "--dry-run")
    tables = read_tables(home).keys() - {"app_settings", "rulebook_version"}
    dry = tables, list((home / "storage").rglob("*"))
    run("first")
    fsck["first"] = prove()
    for path, content in kept.items():
        path.write_bytes(content)
    run("second")
    fsck["second"] = prove()
    before = read_tables(home)
    run("third")
    after = read_tables(home)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    return New(home, reports, dry, changed, fsck)


@pytest.fixture(scope="module")
def served(new: New, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serve_cleanly(new.home, tmp_path_factory.mktemp("served")) as served:
        yield served


def make_token(name: str) -> str:
    return name.ljust(64, "0")


@pytest.fixture
def ann(served: Served) -> Api:
    return Api(served.address, make_token("Ann"))


@pytest.fixture
def bot(served: Served) -> Api:
    return Api(served.address, make_token("Bot"))


def sign_in(served: Served, email: str, password: str, **more: str) -> Any:
    return Api(served.address, "").request("POST", "/sessions", {"email": email, "password": password, **more})


def read_counts(report: str) -> dict[str, tuple[int, int]]:
    lines = [line.split(maxsplit=2) for line in report.splitlines()[1:12]]
    return {kind: (int(there), int(here)) for there, here, kind in lines}


# The report.


def test_a_dry_run_says_the_same_and_changes_nothing(new: New) -> None:
    assert new.after_dry_run == (set(), [])
    assert "This was a dry run: nothing was changed." in new.reports["dry"]
    assert read_counts(new.reports["dry"]) == read_counts(new.reports["first"])


def test_the_report_counts_everything(new: New) -> None:
    counts = read_counts(new.reports["first"])
    assert counts["users"] == (8, 8)
    assert counts["groups"] == (3, 3)
    assert counts["API keys"] == (8, 8)
    assert counts["registrations"] == (1, 1)
    assert counts["services"] == (1, 1)
    assert counts["fields"] == (12, 12)
    assert counts["submissions"] == (2, 2)
    assert counts["metadatasets"] == (4, 4)
    assert counts["files"] == (10, 9)
    assert counts["service executions"] == (2, 2)


@pytest.mark.parametrize(
    "remark",
    [
        "field Ahead: the expression ^(?!bad)[a-z]+$ does not work here (invalid perl operator: (?!);",
        "field Prefix: the expression [A-Z]{2} had to match the beginning of a value, and has to match all of it here",
        "field Twin: has a value twice in a submission",
        "field Lane: has a value twice in a submission",
        "field Site: has to be unique in the site, and is not: ",
        "another user here has the address ANN@example.org; the account has the address dmu-",
        "API key Bot's key: never ended; here it ends on ",
        "is damaged: its MD5 is ",
        "(AB20_R2.fq): there is no ",
        "files: 1 that were announced and never confirmed are left out",
        "this portal has none like these, which are left out: renderer_legal_notice, renderer_logo_html, security_",
    ],
)
def test_the_report_names_what_is_other_here(new: New, remark: str) -> None:
    assert remark in new.reports["dry"]
    assert remark in new.reports["first"]


def test_what_was_not_right_is_found_and_ends_when_it_is(new: New) -> None:
    assert new.fsck == {"first": 1, "second": 0}
    assert "is damaged" not in new.reports["second"]


def test_another_import_changes_nothing(new: New) -> None:
    assert new.changed_by_second == set()
    assert {here for _, here in read_counts(new.reports["third"]).values()} == {0}


# What has come over.


def test_passwords_and_second_factors_are_valid(served: Served, old: Old) -> None:
    assert sign_in(served, "ann@example.org", old.known["password"]).status_code == 200
    assert sign_in(served, "ann@example.org", old.known["password"] + "x").status_code == 401
    # bcrypt has never looked at more than its first 72 bytes.
    assert sign_in(served, "long@example.org", old.known["long"]).status_code == 200
    assert sign_in(served, "gone@example.org", old.known["password"]).status_code == 401
    refused = sign_in(served, "safe@example.org", old.known["password"])
    assert (refused.status_code, refused.json()[0]["error_code"]) == (401, "otp_required")
    with psycopg.connect(old.url) as connection:
        [secret] = connection.execute("SELECT tfa_secret FROM users WHERE tfa_secret IS NOT NULL").fetchone()
    code = pyotp.TOTP(Fernet(old.key.read_bytes()).decrypt(secret.encode()).decode()).now()
    assert sign_in(served, "safe@example.org", old.known["password"], otp=code).status_code == 200


def test_keys_and_ids_are_what_they_were(served: Served, old: Old, ann: Api, bot: Api) -> None:
    me = ann.call("GET", "/rpc/whoami")
    assert (me["id"], me["email"], me["group"]["name"]) == (old.known["people"]["Ann"], "ann@example.org", "Lab")
    assert Api(served.address, make_token("Gone")).request("GET", "/rpc/whoami").status_code == 401
    assert {each["id"]["uuid"] for each in ann.call("GET", "/metadatasets")} == {
        each["uuid"] for each in old.known["sets"]
    }
    assert {each["id"]["site"] for each in bot.call("GET", "/metadatasets")} == {
        each["site"] for each in (*old.known["sets"], *old.known["others"])
    }
    [submission] = ann.call("GET", f"/groups/{me['group']['id']['uuid']}/submissions")
    assert (submission["id"], submission["label"]) == (old.known["submission"], "First")
    assert {each["site"] for each in submission["fileIds"]} == {each["site"] for each in old.known["first"]}


def test_records_answers_and_contents_are_what_they_were(old: Old, ann: Api, bot: Api) -> None:
    read = bot.call("GET", f"/metadatasets/{old.known['sets'][0]['site']}")
    expected = {"#ID": "AB10", "Date": "2021-03-29", "Ahead": "good", "Prefix": "ABcd", "FileR1": "AB10_R1.fq"}
    assert expected.items() <= read["record"].items()
    assert (read["record"]["Result"], read["record"]["Lane"]) == ("good", "L1")
    assert read["fileIds"]["Report"] == old.known["report"]
    assert read["serviceExecutions"]["Result"]["serviceId"] == old.known["service"]
    assert (
        bot.call("GET", f"/metadatasets?awaitingService={old.known['service']['site']}")[0]["record"]["#ID"] == "AB20"
    )
    # A search finds it, and the submission knows what it holds.
    found = ann.call("GET", "/search?q=ab10_r1")
    assert (found["total"], len(found["rows"])) == (1, 1), found
    assert old.known["sets"][0]["site"] in json.dumps(found["rows"])
    [counted] = [each for each in ann.call("GET", "/submissions") if each["id"] == old.known["submission"]]
    assert (counted["metadatasetCount"], counted["fileCount"]) == (2, 4)
    staged = ann.call("GET", f"/metadatasets/{old.known['staged']['site']}")
    assert (staged["record"]["#ID"], staged["submissionId"]) == ("AB30", None)
    url = ann.call("GET", f"/rpc/get-file-url/{old.known['first'][0]['site']}")["fileUrl"]
    assert ann.request("GET", url.split("/api/v1")[1]).content == b"@10.1"


def test_values_are_unique_here_as_there(ann: Api) -> None:
    record = {"#ID": "AB20", "Date": "2026-03-14", "ZIP Code": "720"}
    taken, free = (ann.call("POST", "/metadatasets", {"record": {**record, "#ID": each}}) for each in ("AB20", "AB99"))
    answer = ann.request("POST", "/submissions", {"metadatasetIds": [taken["id"]["site"]], "fileIds": []})
    assert (answer.status_code, answer.json()[0]["error_code"]) == (400, "not_unique_in_site")
    ann.call("POST", "/submissions", {"metadatasetIds": [free["id"]["site"]], "fileIds": []})


def test_what_happens_there_later_comes_with_the_next_import(new: New, old: Old, served: Served, ann: Api) -> None:
    later = old.run("later", text=json.dumps(old.known))["later"]
    done = run_datameta("import-datameta", old.url, str(old.storage), "--home", str(new.home))
    assert done.returncode == 0, done.stderr
    counts = read_counts(done.stdout)
    assert (counts["submissions"], counts["metadatasets"], counts["files"][1]) == ((3, 1), (4, 1), 0)
    staged = ann.call("GET", f"/metadatasets/{old.known['staged']['site']}")
    assert staged["submissionId"] == later
    assert staged["fileIds"]["FileR1"] == old.known["loose"][0]
    assert run_datameta("fsck", "--home", str(new.home)).returncode == 0


def test_what_was_removed_here_does_not_come_again(new: New, old: Old, served: Served, ann: Api) -> None:
    user = ann.call("GET", "/rpc/whoami")["id"]["uuid"]
    [key] = ann.call("GET", f"/users/{user}/keys")
    ann.call("DELETE", f"/keys/{key['id']['uuid']}")
    done = run_datameta("import-datameta", old.url, str(old.storage), "--home", str(new.home))
    assert (done.returncode, read_counts(done.stdout)["API keys"]) == (0, (8, 0)), done.stderr
    assert ann.request("GET", "/rpc/whoami").status_code == 401


# What is refused.


def test_without_the_key_second_factors_are_named(old: Old, tmp_path: Path) -> None:
    words = ["import-datameta", old.url, str(old.storage), "--dry-run", "--home", str(tmp_path / "home")]
    message = f"user {old.known['people']['Safe']['site']}: had a second factor, and has none here"
    assert message in run_datameta(*words).stdout
    other = tmp_path / "other"
    other.write_bytes(Fernet.generate_key())
    done = run_datameta(*words, "--second-factor-key", other)
    assert "the key that was given does not open it" in done.stdout
    other.write_text("nonsense")
    done = run_datameta(*words, "--second-factor-key", other)
    assert (done.returncode, "holds no key of second factors" in done.stderr) == (1, True)


def test_what_is_no_old_portal_is_refused(database_url: str, tmp_path: Path) -> None:
    place = [str(tmp_path), "--home", str(tmp_path / "home")]
    done = run_datameta("import-datameta", database_url, *place)
    assert (done.returncode, "This is no database of DataMeta 1.1.1: it has no " in done.stderr) == (1, True)
    done = run_datameta("import-datameta", "postgresql://nobody@127.0.0.1:1/none", *place)
    assert (done.returncode, "The old database does not answer: " in done.stderr) == (1, True)
    done = run_datameta("import-datameta", "sqlite:///old", *place)
    assert (done.returncode, "DataMeta needs PostgreSQL" in done.stderr) == (1, True)


def test_ids_that_others_have_here_are_refused(old: Old, tmp_path: Path) -> None:
    home = tmp_path / "home"
    words = ("--name", "Ada", "--group", "Lab", "--home", str(home))
    assert run_datameta("user", "add", "ann@example.org", *words, text="a long enough password\n").returncode == 0
    site_id = old.known["people"]["Bob"]["site"]
    with embedded.running(home) as url:
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        with engine.begin() as connection:
            connection.execute(text("UPDATE users SET site_id = :site_id"), {"site_id": site_id})
        done = run_datameta("import-datameta", old.url, str(old.storage), "--home", str(home))
        assert (done.returncode, f"{site_id}: other things of this portal" in done.stderr) == (1, True)
        with engine.begin() as connection:
            connection.execute(text("UPDATE users SET site_id = 'DMU-1'"))
        done = run_datameta("import-datameta", old.url, str(old.storage), "--home", str(home))
        assert done.returncode == 0, done.stderr
        assert "another group here is called Lab; it is called Lab (DMG-" in done.stdout
        assert "another user here has the address ann@example.org" in done.stdout
    shutil.rmtree(home)


# What the old portal has never refused.


ODDITIES = """
INSERT INTO metadata (uuid, name, regexp, long_description, datetimefmt, mandatory, example, "order", isfile,
    submission_unique, site_unique)
SELECT gen_random_uuid(), name, regexp, description, format, false, '', 1, false, false, false FROM (VALUES
    ('Twin', NULL, NULL, NULL), (' ', repeat('a', 1001), NULL, NULL),
    (repeat('n', 300), '^$', repeat('d', 10001), '%H%H')
) AS odd (name, regexp, description, format);
UPDATE users SET email = NULL, pwhash = NULL, fullname = NULL WHERE email = 'bob@example.org';
UPDATE apikeys SET value = 'short' WHERE label = 'Long''s key';
INSERT INTO regrequests (uuid, fullname, email) VALUES (gen_random_uuid(), 'Nobody', 'no address');
INSERT INTO regrequests (uuid, fullname, email, group_id)
    SELECT gen_random_uuid(), 'One', 'one@example.org', id FROM groups WHERE name = 'Lab';
INSERT INTO services (uuid, site_id, name) VALUES (gen_random_uuid(), 'DMP-odd', NULL);
INSERT INTO submissions (uuid, site_id, group_id) SELECT gen_random_uuid(), 'DMS-odd', min(id) FROM groups;
INSERT INTO metadatasets (uuid, site_id, user_id)
    SELECT gen_random_uuid(), 'DMR-odd', id FROM users WHERE fullname = 'Ann';
INSERT INTO serviceexecutions (uuid, service_id, user_id, metadataset_id, datetime)
    SELECT gen_random_uuid(), service_id, user_id, metadataset_id, datetime FROM serviceexecutions LIMIT 1;
INSERT INTO serviceexecutions (uuid, service_id, user_id, metadataset_id, datetime)
    SELECT gen_random_uuid(), s.id, m.user_id, m.id, now() FROM services s, metadatasets m
    WHERE m.site_id = 'DMR-odd' AND s.name = 'Analysis';
UPDATE metadatumrecords SET value = 'early' WHERE metadatum_id = (SELECT id FROM metadata WHERE name = 'Result')
    AND value IS NULL;
INSERT INTO metadatumrecords (uuid, metadatum_id, metadataset_id, value)
    SELECT gen_random_uuid(), metadatum_id, metadataset_id, 'other' FROM metadatumrecords WHERE value = 'ABcd' LIMIT 1;
UPDATE metadatumrecords SET file_id = (SELECT file_id FROM metadatumrecords WHERE value = 'AB10_R1.fq')
    WHERE value = 'AB20_R1.fq';
UPDATE files SET storage_uri = 's3://elsewhere' WHERE name = 'AB30_R1.fq' AND content_uploaded;
INSERT INTO files (uuid, site_id, name, storage_uri, content_uploaded, checksum, user_id)
    SELECT gen_random_uuid(), 'DMF-odd', 'odd', 'file://nowhere', true, repeat('a', 70), id FROM users
    WHERE fullname = 'Ann';
UPDATE files SET name = repeat('x', 300) WHERE name = 'AB30_R2.fq';
UPDATE appsettings SET str_value = 'Dear {unknown}' WHERE key = 'template_reject';
UPDATE metadatasets SET user_id = (SELECT id FROM users WHERE fullname = 'Safe') WHERE id = (
    SELECT max(metadataset_id) FROM metadatumrecords WHERE value = 'AB11');
"""


@pytest.fixture
def odd(old: Old) -> Iterator[str]:
    """A copy of the old database, with all that its schema lets in."""
    name = f"odd_{uuid.uuid4().hex}"
    server = sqlalchemy.make_url(old.url)
    admin = server.set(database="postgres").render_as_string(hide_password=False)
    url = server.set(database=name).render_as_string(hide_password=False)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {server.database}")
    with psycopg.connect(url) as connection:
        connection.execute(ODDITIES)
    yield url
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_what_only_the_old_schema_lets_in_is_named_and_kept(odd: str, old: Old, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = run_datameta("import-datameta", odd, str(old.storage), "--home", str(home))
    assert done.returncode == 0, done.stderr
    bob = old.known["people"]["Bob"]["site"]
    for remark in (
        "field Twin: another field here has this name; it is called Twin (2)",
        "does not work here (it has 1,001 characters, and 1,000 are the most)",
        "its name has 300 characters; here it has the first 255",
        "its long description has 10,001 characters",
        "the date format %H%H does not read what it writes",
        f"user {bob}: this is no address: (none); the account has the address {bob.lower()}@imported.invalid",
        f"user {bob}: has no password that can be read",
        "API key Long's key: is left out",
        "registration of no address: is left out",
        "submission DMS-odd: is left out: nothing was submitted with it",
        "answered twice for one metadataset; here it has the last answer",
        "is left out: its metadataset is not submitted",
        "has a value of Result, and no answer of the service is here; nobody sees it",
        "has two values of Prefix; here it has the later one",
        "field FileR1: names files that are not there or are named twice",
        "its content is at s3://elsewhere, which is not in the folder",
        "is left out: its name has 300 characters",
        "file DMF-odd (odd): there is no nowhere in the folder",
        "file DMF-odd: its checksum has 70 characters; here it has the first 64",
        "setting template_reject: is left out: here it must be a text that names no other placeholders",
        "has metadatasets of several users; here it is the first one's",
    ):
        assert remark in done.stdout, done.stdout
    # What was removed here does not come again.
    with embedded.running(home) as url:
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        with engine.begin() as connection:
            for table, event in (("metadatasets", "metadataset.deleted"), ("files", "file.deleted")):
                query = f"DELETE FROM {table} WHERE site_id LIKE '%-odd' RETURNING uuid"
                [removed] = connection.scalars(text(query))
                query = "INSERT INTO audit_events (event, entity_uuid) VALUES (:event, :removed)"
                connection.execute(text(query), {"event": event, "removed": removed})
    again = run_datameta("import-datameta", odd, str(old.storage), "--home", str(home))
    assert {here for _, here in read_counts(again.stdout).values()} == {0}
    proof = run_datameta("fsck", "--home", str(home)).stdout
    wrong = [line for line in proof.splitlines() if line.startswith("FAIL  file") or line.startswith("FAIL  meta")]
    assert len([line for line in wrong if "its content is not in the store" in line]) == 1
    assert {line.split(": ")[1].split(".")[0] for line in wrong} <= {
        "its content is not in the store",
        "somebody else submitted it",
    }
