"""Searching: everybody finds what they may see by what they may see, each set once, however small the pages."""

import csv
import io
import random
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from zipfile import ZipFile

import openpyxl
import pytest
from sqlalchemy import text

from datameta.logic import export, search
from datameta.logic.search import Filters
from datameta.paging import make_cursor
from datameta.sheets import streamed
from tests.conftest import Client, Portal, actor_of, assert_refused, counted

UNKNOWN = "00000000-0000-4000-8000-000000000000"
NUMBER = {
    "kind": "number",
    "unit": "",
    "minimum": None,
    "maximum": None,
    "isInteger": False,
    "missingTerms": ["missing"],
}
ODD_VALUES = [
    *("=1+1", "+49 30", "-0.5", "-x", "@a", "\tx", " lead", "_x0041_", "ü\n€", 'say "hi", now', "<b>&amp;</b>"),
    *("\x01\x02", "007.0", "1e5", "'quoted", "ends\\", "100%", "a_b"),
]


@dataclass
class Site:
    """A lab, its colleague, a stranger, a site reader and a service with its user."""

    portal: Portal
    admin: Client
    lab: Client
    colleague: Client
    stranger: Client
    reader: Client
    bot: Client
    service: str


@pytest.fixture
def site(portal: Portal) -> Site:
    admin = portal.add_user("Office", site_admin=True)
    service = admin.post("/services", {"name": "Analysis"}).json["id"]["site"]
    admin.add_field("ID", order=1)
    admin.add_field("Day", order=2, dateTimeFmt="%d.%m.%Y")
    admin.add_field("Verdict", order=3, serviceId=service)
    lab, colleague, stranger = (portal.add_user(group) for group in ("Lab A", "Lab A", "Lab B"))
    bot = portal.add_user("Lab A")
    admin.put(f"/services/{service}", {"userIds": [bot.uuid]})
    reader = portal.add_user("Office", site_read=True)
    return Site(portal, admin, lab, colleague, stranger, reader, bot, service)


def submit(client: Client, *values: str | None, **label: str) -> list[str]:
    """Submit a set with each of the values as its ID; return their site ids."""
    staged = [client.stage(ID=value) for value in values]
    assert client.submit(staged, **label).status_int == 200
    return [item["id"]["site"] for item in staged]


def find(client: Client, *where: str, **query: Any) -> list[str]:
    """Return the site ids of what a search finds, in its order."""
    answer = client.get("/search", params=[*query.items(), *(("where", condition) for condition in where)])
    assert answer.status_int == 200, answer.body
    assert answer.json["total"] == len(answer.json["rows"])
    return [row["metadataset"]["id"]["site"] for row in answer.json["rows"]]


def found_ids(client: Client, *where: str, **query: Any) -> list[str | None]:
    """Return the values of the field ID of what a search finds, in its order."""
    answer = client.get("/search", params=[*query.items(), *(("where", condition) for condition in where)])
    assert answer.status_int == 200, answer.body
    return [row["metadataset"]["record"]["ID"] for row in answer.json["rows"]]


def answer_for(site: Site, metadataset: str, verdict: str) -> None:
    path = f"/service-execution/{site.service}/{metadataset}"
    answer = site.bot.post(path, {"record": {"Verdict": verdict}, "fileIds": []})
    assert answer.status_int == 200, answer.body


def redefine(site: Site, field: dict[str, Any], **changes: str) -> None:
    definition = {name: "" if value is None else value for name, value in field.items() if name != "id"}
    answer = site.admin.put(f"/metadata/{field['id']['uuid']}", {**definition, "serviceId": None, **changes})
    assert answer.status_int == 200, answer.body


def read_pages(client: Client, **query: Any) -> Iterator[dict[str, Any]]:
    """Yield page after page."""
    cursor: dict[str, str] = {}
    while True:
        answer = client.get("/search", params={**query, **cursor})
        assert answer.status_int == 200, answer.body
        yield answer.json
        if answer.json["next"] is None:
            return
        cursor = {"cursor": answer.json["next"]}


# Who finds what.


def test_an_empty_search_is_an_answer(site: Site) -> None:
    site.lab.stage(ID="staged")
    assert site.lab.get("/search").json == {"total": 0, "moreThanTotal": False, "next": None, "rows": []}
    assert_refused(site.portal.anonymous().get("/search"), 401, ("unauthenticated", None))


