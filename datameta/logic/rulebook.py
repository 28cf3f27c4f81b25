"""The rulebook as the database has it: fields, vocabularies and rules.

It is kept by the process under its version, which the database changes with whatever the rulebook is made of
and which never was before: so what is kept is right whatever commits, is rolled back, or is restored from a backup.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from datameta.database import Database, Prepared
from datameta.logic.fields import Condition, Field, Kind, Operator, Rule, Rulebook, Term, Vocabulary
from datameta.models import MetaDatum, RecordRule, RulebookVersion, RuleCondition, VocabularyTerm

Made = TypeVar("Made")

_VERSION = Prepared(select(RulebookVersion.version))


class KeptByVersion(Generic[Made]):
    """What is made of the rulebook, kept until that changes."""

    def __init__(self) -> None:
        self._kept: tuple[UUID, Made] | None = None

    def find(self, database: Database) -> Made | None:
        """Return what was made before, if that is right now; it needs no transaction."""
        kept = self._kept
        return kept[1] if kept is not None and [(kept[0],)] == database.read(_VERSION) else None

    def get(self, db: Session, make: Callable[[], Made]) -> Made:
        """Return what ``make`` makes, or made before."""
        version = _read_version(db)
        kept = self._kept
        if kept is not None and kept[0] == version:
            return kept[1]
        made = make()
        # Somebody may have changed it while it was read.
        if version is not None and version == _read_version(db):
            self._kept = version, made
        return made


_books: KeptByVersion[Rulebook] = KeptByVersion()


def load_rulebook(db: Session, *, lock: str | None = None) -> Rulebook:
    """Return all that records are checked by.

    ``lock="share"`` keeps it from changing until the transaction ends: a submission is judged by one set
    of rules. ``lock="update"`` is for who changes rules, and waits for whoever shares them.
    """
    if lock is not None:
        # Locks are taken by id, like everywhere, so that nobody waits in a circle.
        db.execute(select(MetaDatum.id).order_by(MetaDatum.id).with_for_update(read=lock == "share"))
    return _books.get(db, lambda: read_rulebook(db))


def list_fields(db: Session) -> tuple[Field, ...]:
    """Return all fields by their order."""
    return load_rulebook(db).fields


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


def _read_version(db: Session) -> UUID | None:
    # A change of this transaction's own counts.
    db.flush()
    row = _VERSION.first(db.connection())
    return None if row is None else row.version


def read_rulebook(db: Session) -> Rulebook:
    """Return the rulebook as it is read anew, whatever is kept."""
    rows = db.execute(select(*MetaDatum.__table__.columns).order_by(MetaDatum.order, MetaDatum.id)).all()
    words = defaultdict(list)
    for term in db.scalars(select(VocabularyTerm).order_by(VocabularyTerm.metadatum_id, VocabularyTerm.position)):
        words[term.metadatum_id].append(Term(term.term, tuple(term.synonyms)))
    vocabularies = {row.id: Vocabulary(tuple(words[row.id])) for row in rows if row.kind == Kind.VOCABULARY}
    fields = tuple(make_field(row, vocabularies.get(row.id, Vocabulary())) for row in rows)
    # What was read after the fields may name one that was added, or given to a service, in between.
    known = {field.id for field in fields if field.service_id is None}
    return Rulebook(fields, tuple(rule for rule in load_rules(db) if rule.field_ids <= known))
