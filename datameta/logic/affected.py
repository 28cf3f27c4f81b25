"""What a change of the rules does to staged sets: how many could not be submitted as they are."""

from collections.abc import Set

from sqlalchemy import select
from sqlalchemy.orm import Session

from datameta.logic import claims, records
from datameta.logic.conditions import check_rules
from datameta.logic.fields import Field, Rulebook
from datameta.models import SITE_SCOPE, MetaDataSet


def count_affected(db: Session, book: Rulebook, field_id: int | None = None) -> int:
    """Return how many staged sets one field, and the rules about it, keep from being submitted.

    Without ``field_id``, it is how many break a rule.
    """
    rules = tuple(rule for rule in book.rules if field_id is None or field_id in rule.field_ids)
    numbers = {number for rule in rules for number in rule.field_ids}
    changed = None if field_id is None else book.by_id[field_id]
    if changed is not None and changed.service_id is None:
        numbers.add(changed.id)
    if not numbers:
        return 0
    book = Rulebook(tuple(field for field in book.fields if field.id in numbers), rules)
    columns = [MetaDataSet.record[field.key].astext for field in book.fields]
    query = select(MetaDataSet.id, *columns).where(MetaDataSet.submission_id.is_(None))
    refused = 0
    passing = []
    for metadataset_id, *values in db.execute(query.execution_options(yield_per=1000)):
        stored = dict(zip(book.by_id, values, strict=True))
        texts = {field.id: records.show_value(field, stored[field.id]) for field in book.fields}
        faulty = {field.id for field in book.fields if records.find_faults(field, texts[field.id])}
        if field_id in faulty or check_rules(book, texts, faulty=faulty):
            refused += 1
        elif changed is not None and changed.is_site_unique and records.is_claimable(changed, stored[changed.id]):
            value = records.restore_value(changed, stored[changed.id])
            passing.append(claims.Claim(changed.id, SITE_SCOPE, value, metadataset_id))
    return refused + len(claims.find_taken(db, passing))


def count_newly_affected(db: Session, book: Rulebook, draft: Field, *, taken: Set[bytes]) -> int:
    """Return how many staged sets pass every field and rule today, and would not if a field were as ``draft``.

    ``taken`` are the hashes of the values of that field that no set may have.
    """
    if draft.service_id is not None:
        return 0
    today = Rulebook(tuple(book.fields_of(None)), book.rules)
    rules = tuple(rule for rule in book.rules if draft.id in rule.field_ids)
    bound = {number for rule in rules for number in rule.field_ids} - {draft.id}
    tried = Rulebook((draft, *(field for field in today.fields if field.id in bound)), rules)
    query = select(MetaDataSet.record).where(MetaDataSet.submission_id.is_(None))
    return sum(
        (_is_refused(tried, record) or _is_taken(draft, record, taken)) and not _is_refused(today, record)
        for record in db.scalars(query.execution_options(yield_per=1000))
    )


def _is_refused(book: Rulebook, record: records.StoredRecord) -> bool:
    texts = {field.id: records.show_value(field, record.get(field.key)) for field in book.fields}
    faulty = {field.id for field in book.fields if records.find_faults(field, texts[field.id])}
    return bool(faulty or check_rules(book, texts, faulty=faulty))


def _is_taken(field: Field, record: records.StoredRecord, taken: Set[bytes]) -> bool:
    value = record.get(field.key)
    if value is None or not records.is_claimable(field, value):
        return False
    return records.hash_value(records.restore_value(field, value)) in taken