def test_a_set_is_found_with_where_it_is_from(site: Site) -> None:
    staged = site.lab.stage(ID="1", Day="31.01.2026")
    submission = site.lab.submit([staged], label="Run 7").json
    [row] = site.colleague.get("/search").json["rows"]
    detail = site.lab.get(f"/submissions/{submission['id']['site']}").json
    assert row == {
        "metadataset": site.lab.get(f"/metadatasets/{staged['id']['site']}").json,
        "submission": {"id": submission["id"], "label": "Run 7", "submittedAt": detail["submittedAt"]},
        "group": {"id": detail["groupId"], "name": "Lab A"},
        "user": {"id": detail["userId"], "name": site.lab.get("/rpc/whoami").json["name"]},
    }


def test_sets_are_for_the_group_and_site_readers(site: Site) -> None:
    [mine], [theirs] = submit(site.lab, "1"), submit(site.stranger, "1")
    for client in (site.lab, site.colleague, site.bot):
        assert find(client) == find(client, q="1") == find(client, "ID==1") == [mine]
    assert find(site.stranger) == find(site.stranger, sort="group") == [theirs]
    assert find(site.admin) == []
    assert find(site.reader) == [theirs, mine]
    # What is not one's own is not found by its ids either.
    group = site.lab.group
    for query in ({"groupId": group}, {"userId": site.lab.uuid}, {"q": mine}):
        assert find(site.stranger, **query) == []


def test_what_a_service_answered_is_found_by_those_who_may_see_it(site: Site) -> None:
    [first, second] = submit(site.lab, "1", "2")
    answer_for(site, first, "fine")
    for client in (site.bot, site.reader):
        assert find(client, q="FINE") == find(client, "Verdict=in") == find(client, "Verdict==fine") == [first]
        assert find(client, "Verdict==") == [second]
        assert find(client, sort="field:Verdict") == [first, second]
        by_state = {state: {"serviceId": site.service, "serviceState": state} for state in ("done", "awaiting")}
        assert find(client, **by_state["done"]) == [first]
        assert find(client, **by_state["awaiting"]) == [second]
        assert client.get("/search").json["rows"][1]["metadataset"]["record"]["Verdict"] == "fine"
    for client in (site.lab, site.admin):
        assert find(client, q="fine") == []
        for query in ({"where": "Verdict=i"}, {"sort": "-field:Verdict"}):
            assert_refused(client.get("/search", params=query), 400, ("not_a_service_user", *query))
        answer = client.get("/search", params={"serviceId": site.service, "serviceState": "done"})
        assert_refused(answer, 400, ("not_a_service_user", "serviceId"))
        answer = client.get("/search/export", params={"column": "Verdict"})
        assert_refused(answer, 400, ("not_a_service_user", "column"))
    assert "Verdict" not in site.lab.get("/search").json["rows"][1]["metadataset"]["record"]


def test_a_value_that_a_service_took_over_is_hidden_wherever_it_stands(site: Site) -> None:
    field = site.admin.add_field("Secret")
    site.lab.submit([site.lab.stage(ID="1", Secret="hush")])
    assert found_ids(site.lab, q="hush") == ["1"]
    redefine(site, field, serviceId=site.service)
    for client in (site.lab, site.bot, site.reader):
        assert found_ids(client, q="hush") == []


# Conditions.


def test_a_text_is_looked_for_in_values_ids_and_labels(site: Site) -> None:
    [first, second] = submit(site.lab, "Straße 5", "b", label="Spring run")
    [other] = submit(site.lab, "spring")
    submission = site.lab.get("/search", params={"q": "straße"}).json["rows"][0]["submission"]["id"]["site"]
    assert find(site.lab, q="STRASSE") == []
    assert find(site.lab, q="sTRAße") == find(site.lab, q="E 5") == find(site.lab, q=first.lower()) == [first]
    assert find(site.lab, q="SPRING") == [other, second, first]
    assert find(site.lab, q="ring R") == find(site.lab, q=submission) == [second, first]
    # Neither the keys of records nor how they are stored is a text.
    for q in ('"', "{", ": ", '", "'):
        assert find(site.lab, q=q) == []


