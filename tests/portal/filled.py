"""A demo portal with data in it: what labs of two groups have submitted, and what a service has answered."""

from dataclasses import dataclass
from typing import Any

from tests.e2e.conftest import RECORD, Api, run_main_job
from tests.portal.conftest import Site

MANY = 120
"""More metadatasets than a page of the search has."""


@dataclass
class Filled:
    """Who there is, and what they have submitted: the set that was answered, and submissions."""

    lab: Api
    other: Api
    bot: Api
    answered: Any
    first: Any
    many: Any
    foreign: Any


def open_key(site: Site, who: str) -> Api:
    """Return a user of the demo, by a key of their own."""
    answer = site.call(who, "POST", "/keys", json={"label": "test"})
    assert answer.status_code == 200, answer.text
    return Api(site.address, answer.json()["token"])


def stage(api: Api, name: str, **values: str | None) -> Any:
    """Stage a set."""
    return api.call("POST", "/metadatasets", {"record": RECORD | {"Lab-ID": name} | values})


def submit(api: Api, label: str | None, sets: list[Any], *files: Any) -> Any:
    """Submit sets and files."""
    ids = {
        "metadatasetIds": [each["id"]["site"] for each in sets],
        "fileIds": [file["id"]["site"] for file in files],
    }
    return api.call("POST", "/submissions", ids | {"label": label})


def fill(site: Site) -> Filled:
    """Submit a sample with its reads, which the service answers; many without; and one of the other lab."""
    make_optional(site, "FileR1")
    lab, other, bot = site.served.open_lab(), open_key(site, "other.lab"), site.served.open_bot()
    answered = run_main_job(lab, bot, "S-1")
    first = lab.call("GET", f"/submissions/{answered['submissionId']['site']}")
    zips = ("101", "720", "803")
    sets = [
        stage(lab, f"M-{number:03}", ZIPCode=zips[number % 3], **{"Sampling date": f"2025-{number % 12 + 1:02}-03"})
        for number in range(MANY)
    ]
    many = submit(lab, "Many", sets)
    reads = other.upload("other_R1.fastq", b"@other")
    theirs = stage(other, "=O-1+2", FileR1=reads["name"], **{"Sequencing platform": "PacBio"})
    foreign = submit(other, None, [theirs], reads)
    return Filled(lab, other, bot, answered, first, many, foreign)


def make_optional(site: Site, name: str) -> None:
    """Take from a field that it must have a value."""
    fields = site.call("site.admin", "GET", "/metadata").json()
    field = next(field for field in fields if field["name"] == name)
    said = {key: "" if value is None else value for key, value in field.items() if key != "id"}
    body = said | {"isMandatory": False, "serviceId": None}
    answer = site.call("site.admin", "PUT", f"/metadata/{field['id']['uuid']}", json=body)
    assert answer.status_code == 200, answer.text
