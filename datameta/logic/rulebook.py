"""The rulebook as the database has it: fields, vocabularies and rules, read in a fixed number of queries.

Vocabularies are kept by the process. Each change gives them a version that never was before, so that what
is kept is right whatever commits, is rolled back, or is restored from a backup.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from datameta.logic.fields import Condition, Field, Kind, Operator, Rule, Rulebook, Term, Vocabulary
from datameta.models import MetaDatum, RecordRule, RuleCondition, VocabularyTerm

_kept: dict[int, tuple[UUID | None, Vocabulary]] = {}
"""The newest version of each vocabulary that was asked for, by its field."""


def load_rulebook(db: Session, *, lock: str | None = None) -> Rulebook:
    """Return all that records are checked by.

    ``lock="share"`` keeps it from changing until the transaction ends: a submission is judged by one set
    of rules. ``lock="update"`` is for who changes rules, and waits for whoever shares them.
    """
    rows = _select_fields(db, lock)
    vocabularies = _load_vocabularies(db, rows)
    fields = tuple(make_field(row, vocabularies.get(row.id, Vocabulary())) for row in rows)
    # What was read after the fields may name one that was added, or given to a service, in between.
    known = {field.id for field in fields if field.service_id is None}
    return Rulebook(fields, tuple(rule for rule in load_rules(db) if rule.field_ids <= known))


def list_fields(db: Session) -> list[Field]:
    """Return all fields by their order, without vocabularies: all that is needed to show records."""
    return [make_field(row) for row in _select_fields(db, None)]


def load_rules(db: Session) -> list[Rule]:
    """Return the rules in their order."""
    conditions: dict[int, dict[bool, list[Condition]]] = defaultdict(lambda: {True: [], False: []})
    query = (
        select(RecordRule.id, RecordRule.message, *RuleCondition.__table__.columns)
        .join(RuleCondition, RuleCondition.rule_id == RecordRule.id)
        .order_by(RecordRule.position, RuleCondition.position)
    )
    messages: dict[int, str] = {}
    for row in db.execute(query):
        messages[row.rule_id] = row.message
        condition = Condition(row.metadatum_id, Operator(row.operator), tuple(row.words), row.other_id)
        conditions[row.rule_id][row.is_demand].append(condition)
    return [
        Rule(message, tuple(conditions[number][True]), tuple(conditions[number][False]))
        for number, message in messages.items()
    ]


def make_field(row: Any, vocabulary: Vocabulary = Vocabulary()) -> Field:  # noqa: B008
    """Return a definition, a ``MetaDatum`` or a row of its table, as records are checked by it."""
    return Field(
        id=row.id,
        name=row.name,
        regex_description=row.regex_description or "",
        long_description=row.long_description or "",
        example=row.example or "",
        reg_exp=row.reg_exp or "",
        date_time_fmt=row.date_time_fmt or "",
        is_mandatory=row.is_mandatory,
        is_file=row.is_file,
        is_submission_unique=row.is_submission_unique,
        is_site_unique=row.is_site_unique,
        service_id=row.service_id,
        kind=Kind(row.kind),
        unit=row.unit or "",
        minimum=row.minimum,
        maximum=row.maximum,
        is_integer=row.is_integer,
        missing_terms=tuple(row.missing_terms),
        vocabulary=vocabulary,
    )


def _select_fields(db: Session, lock: str | None) -> list[Any]:
    query = select(*MetaDatum.__table__.columns)
    if lock is not None:
        # Locks are taken by id, like everywhere, so that nobody waits in a circle.
        query = query.order_by(MetaDatum.id).with_for_update(read=lock == "share")
    return sorted(db.execute(query), key=lambda row: (row.order, row.id))


def _load_vocabularies(db: Session, rows: Iterable[Any]) -> Mapping[int, Vocabulary]:
    """Return the vocabularies of those of the fields that have one."""
    wanted = {row.id: row.vocabulary_version for row in rows if row.kind == Kind.VOCABULARY}
    found = {
        number: kept[1] for number, version in wanted.items() if (kept := _kept.get(number)) and kept[0] == version
    }
    unknown = wanted.keys() - found.keys()
    if unknown:
        # With the version of this very moment: the one above may be gone by now.
        query = (
            select(MetaDatum.id, MetaDatum.vocabulary_version, VocabularyTerm.term, VocabularyTerm.synonyms)
            .join(VocabularyTerm, VocabularyTerm.metadatum_id == MetaDatum.id)
            .where(MetaDatum.id.in_(unknown))
            .order_by(MetaDatum.id, VocabularyTerm.position)
        )
        terms = defaultdict(list)
        for number, version, term, synonyms in db.execute(query):
            terms[number, version].append(Term(term, tuple(synonyms)))
        for (number, version), words in terms.items():
            found[number] = Vocabulary(tuple(words))
            _kept[number] = version, found[number]
    return found