@pytest.mark.parametrize("value", ODD_VALUES)
def test_any_value_is_found_by_itself_and_nothing_else_is(site: Site, value: str) -> None:
    submit(site.lab, value, "other")
    assert found_ids(site.lab, q=value) == found_ids(site.lab, f"ID=={value}") == [value]
    assert found_ids(site.lab, f"ID={value[1:]}") == [value]


def test_percent_and_underscore_are_no_wildcards(site: Site) -> None:
    submit(site.lab, "100 apples", "a-b")
    for pattern in ("100%", "a_b", "%", "_", "\\"):
        assert found_ids(site.lab, q=pattern) == found_ids(site.lab, f"ID={pattern}") == []


def test_all_conditions_must_hold(site: Site) -> None:
    staged = [
        site.lab.stage(ID="Apple", Day="31.01.2026"),
        site.lab.stage(ID="apple pie", Day="01.02.2026"),
        site.lab.stage(ID="Apple"),
        site.lab.stage(),
    ]
    site.lab.submit(staged)
    assert found_ids(site.lab, "ID=APPLE", sort="id").count("Apple") == 2
    assert found_ids(site.lab, "ID==Apple") == ["Apple", "Apple"]
    assert found_ids(site.lab, "ID==apple") == []
    assert found_ids(site.lab, "ID=APPLE", "Day=2026", "ID=pie") == ["apple pie"]
    assert found_ids(site.lab, "ID=", "Day==") == ["Apple"]
    assert found_ids(site.lab, "ID==") == [None]
    assert len(found_ids(site.lab, "ID=")) == 3
    assert found_ids(site.lab, "Day=", q="pie") == ["apple pie"]


def test_an_empty_text_is_no_value(site: Site) -> None:
    submit(site.lab, "", None, "x")
    assert found_ids(site.lab, "ID=") == ["x"]
    assert found_ids(site.lab, "ID==", sort="submitted") == ["", None]


def test_dates_are_found_as_they_are_shown(site: Site) -> None:
    site.lab.submit([site.lab.stage(ID="1", Day="31.01.2026")])
    for q in ("31.01.2026", "1.01.2", ".2026"):
        assert found_ids(site.lab, q=q) == found_ids(site.lab, f"Day={q}") == ["1"]
    for q in ("2026-01-31", "T00", "00:00"):
        assert found_ids(site.lab, q=q) == found_ids(site.lab, f"Day={q}") == []
    assert found_ids(site.lab, "Day==31.01.2026") == ["1"]
    assert found_ids(site.lab, "Day==31.01") == []


def test_there_need_be_no_other_fields_than_dates(portal: Portal) -> None:
    portal.add_user("Office", site_admin=True).add_field("Day", dateTimeFmt="%d.%m.%Y")
    lab = portal.add_user("Lab A")
    staged = [lab.stage(Day="31.01.2026"), lab.stage(Day="01.02.2026")]
    lab.submit(staged)
    assert find(lab, q="31.") == [staged[0]["id"]["site"]]


@pytest.mark.parametrize(
    ("date_format", "value", "part"),
    [
        ("%Y-%m-%d %H:%M:%S", "2026-03-04 05:06:07", "04 05:06:07"),
        ("%d %B %y", "04 March 26", "04 march 26"),
        ("%b %d, %Y (100%%)", "Mar 04, 2026 (100%)", "ar 04, 2026 (100%)"),
        # Of the rarest, as they are stored.
        ("%j/%Y", "063/2026", "2026-03-04"),
    ],
)
def test_dates_of_all_forms(site: Site, date_format: str, value: str, part: str) -> None:
    site.admin.add_field("When", dateTimeFmt=date_format)
    site.lab.submit([site.lab.stage(ID="1", When=value), site.lab.stage(ID="2")])
    assert found_ids(site.lab, q=part) == found_ids(site.lab, f"When={part}") == ["1"]
    assert found_ids(site.lab, f"When=={value}") == ["1"]


