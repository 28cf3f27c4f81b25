"""A small site to try everything on: three groups, a user for each role, and a genome collection's fields."""

from dataclasses import asdict, dataclass
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from datameta.clock import utc_now
from datameta.credentials import make_password
from datameta.identifiers import insert_with_site_ids
from datameta.logic.fields import Kind
from datameta.logic.groups import find_or_add_group
from datameta.logic.keys import add_key
from datameta.logic.users import add_user, get_user_by_email
from datameta.models import MetaDatum, Service, ServiceUser, User, VocabularyTerm
from datameta.settings import Settings

GROUPS = ("Demo Office", "Demo Lab North", "Demo Lab South")
USERS = {
    "lab@demo.example": ("Lena Lab", "Demo Lab North", {}),
    "group.admin@demo.example": ("Greta Group", "Demo Lab North", {"group_admin": True}),
    "site.read@demo.example": ("Robin Read", "Demo Office", {"site_read": True}),
    "site.admin@demo.example": ("Alex Admin", "Demo Office", {"site_admin": True}),
    "other.lab@demo.example": ("Otis Other", "Demo Lab South", {}),
    "bot@demo.example": ("Analysis Bot", "Demo Office", {"site_read": True}),
}
SERVICE = "Genome analysis"
PLATFORM = "Sequencing platform"
ZIP_RULE = "The first three digits of the postal code."
PLATFORMS = {
    "Illumina": ["MiSeq", "NextSeq", "NovaSeq", "HiSeq"],
    "Oxford Nanopore": ["ONT", "Nanopore", "MinION", "GridION", "PromethION"],
    "PacBio": ["Pacific Biosciences", "Sequel", "Revio"],
    "Other": [],
}
"""The words of a vocabulary, and what else people call them."""


@dataclass(frozen=True)
class Demo:
    """What one needs to use the demo site: passwords by e-mail, the lab's key and the bot's."""

    passwords: dict[str, str]
    lab_key: str
    bot_key: str


def has_demo(db: Session) -> bool:
    """Say whether the demo site was added."""
    return get_user_by_email(db, next(iter(USERS))) is not None


def add_demo(db: Session, settings: Settings) -> Demo | None:
    """Add the demo site; None if it is there already."""
    if has_demo(db):
        return None
    groups = {name: find_or_add_group(db, name=name, site_id_format=settings.id_groups)[0] for name in GROUPS}
    passwords = {email: make_password() for email in USERS}
    users = {
        email: add_user(
            db, settings=settings, email=email, name=name, group=groups[group], password=passwords[email], **roles
        )
        for email, (name, group, roles) in USERS.items()
    }
    [service] = insert_with_site_ids(db, Service, settings.id_services, [{"name": SERVICE}])
    db.add(ServiceUser(service_id=service.id, user_id=users["bot@demo.example"].id))
    taken = set(db.scalars(select(MetaDatum.name)))
    fields = [metadatum for metadatum in _make_fields(service.id) if metadatum.name not in taken]
    db.add_all(fields)
    for metadatum in fields:
        if metadatum.name == PLATFORM:
            _add_vocabulary(db, metadatum)
    return Demo(
        passwords, _add_key(db, settings, users["lab@demo.example"]), _add_key(db, settings, users["bot@demo.example"])
    )


def to_dict(demo: Demo) -> dict[str, object]:
    """Return the demo's credentials as JSON can hold them."""
    return asdict(demo)


def _add_key(db: Session, settings: Settings, user: User) -> str:
    expires_at = utc_now() + timedelta(days=settings.api_key_max_days)
    return add_key(db, user_id=user.id, label="demo", expires_at=expires_at)[1]


def _add_vocabulary(db: Session, metadatum: MetaDatum) -> None:
    metadatum.kind = Kind.VOCABULARY.value
    db.flush()
    db.add_all(
        VocabularyTerm(metadatum_id=metadatum.id, position=position, term=term, synonyms=synonyms)
        for position, (term, synonyms) in enumerate(PLATFORMS.items())
    )


def _make_fields(service_id: int) -> list[MetaDatum]:
    return [
        _field("Lab-ID", 100, "The sample's id in the laboratory.", "S001", is_site_unique=True, is_mandatory=True),
        _field("Sampling date", 200, "The day the sample was taken.", "2026-03-14", date_time_fmt="%Y-%m-%d",
               is_mandatory=True),
        _field("ZIPCode", 300, "Where the sample was taken.", "720", reg_exp="[0-9]{3}", regex_description=ZIP_RULE,
               is_mandatory=True),
        _field(PLATFORM, 400, "The kind of sequencer.", "Illumina", is_mandatory=True),
        _field("FileR1", 500, "The name of the file with the forward reads.", "S001_R1.fastq", is_file=True,
               is_mandatory=True),
        _field("FileR2", 600, "The name of the file with the reverse reads.", "S001_R2.fastq", is_file=True),
        _field("Accession", 700, "The id in the public archive.", "ACC-S001", service_id=service_id),
        _field("Report", 800, "The report of the analysis.", "S001_report.txt", is_file=True, service_id=service_id),
    ]  # fmt: skip


def _field(
    name: str,
    order: int,
    long_description: str,
    example: str,
    *,
    reg_exp: str | None = None,
    regex_description: str | None = None,
    date_time_fmt: str | None = None,
    is_mandatory: bool = False,
    is_file: bool = False,
    is_site_unique: bool = False,
    service_id: int | None = None,
) -> MetaDatum:
    return MetaDatum(
        name=name,
        order=order,
        long_description=long_description,
        example=example,
        reg_exp=reg_exp,
        regex_description=regex_description,
        date_time_fmt=date_time_fmt,
        is_mandatory=is_mandatory,
        is_file=is_file,
        is_submission_unique=is_site_unique,
        is_site_unique=is_site_unique,
        service_id=service_id,
    )
