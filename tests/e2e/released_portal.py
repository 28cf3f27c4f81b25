"""A DataMeta 1.1.1 with all that it can hold, made by its own code; runs with the Python of its own environment.

Usage: released_portal.py INI, to make and fill it; released_portal.py INI later, to go on as on the next day. Prints
what the importing side needs to know, as JSON.
"""

import hashlib
import json
import sys
from datetime import datetime, timedelta

from pyramid.paster import bootstrap, get_appsettings
from sqlalchemy import engine_from_config
from webob import Request

PASSWORD = "Old-Secret-1 ä"
LONG_PASSWORD = "Aa1-" + "ö" * 60
API = "/api/v1"


def make_token(name):
    """Return the API key of a user."""
    return name.replace(" ", "").replace("'", "").ljust(64, "0")


ROOT, ANN, BOB, BOT = map(make_token, ("Root", "Ann", "Bob", "Bot"))


class Portal:
    """The portal's application, and its database beside it."""

    def __init__(self, ini):
        self.env = bootstrap(ini)
        self.app = self.env["app"]
        self.request = self.env["request"]

    def call(self, token, method, path, body=None):
        """Send a request of the API; return its answer."""
        request = Request.blank(API + path, method=method)
        request.headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            request.content_type = "application/json"
            request.body = json.dumps(body).encode()
        answer = request.get_response(self.app)
        assert answer.status_int < 300, (path, answer.status, answer.body)
        return json.loads(answer.body) if answer.body else None

    def upload(self, token, name, content, confirm=True):
        """Announce a file, send its bytes, and confirm it."""
        checksum = hashlib.md5(content).hexdigest()
        announced = self.call(token, "POST", "/files", {"name": name, "checksum": checksum})
        request = Request.blank(announced["urlToUpload"], method="POST", POST={"file": (name, content)})
        request.headers.update(announced["requestHeaders"])
        answer = request.get_response(self.app)
        assert answer.status_int == 204, answer.body
        if confirm:
            self.call(token, "PUT", "/files/" + announced["id"]["site"], {"contentUploaded": True})
        return announced["id"]

    def stage(self, token, **record):
        """Stage a metadataset."""
        return self.call(token, "POST", "/metadatasets", {"record": record})["id"]

    def submit(self, token, label, sets, files):
        """Submit."""
        ids = {"metadatasetIds": [each["site"] for each in sets], "fileIds": [each["site"] for each in files]}
        return self.call(token, "POST", "/submissions", {**ids, "label": label})["id"]


def make(ini):
    """Make the tables and the first user."""
    from datameta.models.meta import Base
    from datameta.scripts import initialize_db

    Base.metadata.create_all(engine_from_config(get_appsettings(ini), "sqlalchemy."))
    user = ["-un", "Root", "-ue", "root@example.org", "-up", PASSWORD, "-g", "Office", "-ak", ROOT]
    initialize_db.main(["initialize", "-c", ini, *user])


def add_people(portal):
    """Add groups, users, keys, a registration."""
    from datameta.security.tfaz import generate_2fa_secret

    from datameta import models, siteid
    from datameta.security import hash_token, register_password

    request, site_ids = portal.request, {}
    with request.tm:
        db = request.dbsession
        lab = models.Group(name="Lab", site_id=siteid.generate(request, models.Group))
        other = models.Group(name="Other Lab", site_id=siteid.generate(request, models.Group))
        db.add_all([lab, other])
        db.flush()
        users = [
            ("ann@example.org", "Ann", lab, True, {}),
            ("ANN@example.org", "Ann's twin", lab, True, {}),
            ("bob@example.org", "Bob", other, True, {"group_admin": True}),
            ("gone@example.org", "Gone", other, False, {}),
            ("bot@example.org", "Bot", lab, True, {"site_read": True}),
            ("long@example.org", "Long", lab, True, {}),
            ("safe@example.org", "Safe", lab, True, {}),
        ]
        for email, name, group, enabled, roles in users:
            flags = {"site_admin": False, "group_admin": False, "site_read": False, **roles}
            user = models.User(
                site_id=siteid.generate(request, models.User),
                email=email,
                fullname=name,
                group_id=group.id,
                enabled=enabled,
                **flags,
            )
            db.add(user)
            db.flush()
            for password in ["Former-Secret-1", LONG_PASSWORD if name == "Long" else PASSWORD]:
                user.pwhash = register_password(db, user.id, password)
            expires = datetime.utcnow() + timedelta(days=9) if name != "Bot" else None
            db.add(models.ApiKey(user=user, value=hash_token(make_token(name)), label=f"{name}'s key", expires=expires))
            if name == "Safe":
                user.tfa_secret = generate_2fa_secret(portal.env["registry"].settings)
            site_ids[name] = {"uuid": str(user.uuid), "site": user.site_id}
        db.add(models.RegRequest(fullname="New", email="new@example.org", new_group_name="New Lab"))
        db.flush()
    return site_ids