def test_what_was_no_date_when_it_was_stored_is_a_text(site: Site) -> None:
    field = site.admin.add_field("When")
    site.lab.submit([site.lab.stage(ID="1", When="2024-02-99T00:00:00"), site.lab.stage(ID="2", When="soon")])
    redefine(site, field, dateTimeFmt="%d.%m.%Y")
    assert found_ids(site.lab, q="soon") == found_ids(site.lab, "When==soon") == ["2"]
    assert found_ids(site.lab, "When==2024-02-99T00:00:00") == ["1"]


def test_a_name_may_have_the_sign_itself(site: Site) -> None:
    site.admin.add_field("a=b")
    site.lab.submit([site.lab.stage(ID="1", **{"a=b": "c=d"}), site.lab.stage(ID="2")])
    for condition in ("a=b=c=", "a=b==c=d", "a=b=d"):
        assert found_ids(site.lab, condition) == ["1"]


def test_conditions_on_the_submission(site: Site) -> None:
    [first], [second], [theirs] = submit(site.lab, "1"), submit(site.colleague, "2"), submit(site.stranger, "3")
    instants = dict(zip((first, second, theirs), ("2030-01-01", "2030-02-01", "2030-03-01"), strict=True))
    rows = {row["metadataset"]["id"]["site"]: row for row in site.reader.get("/search").json["rows"]}
    with site.portal.database.engine.begin() as connection:
        for name, instant in instants.items():
            connection.execute(
                text("UPDATE submissions SET submitted_at = :instant WHERE site_id = :site"),
                {
                    "instant": datetime.fromisoformat(f"{instant}T00:00:00Z"),
                    "site": rows[name]["submission"]["id"]["site"],
                },
            )
    reader = site.reader
    assert find(reader, submittedAfter="2030-01-01T00:00:00Z") == [theirs, second]
    assert find(reader, submittedBefore="2030-02-01T00:00:01Z", sort="submitted") == [first, second]
    for kind in ("uuid", "site"):
        assert find(reader, groupId=rows[first]["group"]["id"][kind]) == [second, first]
        assert find(reader, userId=rows[second]["user"]["id"][kind]) == [second]
        assert find(reader, submissionId=rows[theirs]["submission"]["id"][kind]) == [theirs]
    for name in ("groupId", "userId", "submissionId"):
        assert find(reader, **{name: UNKNOWN}) == find(reader, **{name: "nothing"}) == []
    assert_refused(reader.get("/search?submittedAfter=soon"), 400, ("invalid_date", "submittedAfter"))


def test_everything_wrong_with_a_search_is_told_at_once(site: Site) -> None:
    query = "where=Nothing=1&where=ID&where=Verdict=1&sort=-field:None&serviceState=done"
    expected = [
        ("unknown_field", "where"),
        ("invalid_condition", "where"),
        ("not_a_service_user", "where"),
        ("unknown_field", "sort"),
        ("missing", "serviceId"),
    ]
    for path in ("/search", "/search/export"):
        assert_refused(site.lab.get(f"{path}?{query}"), 400, *expected)
    answer = site.lab.get(f"/search?where=Nothing=1&serviceId={site.service}")
    assert_refused(answer, 400, ("unknown_field", "where"), ("missing", "serviceState"))
    assert answer.json[0]["message"] == "There is no field named Nothing."
    assert_refused(site.lab.get("/search?sort=name"), 400, ("invalid_sort", "sort"))
    assert_refused(site.bot.get("/search?serviceId=x&serviceState=done"), 400, ("not_found", "serviceId"))
    assert_refused(site.bot.get("/search?serviceId=x&serviceState=asleep"), 400, ("invalid_value", "serviceState"))
    assert_refused(site.lab.get("/search", params=[("where", "ID=1")] * 21), 400, ("too_many", "where"))
    assert_refused(site.lab.get("/search", params={"q": "x" * 201}), 400, ("too_long", "q"))
    for limit in ("0", "501"):
        assert_refused(site.lab.get(f"/search?limit={limit}"), 400, ("out_of_range", "limit"))


# Blocks.


