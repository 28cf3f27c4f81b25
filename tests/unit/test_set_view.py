"""How a metadataset looks on the wire: the view that is made for many says of each what the contract says of one."""

from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import orjson
from hypothesis import given
from hypothesis import strategies as st

from datameta.api.serialize import MetaDataSetView, show_metadataset
from datameta.authz import Actor
from datameta.logic import records
from datameta.logic.fields import Field

SERVICES = (1, 2)
NUMBER = UUID("2f1c9a52-0b1c-4f5e-9d6a-0123456789ab")
ID = {"uuid": str(NUMBER), "site": "X-1"}
FORMATS = ("", "", "%Y-%m-%d", "%d.%m.%y", "%j %Y %H:%M", "%B %d, %Y")
texts = st.one_of(
    st.text(max_size=8),
    st.datetimes().map(lambda instant: instant.isoformat()),
    st.sampled_from(["2026-02-30T00:00:00", "2026-03-14T00:00:00", "2026-03-14", '"', "\\", "é\n", "\u2028"]),
)


@st.composite
def make_fields(draw: st.DrawFn) -> list[Field]:
    names = draw(st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=8))
    return [
        Field(
            id=number,
            name=name,
            date_time_fmt=draw(st.sampled_from(FORMATS)),
            is_file=draw(st.booleans()),
            service_id=draw(st.sampled_from([None, None, *SERVICES])),
        )
        for number, name in enumerate(names, 1)
    ]


@st.composite
def make_rows(draw: st.DrawFn, fields: list[Field]) -> Any:
    def make_record(service_id: int | None) -> dict[str, str]:
        keys = [field.key for field in fields if field.service_id == service_id]
        return draw(st.dictionaries(st.sampled_from(keys), texts)) if keys else {}

    executions = [
        {
            "service": service,
            "service_uuid": str(NUMBER),
            "service_site_id": "X-1",
            "uuid": str(NUMBER),
            "executed_at": "2026-03-14T12:00:00+00:00",
            "user_uuid": str(NUMBER),
            "user_site_id": "X-1",
            "record": make_record(service),
        }
        for service in draw(st.sets(st.sampled_from(SERVICES)))
    ]
    files = [[field.id, str(NUMBER), "X-1"] for field in fields if field.is_file and draw(st.booleans())]
    is_submitted = draw(st.booleans())
    return SimpleNamespace(
        record=make_record(None),
        executions=executions or None,
        files=files or None,
        uuid=NUMBER,
        site_id="X-1",
        user_uuid=NUMBER,
        user_site_id="X-1",
        submission_uuid=NUMBER if is_submitted else None,
        submission_site_id="X-1" if is_submitted else None,
    )


def make_actor(*, site_read: bool, services: frozenset[int]) -> Actor:
    return cast(Actor, SimpleNamespace(site_read=site_read, service_ids=services))


def describe(actor: Actor, row: Any, fields: list[Field]) -> dict[str, Any]:
    """Return a set as the contract describes it, a field at a time."""
    record, file_ids, answers = {}, {}, {}
    for field in fields:
        stored = row.record
        if field.service_id is not None:
            if not actor.site_read and field.service_id not in actor.service_ids:
                continue
            execution = next((each for each in row.executions or () if each["service"] == field.service_id), None)
            answers[field.name] = execution and {
                "serviceExecutionId": {"uuid": str(NUMBER)},
                "executionTime": execution["executed_at"],
                "serviceId": ID,
                "userId": ID,
            }
            stored = execution and execution["record"]
        if stored is not None:
            record[field.name] = records.show_value(field, stored.get(field.key))
        if field.is_file:
            file_ids[field.name] = ID if any(place == field.id for place, *_ in row.files or ()) else None
    return {
        "record": record,
        "fileIds": file_ids,
        "serviceExecutions": answers or None,
        "id": ID,
        "submissionId": ID if row.submission_uuid else None,
        "userId": ID,
    }


@given(data=st.data(), site_read=st.booleans(), services=st.frozensets(st.sampled_from(SERVICES)))
def test_a_view_for_many_says_of_each_what_the_contract_says(
    data: st.DataObject, site_read: bool, services: frozenset[int]
) -> None:
    fields = data.draw(make_fields())
    actor = make_actor(site_read=site_read, services=services)
    view = MetaDataSetView(actor, fields)
    for row in data.draw(st.lists(make_rows(fields), max_size=3)):
        shown, expected = view.show(row), describe(actor, row, fields)
        assert shown == expected == show_metadataset(actor, row, fields)
        # Fields come in their order.
        assert list(shown["record"]) == list(expected["record"])
        assert orjson.loads(orjson.dumps(shown)) == expected