def add_fields(portal, root):
    """Define fields, some of which the new portal does not take, and a service with its own."""
    field = {
        "regexDescription": "",
        "longDescription": "",
        "example": "x",
        "regExp": "",
        "dateTimeFmt": "",
        "isMandatory": False,
        "order": 600,
        "isFile": False,
        "isSubmissionUnique": False,
        "isSiteUnique": False,
        "serviceId": "",
    }
    for name, more in (
        ("#ID", {"regExp": "^[A-Z][A-Z][0-9][0-9]$", "isMandatory": True, "isSiteUnique": True, "order": 100}),
        ("Date", {"dateTimeFmt": "%Y-%m-%d", "isMandatory": True}),
        ("ZIP Code", {"regExp": "^[0-9][0-9][0-9]$", "regexDescription": "Three digits.", "isSubmissionUnique": True}),
        ("FileR1", {"isFile": True}),
        ("FileR2", {"isFile": True}),
        ("Ahead", {"regExp": "^(?!bad)[a-z]+$"}),
        ("Prefix", {"regExp": "[A-Z]{2}"}),
        ("Twin", {}),
        ("Site", {}),
    ):
        portal.call(root, "POST", "/metadata", {**field, "name": name, **more})
    service = portal.call(root, "POST", "/services", {"name": "Analysis"})["id"]
    for name, more in (("Result", {}), ("Report", {"isFile": True}), ("Lane", {"isSubmissionUnique": True})):
        portal.call(root, "POST", "/metadata", {**field, "name": name, "serviceId": service["site"], **more})
    return service


RECORD = {"Date": "2021-03-29", "Ahead": "good", "Prefix": "ABcd", "FileR1": "", "FileR2": ""}


def add_data(portal, service, bot):
    """Hand in data as labs and a bot do."""
    known = {}

    def record(number, zip_code, **more):
        names = {"FileR1": f"AB{number}_R1.fq", "FileR2": f"AB{number}_R2.fq"}
        return {**RECORD, "#ID": f"AB{number}", "ZIP Code": zip_code, **names, **more}

    def files(token, number):
        return [portal.upload(token, f"AB{number}_R{each}.fq", f"@{number}.{each}".encode()) for each in (1, 2)]

    sets = [
        portal.stage(ANN, **record(10, "101", Twin="same", Site="one")),
        portal.stage(ANN, **record(11, "102", Twin="same", Site="two")),
    ]
    first = [*files(ANN, 10), *files(ANN, 11)]
    known["submission"] = portal.submit(ANN, "First", sets, first)
    others = [portal.stage(BOB, **record(20, "201", Site="one"))]
    second = files(BOB, 20)
    portal.submit(BOB, None, others, second)
    known["staged"] = portal.stage(ANN, **record(30, "301"))
    known["loose"] = files(ANN, 30)
    portal.upload(ANN, "never.fq", b"@never", confirm=False)
    portal.call(ROOT, "PUT", "/services/" + service["site"], {"userIds": [bot["site"]]})
    report = portal.upload(BOT, "report.txt", b"fine")
    answer = {"record": {"Result": "good", "Report": "report.txt", "Lane": "L1"}, "fileIds": [report["site"]]}
    portal.call(BOT, "POST", f"/service-execution/{service['site']}/{sets[0]['site']}", answer)
    answer = {"record": {"Result": "bad", "Lane": "L1"}, "fileIds": []}
    portal.call(BOT, "POST", f"/service-execution/{service['site']}/{sets[1]['site']}", answer)
    return {**known, "sets": sets, "others": others, "first": first, "second": second, "report": report}


def break_rules(portal):
    """Give fields rules that what was submitted breaks, as an administrator of the old portal could."""
    from datameta import models

    with portal.request.tm:
        db = portal.request.dbsession
        for name, flag in (("Twin", "submission_unique"), ("Site", "site_unique")):
            setattr(db.query(models.MetaDatum).filter(models.MetaDatum.name == name).one(), flag, True)


def main():
    """Do what the command says."""
    ini = sys.argv[1]
    if sys.argv[2:] == ["later"]:
        portal = Portal(ini)
        known = json.loads(sys.stdin.read())
        later = portal.submit(ANN, "Later", [known["staged"]], known["loose"])
        print(json.dumps({"later": later}))
        return
    make(ini)
    portal = Portal(ini)
    people = add_people(portal)
    service = add_fields(portal, ROOT)
    data = add_data(portal, service, people["Bot"])
    break_rules(portal)
    known = {**data, "people": people, "service": service, "password": PASSWORD, "long": LONG_PASSWORD}
    print(json.dumps(known))


main()