def test_blocks_leave_nothing_out(site: Site) -> None:
    chance = random.Random(11)
    site.admin.add_field("When", dateTimeFmt="%d %b %y")
    words = ["Ab", "ÄÖ straße", "x", "\u212aelvin", "日本語", "İI", "1=2", "a\\%_'\"b", "ΟΔΟΣ", "", "longer text"]
    for client in (site.lab, site.stranger, site.lab):
        staged = [
            client.stage(
                ID=" ".join(chance.choices(words, k=chance.randrange(4))) or None,
                Day=chance.choice(["31.01.2026", "28.12.1999", None]),
                When=chance.choice(["01 Jan 26", None]),
            )
            for _ in range(30)
        ]
        assert client.submit(staged, label=chance.choice(words) or None).status_int == 200
    for number, metadataset in enumerate(find_all(site.bot)):
        if number % 4:
            answer_for(site, metadataset, chance.choice(words))
    texts = [*words, "31.01", "01.2026", "12.1999", "1", "jan", "N 2", "06", "-01-", "t00"]
    texts += [text[place : place + 2] for text in words for place in range(len(text) - 1)]
    states = [{"service_id": site.service, "service_state": state} for state in ("done", "awaiting")]
    questions = [Filters(text=text) for text in texts]
    for name in ("ID", "Day", "When", "Verdict"):
        questions += [Filters(where=[f"{name}{sign}{text}"]) for text in ("", *texts) for sign in ("=", "==")]
    questions += [Filters(**state, text=text) for state in states for text in (None, "st", "ß")]
    questions.append(Filters(where=["ID=a", "Day=2026", "Verdict=b"], text="x"))
    found = 0
    with site.portal.database.sessions() as db:
        for filters in questions:
            for actor in (actor_of(site.bot), actor_of(site.reader)):
                narrowed = search.prepare_search(db, actor, filters, sort="id")
                every = replace(narrowed, uses_blocks=False)
                assert [*search.list_ids(db, narrowed)] == [*search.list_ids(db, every)], filters
                found += search.count_rows(db, every).number
    assert found > 2000


def find_all(client: Client, **query: Any) -> list[str]:
    rows = client.get("/search", params={"limit": 500, **query}).json["rows"]
    return [row["metadataset"]["id"]["site"] for row in rows]


def test_a_long_random_text_is_found_as_any_other(site: Site) -> None:
    text_ = "".join(map(chr, range(0x4E00, 0x4E00 + 9000)))
    submit(site.lab, text_, "other")
    assert found_ids(site.lab, q=text_[5000:5004]) == found_ids(site.lab, f"ID={text_[-2:]}") == [text_]
    [first, _] = find(site.bot)
    answer_for(site, first, text_)
    assert find(site.bot, "Verdict=" + text_[:1]) == [first]


def test_a_set_awaits_a_service_until_it_has_answered_for_it(site: Site) -> None:
    sets = submit(site.lab, *map(str, range(25)))
    others = submit(site.lab, "x", "y")
    awaiting = {"serviceId": site.service, "serviceState": "awaiting"}
    for metadataset in [*sets, others[0]]:
        answer_for(site, metadataset, "fine")
        left = find_all(site.bot, **awaiting)
        listed = site.bot.get("/metadatasets", params={"awaitingService": site.service})
        shown = [item["id"]["site"] for item in listed.json] if listed.status_int == 200 else []
        assert metadataset not in left
        assert sorted(left) == sorted(shown)
    assert left == [others[1]]


