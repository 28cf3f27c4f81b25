"""Uniqueness, decided by the primary key of one table and by nothing that was read before.

A claim is inserted in the submitting transaction. Of any number of transactions that claim a value,
the index lets exactly one through; the others wait for it and then find their claim refused. Claims
are inserted in one order everywhere, so no two transactions wait for each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import Row, Select, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from datameta.batches import make_rows
from datameta.logic.fields import Field
from datameta.logic.records import hash_value, is_claimable, restore_value
from datameta.models import MetaDataSet, ServiceExecution, UniqueClaim


@dataclass(frozen=True)
class Claim:
    """One value that one set wants to be alone with, in the site or in a submission (``scope``)."""

    metadatum_id: int
    scope: int
    value: str
    metadataset_id: int

    @cached_property
    def key(self) -> tuple[int, int, bytes]:
        """The primary key of the claim."""
        return self.metadatum_id, self.scope, hash_value(self.value)


def insert_claims(db: Session, wanted: Sequence[Claim]) -> list[Claim]:
    """Insert claims in one statement; return those that were refused because the value is taken.

    The same value twice in ``wanted`` counts as taken by the first.
    """
    if not wanted:
        return []
    ordered = sorted(wanted, key=lambda claim: claim.key)
    rows = _make_rows(ordered)
    columns = (UniqueClaim.metadatum_id, UniqueClaim.scope, UniqueClaim.value_hash, UniqueClaim.metadataset_id)
    statement = (
        insert(UniqueClaim)
        .from_select(columns, select(rows).order_by(rows.c.metadatum_id, rows.c.scope, rows.c.value_hash))
        .on_conflict_do_nothing()
        .returning(UniqueClaim.metadatum_id, UniqueClaim.scope, UniqueClaim.value_hash)
    )
    granted = {tuple(row) for row in db.execute(statement)}
    refused = []
    for claim in ordered:
        if claim.key in granted:
            granted.discard(claim.key)
        else:
            refused.append(claim)
    return refused


def find_taken(db: Session, wanted: Sequence[Claim]) -> list[Claim]:
    """Return which claims would be refused as things stand: a forecast, not a guarantee."""
    if not wanted:
        return []
    rows = _make_rows(wanted)
    statement = select(UniqueClaim.metadatum_id, UniqueClaim.scope, UniqueClaim.value_hash).join(
        rows,
        (UniqueClaim.metadatum_id == rows.c.metadatum_id)
        & (UniqueClaim.scope == rows.c.scope)
        & (UniqueClaim.value_hash == rows.c.value_hash),
    )
    taken = {tuple(row) for row in db.execute(statement)}
    return [claim for claim in wanted if claim.key in taken]


def select_submitted_values(field: Field) -> Select[*tuple[Any, ...]]:
    """Return the query for every submitted set (id, uuid, site_id) that holds a value of this field, and the value."""
    source = ServiceExecution.record if field.service_id else MetaDataSet.record
    value = source[field.key].astext.label("value")
    query = select(MetaDataSet.id, MetaDataSet.uuid, MetaDataSet.site_id, value).where(
        MetaDataSet.submission_id.is_not(None), value.is_not(None)
    )
    if field.service_id:
        # A field that came from another service left values behind that nobody sees any more.
        query = query.join(ServiceExecution, ServiceExecution.metadataset_id == MetaDataSet.id).where(
            ServiceExecution.service_id == field.service_id
        )
    return query


def list_submitted_values(db: Session, field: Field) -> list[tuple[Row[Any], str]]:
    """Return every submitted set (id, uuid, site_id) that holds a claimable value of this field, and the value.

    The value is as today's definition stores it, as it is in a new submission.
    """
    rows = db.execute(select_submitted_values(field).order_by(MetaDataSet.id))
    return [(row, restore_value(field, row.value)) for row in rows if is_claimable(field, row.value)]


def _make_rows(claims: Sequence[Claim]) -> Any:
    """Return the claims as a table expression."""
    names = ("metadatum_id", "scope", "value_hash")
    rows = [dict(zip(names, claim.key, strict=True), metadataset_id=claim.metadataset_id) for claim in claims]
    return make_rows(UniqueClaim, rows)
