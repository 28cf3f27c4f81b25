"""Ids: a UUID or a site id stands for the same thing, and site ids are drawn until they are free."""

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from datameta import identifiers
from datameta.api.validation import SentNumber
from datameta.batches import insert_rows, make_rows
from datameta.database import Database
from datameta.errors import NotFoundError, UnavailableError
from datameta.models import ApiKey, AppSetting, AuditEvent, DownloadToken, Group
from datameta.settings import SiteIdFormat


def test_a_row_is_found_by_its_uuid_and_by_its_site_id(database: Database) -> None:
    with database.sessions.begin() as db:
        [group] = identifiers.insert_with_site_ids(db, Group, SiteIdFormat("DMG-", 8), [{"name": "A"}])
        for text in (str(group.uuid), str(group.uuid).upper(), group.site_id):
            assert identifiers.find_by_id(db, Group, text) is group
        assert identifiers.find_by_id(db, Group, group.site_id, lock=True) is group
        for text in (
            "",
            "DMG-",
            group.site_id.lower(),
            group.site_id + " ",
            group.uuid.hex,
            "0",
            "x" * 36,
            str(uuid4()),
        ):
            with pytest.raises(NotFoundError):
                identifiers.find_by_id(db, Group, text)


def test_a_thing_without_site_ids_is_found_by_uuid_alone(database: Database) -> None:
    with database.sessions.begin() as db, pytest.raises(NotFoundError):
        identifiers.find_by_id(db, ApiKey, "DMK-1")


def test_many_ids_of_both_kinds_are_matched_at_once(database: Database) -> None:
    with database.sessions.begin() as db:
        rows = [{"name": name} for name in "ABCD"]
        a, b, c, _ = identifiers.insert_with_site_ids(db, Group, SiteIdFormat("DMG-", 8), rows)
        for texts, found in (
            ([], []),
            ([a.site_id], ["A"]),
            ([str(b.uuid)], ["B"]),
            ([str(a.uuid), a.site_id, c.site_id, str(uuid4()), "else"], ["A", "C"]),
        ):
            query = select(Group.name).where(identifiers.matches_ids(Group, texts)).order_by(Group.name)
            assert db.scalars(query).all() == found


def test_rows_come_back_in_the_order_they_were_given_also_when_ids_collide(database: Database) -> None:
    # Of a hundred ids, fifty drawn at once collide.
    names = [f"Group {number}" for number in range(50)]
    with database.sessions.begin() as db:
        groups = identifiers.insert_with_site_ids(db, Group, SiteIdFormat("G", 2), [{"name": name} for name in names])
        assert [group.name for group in groups] == names
        assert len({group.site_id for group in groups}) == 50
        assert db.scalar(select(func.count()).select_from(Group)) == 50


def test_many_rows_are_inserted_at_once_in_the_order_they_were_given(database: Database) -> None:
    rows = [{"key": f"key {number}", "value": "" if number % 2 else "é\\\"'"} for number in range(50)]
    names = [{"name": f"Group {number}"} for number in range(50)]
    with database.sessions.begin() as db:
        assert identifiers.insert_many_with_site_ids(db, Group, SiteIdFormat("G", 2), [], common={}) == []
        made = identifiers.insert_many_with_site_ids(db, Group, SiteIdFormat("G", 2), names, common={})
        groups = [db.get_one(Group, row.id) for row in made]
        assert [group.name for group in groups] == [row["name"] for row in names]
        assert [(group.uuid, group.site_id) for group in groups] == [(row.uuid, row.site_id) for row in made]
        assert {row.entity_type for row in made} == {"Group"}
        insert_rows(db, AppSetting, rows)
        settings = db.scalars(select(AppSetting).order_by(AppSetting.id)).all()
        assert [{"key": setting.key, "value": setting.value} for setting in settings] == rows


def test_values_of_every_kind_are_sent(database: Database) -> None:
    number = uuid4()
    row = {"actor_uuid": number, "after": {"size": SentNumber("1.50"), "list": ["a", None, True]}, "before": None}
    with database.sessions.begin() as db:
        insert_rows(db, AuditEvent, [row], common={"event": "tested", "key_uuid": None})
        event = db.scalars(select(AuditEvent)).one()
        assert (event.event, event.actor_uuid, event.key_uuid, event.before) == ("tested", number, None, None)
        assert event.after == {"size": 1.5, "list": ["a", None, True]}
        rows = make_rows(DownloadToken, [{"token_hash": b"\x00\xff", "expires_at": datetime(2026, 1, 2, tzinfo=UTC)}])
        assert db.execute(select(rows)).one() == (b"\x00\xff", datetime(2026, 1, 2, tzinfo=UTC))
    with pytest.raises(TypeError):
        make_rows(AuditEvent, [{"event": object()}])


def test_ids_that_are_used_up_are_told_as_such(database: Database) -> None:
    with database.sessions.begin() as db:
        identifiers.insert_with_site_ids(db, Group, SiteIdFormat("G", 0), [{"name": "A"}])
        with pytest.raises(UnavailableError, match="No free G id") as refused:
            identifiers.insert_with_site_ids(db, Group, SiteIdFormat("G", 0), [{"name": "B"}])
    assert [problem.code for problem in refused.value.problems] == ["ids_used_up"]


def test_another_broken_constraint_is_not_mistaken_for_a_collision(database: Database) -> None:
    with database.sessions.begin() as db:
        identifiers.insert_with_site_ids(db, Group, SiteIdFormat("G", 8), [{"name": "A"}])
    with database.sessions() as db, pytest.raises(IntegrityError, match="uq_groups_name"):
        identifiers.insert_with_site_ids(db, Group, SiteIdFormat("G", 8), [{"name": "A"}])


def test_a_site_id_has_the_prefix_and_all_its_digits() -> None:
    drawn = {identifiers.draw_site_id(SiteIdFormat("X-", 4)) for _ in range(200)}
    assert all(len(site_id) == 6 and site_id.startswith("X-") and site_id[2:].isdecimal() for site_id in drawn)
    assert len(drawn) > 100


def test_an_identifier_has_a_site_only_where_the_thing_has_one() -> None:
    number = UUID("eb15fa40-af0a-46b7-a35f-0661851076fb")
    assert identifiers.to_identifier(Group(uuid=number, site_id="DMG-1")) == {"uuid": str(number), "site": "DMG-1"}
    assert identifiers.to_identifier(ApiKey(uuid=number)) == {"uuid": str(number)}
    assert identifiers.sent_identifier("DMG-1") == {"uuid": "DMG-1", "site": "DMG-1"}