def test_so_many_are_counted_and_no_more(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    submit(site.lab, *(f"v{number}" for number in range(25)))
    monkeypatch.setattr(search, "MOST_COUNTED", 24)
    monkeypatch.setattr(search, "MOST_COMPARED", 10)
    for query, total, is_more in (
        ({}, 24, True),
        ({"q": "V2"}, 6, False),
        ({"where": "ID="}, 10, True),
        ({"where": "ID=v1"}, 10, True),
        ({"where": "ID=v2"}, 6, False),
    ):
        answer = site.lab.get("/search", params={"limit": 1, **query}).json
        assert (answer["total"], answer["moreThanTotal"]) == (total, is_more)
    # There are two blocks, of which the first alone is looked through, and one of the sets for which there is one page.
    monkeypatch.setattr(search, "MOST_BLOCKS", 1)
    submit(site.lab, *(f"v{number}" for number in range(25)))
    for sort in ("submitted", "-id", "field:ID"):
        pages = list(read_pages(site.lab, q="v24", sort=sort, limit=1))
        assert [len(page["rows"]) for page in pages] == [1, 1]
        assert [page["moreThanTotal"] for page in pages] == [True, True]


# Order and pages.


def test_the_newest_is_first_unless_said(site: Site) -> None:
    sets = [*submit(site.lab, "1", "2"), *submit(site.colleague, "3")]
    assert find(site.lab) == find(site.lab, sort="-submitted") == sets[::-1]
    assert find(site.lab, sort="submitted") == sets
    assert find(site.lab, sort="id") == sorted(sets)
    assert find(site.lab, sort="-id") == sorted(sets, reverse=True)


def test_groups_sort_by_name_in_any_letter_case(site: Site) -> None:
    for group in ("beta", "Alpha", "Gamma"):
        submit(site.portal.add_user(group), group)
    assert found_ids(site.reader, sort="group") == ["Alpha", "beta", "Gamma"]
    assert found_ids(site.reader, sort="-group") == ["Gamma", "beta", "Alpha"]


def test_texts_sort_in_any_letter_case_and_what_is_empty_comes_last(site: Site) -> None:
    submit(site.lab, "b", None, "C", "", "a", "10", "9")
    assert found_ids(site.lab, sort="field:ID") == ["10", "9", "a", "b", "C", None, ""]
    assert found_ids(site.lab, sort="-field:ID") == ["C", "b", "a", "9", "10", "", None]


def test_numbers_sort_as_numbers(site: Site) -> None:
    field = site.admin.add_field("Amount")
    assert site.admin.put(f"/metadata/{field['id']['uuid']}/refinement", NUMBER).status_int == 200
    values = ["10", "9.5", "-3", "missing", None, "1e1", "1e-3", "+7"]
    assert site.lab.submit([site.lab.stage(ID=value, Amount=value) for value in values]).status_int == 200
    ordered = ["-3", "1e-3", "+7", "9.5", "10", "1e1", "missing", None]
    for limit in (1, 3, 50):
        pages = list(read_pages(site.lab, sort="field:Amount", limit=limit))
        assert [row["metadataset"]["record"]["ID"] for page in pages for row in page["rows"]] == ordered
    assert found_ids(site.lab, sort="-field:Amount") == ["1e1", "10", "9.5", "+7", "1e-3", "-3", "missing", None]


def test_dates_sort_by_time(site: Site) -> None:
    days = ["02.01.2026", "01.02.2026", "31.12.2025"]
    site.lab.submit([site.lab.stage(ID=day, Day=day) for day in days])
    assert found_ids(site.lab, sort="field:Day") == ["31.12.2025", "02.01.2026", "01.02.2026"]


@pytest.mark.parametrize("sort", ["submitted", "id", "group", "field:ID", "field:Day", "field:Verdict", "field:Amount"])
def test_pages_give_everything_once_whatever_is_equal(site: Site, sort: str) -> None:
    field = site.admin.add_field("Amount")
    site.admin.put(f"/metadata/{field['id']['uuid']}/refinement", NUMBER)
    chance = random.Random(5)
    sets = []
    for client in (site.lab, site.stranger, site.colleague):
        staged = [
            client.stage(
                ID=chance.choice(["x", "X", "y" * 300, "", None, "\x01" * 200, "😀" * 120]),
                Day=chance.choice(["01.01.2026", None]),
                Amount=chance.choice(["1", "1.0", "missing", None, "1e-99", "9e99"]),
            )
            for _ in range(8)
        ]
        client.submit(staged)
        sets += [item["id"]["site"] for item in staged]
    for metadataset in find(site.bot)[:4]:
        answer_for(site, metadataset, "same")
    for direction in ("", "-"):
        whole = find(site.reader, sort=direction + sort)
        assert sorted(whole) == sorted(sets)
        for limit in (1, 5, 24):
            pages = list(read_pages(site.reader, sort=direction + sort, limit=limit))
            assert [page["total"] for page in pages] == [24] * len(pages)
            assert [row["metadataset"]["id"]["site"] for page in pages for row in page["rows"]] == whole
            assert len(pages) == -(-24 // limit)


def test_what_comes_meanwhile_does_not_shift_the_pages(site: Site) -> None:
    sets = submit(site.lab, "1", "2", "3", "4")
    pages = read_pages(site.lab, limit=2)
    first = next(pages)
    submit(site.lab, "5")
    [second] = pages
    assert [row["metadataset"]["id"]["site"] for page in (first, second) for row in page["rows"]] == sets[::-1]
    assert second["total"] == 5


def test_a_cursor_that_no_page_gave_is_refused(site: Site) -> None:
    submit(site.lab, "1", "2")
    by_sort = {
        "submitted": [make_cursor("x", 1), make_cursor("2030-01-01T00:00:00", 1), make_cursor(1)],
        "id": [make_cursor("a\0", 1), make_cursor(1, 1), make_cursor("a"), "nonsense"],
        "field:ID": [make_cursor("a", 1), make_cursor(0, "a", "b"), make_cursor(-1, "a", 1)],
    }
    for sort, cursors in by_sort.items():
        for cursor in cursors:
            answer = site.lab.get("/search", params={"sort": sort, "cursor": cursor})
            assert_refused(answer, 400, ("invalid_cursor", "cursor"))


def test_many_sets_take_as_few_statements_as_one(site: Site) -> None:
    counts = []
    for values in (["1"], [str(number) for number in range(20)]):
        submit(site.lab, *values)
        for metadataset in find(site.bot, serviceId=site.service, serviceState="awaiting"):
            answer_for(site, metadataset, "fine")
        with counted(site.portal) as statements:
            find(site.bot, "Verdict=fine", q="fine", sort="field:Verdict")
        counts.append(len(statements))
    assert counts[0] == counts[1] <= 10


# Taking along.


def export_rows(client: Client, kind: str, query: Iterable[tuple[str, str]] = ()) -> list[list[str]]:
    """Return the rows of an exported table, read as a program reads them."""
    answer = client.get("/search/export", params=[("format", kind), *query])
    assert answer.status_int == 200, answer.body
    assert answer.headers["Content-Disposition"].startswith(f'attachment; filename="DataMeta metadatasets.{kind}"')
    if kind == "csv":
        assert answer.content_type == "text/csv"
        assert answer.body.startswith(b"\xef\xbb\xbf")
        return list(csv.reader(io.StringIO(answer.body.decode("utf-8-sig"), newline="")))
    assert answer.content_type == "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    book = openpyxl.load_workbook(io.BytesIO(answer.body))
    assert book.sheetnames == ["Metadatasets"]
    cells = [cell for row in book.active for cell in row if cell.value is not None]
    assert {cell.data_type for cell in cells} == {"s"}
    assert {cell.number_format for cell in cells} == {"@"}
    return [[cell.value or "" for cell in row] for row in book.active]


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_an_export_says_what_the_search_says(site: Site, kind: str) -> None:
    staged = site.lab.stage(ID="1", Day="31.01.2026")
    site.lab.submit([staged, site.lab.stage(ID="2")])
    submit(site.stranger, "3")
    answer_for(site, staged["id"]["site"], "fine")
    [_, row] = site.lab.get("/search").json["rows"]
    submitted = datetime.fromisoformat(row["submission"]["submittedAt"]).isoformat(timespec="seconds")
    common = [row["submission"]["id"]["site"], submitted, "Lab A", row["user"]["name"]]
    heading, second, first = export_rows(site.lab, kind)
    assert heading == ["Metadataset", "Submission", "Submitted", "Group", "User", "ID", "Day"]
    assert first == [staged["id"]["site"], *common, "1", "31.01.2026"]
    assert second[1:] == [*common, "2", ""]
    heading, *rows = export_rows(site.bot, kind, [("sort", "field:ID")])
    assert heading[5:] == ["ID", "Day", "Verdict"]
    assert [row[5:] for row in rows] == [["1", "31.01.2026", "fine"], ["2", "", ""]]


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_an_export_takes_conditions_columns_and_ids(site: Site, kind: str) -> None:
    sets = submit(site.lab, "apple", "banana", "cherry")
    [theirs] = submit(site.stranger, "apple")
    uuid = site.lab.get(f"/metadatasets/{sets[2]}").json["id"]["uuid"]
    query = [("id", sets[0]), ("id", uuid), ("id", theirs), ("id", UNKNOWN), ("sort", "submitted")]
    columns = [("column", "Day"), ("column", "ID")]
    heading, *rows = export_rows(site.lab, kind, [*query, *columns])
    assert heading[5:] == ["Day", "ID"]
    assert [row[6] for row in rows] == ["apple", "cherry"]
    heading, *rows = export_rows(site.lab, kind, [*query, ("q", "PPL"), ("where", "ID=apple")])
    assert [row[5] for row in rows] == ["apple"]
    assert export_rows(site.lab, kind, [("q", "nothing"), ("column", "ID")]) == [[*export.HEADINGS, "ID"]]


def test_an_export_is_refused_before_it_begins(site: Site) -> None:
    submit(site.lab, "1")
    answer = site.lab.get("/search/export?column=None&column=ID&column=Verdict")
    assert_refused(answer, 400, ("unknown_field", "column"), ("not_a_service_user", "column"))
    assert_refused(site.lab.get("/search/export?format=pdf"), 400, ("invalid_value", "format"))
    assert_refused(site.lab.get("/search/export", params=[("id", "1")] * 1001), 400, ("too_many", "id"))
    assert_refused(site.portal.anonymous().get("/search/export"), 401, ("unauthenticated", None))


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_an_export_has_all_pages(site: Site, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (export, search):
        monkeypatch.setattr(module, "PAGE_SIZE", 2)
    values = [str(number) for number in range(7)]
    submit(site.lab, *values)
    _, *rows = export_rows(site.lab, kind, [("sort", "submitted")])
    assert [row[5] for row in rows] == values


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_a_value_is_the_text_that_it_was_and_never_a_formula(site: Site, kind: str) -> None:
    submit(site.lab, *ODD_VALUES)
    _, *rows = export_rows(site.lab, kind, [("sort", "submitted")])
    exported = [row[5] for row in rows]
    expected = [value.replace("\x01\x02", "\ufffd\ufffd") for value in ODD_VALUES]
    if kind == "csv":
        begins = ("=", "+", "-", "@", "\t")
        expected = [f"'{value}" if value.startswith(begins) and value != "-0.5" else value for value in expected]
        assert "'=1+1" in exported
    else:
        # How a workbook writes what would be an escaped character.
        expected = [value.replace("_x0041_", "_x005F_x0041_") for value in expected]
    assert exported == expected


def test_a_workbook_goes_on_on_another_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(count: int) -> dict[str, list[tuple[Any, ...]]]:
        content = b"".join(streamed.write_xlsx(["A"], ([str(number)] for number in range(count)), title="T"))
        book = openpyxl.load_workbook(io.BytesIO(content))
        return {sheet.title: list(sheet.values) for sheet in book}

    monkeypatch.setattr(streamed, "MOST_ROWS", 3)
    assert read(0) == {"T": [("A",)]}
    assert read(2) == {"T": [("A",), ("0",), ("1",)]}
    assert read(3) == {"T": [("A",), ("0",), ("1",)], "T (2)": [("A",), ("2",)]}
    monkeypatch.setattr(streamed, "MOST_ROWS", 100)
    monkeypatch.setattr(streamed, "MOST_BYTES", 1)
    assert list(read(2)) == ["T", "T (2)"]


def test_an_archive_is_whole_and_what_others_write_alike() -> None:
    content = b"".join(streamed.write_xlsx(["A", "B"], [["1", ""], ["", "2"]], title="T"))
    with ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert len(archive.namelist()) == 6


@pytest.mark.parametrize("write", [streamed.write_csv, lambda *table: streamed.write_xlsx(*table, title="T")])
def test_a_table_takes_the_same_memory_whatever_its_size(write: Any) -> None:
    chance = random.Random(3)
    rows = ([f"{chance.getrandbits(4000):x}"] for _ in range(20_000))
    tracemalloc.start()
    given = sum(len(chunk) for chunk in write(["A"], rows))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert given > 10_000_000
    assert peak < 2_000_000


def test_rows_are_read_when_they_are_needed() -> None:
    rows = iter([["x" * 1000]] * 10_000)
    chunks = streamed.write_csv(["A"], rows)
    next(chunks)
    assert len(list(rows)) > 9_900
