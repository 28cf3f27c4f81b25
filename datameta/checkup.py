"""``datameta config check``: what the settings are, what is wrong with them, and how to mend it.

Nothing is changed or made, but for what the check of a store leaves there for a moment. One thing that is wrong
hides no other.
"""

import difflib
import os
import smtplib
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from datameta import migrations
from datameta.jobs.delivery import open_server
from datameta.production import find_weaknesses, is_production
from datameta.settings import SECRETS, Settings, SettingsError, list_given, read_settings
from datameta.storage import Finding, StorageError, open_storage
from datameta.vault import open_vault

NOT_SETTINGS = frozenset(["DATAMETA_URL", "DATAMETA_TOKEN"])
"""What the client reads."""
OLDEST_POSTGRES = 14


def check_site(
    ini: Mapping[str, str], environ: Mapping[str, str], *, home: Path | None, host: str
) -> Iterator[Finding]:
    """Yield what is found, the most basic first; ``home`` and ``host`` are those of the command line."""
    yield from find_unknown(environ)
    try:
        settings = read_settings(ini, environ)
    except SettingsError as error:
        for sentence in error.sentences:
            yield Finding("settings", False, sentence)
        return
    if home is not None:
        settings = replace(settings, home=home)
    given = list_given(ini, environ)
    yield Finding("settings", True, f"{len(given)} are given, {len(fields(Settings)) - len(given)} have their default")
    yield from check_strength(settings, host)
    yield from check_home(settings)
    yield from check_database(settings)
    yield from check_store(settings)
    yield from check_mail(settings)


def show_settings(settings: Settings, given: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each setting: name, value, and where it is from; of a secret, whether there is one."""
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        if setting.name in SECRETS:
            value = "(secret)" if value else ""
        yield f"{setting.name} = {value}".rstrip() + f"  # {given.get(setting.name, 'default')}"


def find_unknown(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Yield the variables that look like settings and are none: most are misspelt."""
    names = [setting.name for setting in fields(Settings)]
    known = {f"DATAMETA_{name.upper()}" for name in [*names, *(f"{name}_file" for name in SECRETS)]}
    for variable in sorted(environ):
        if variable.startswith("DATAMETA_") and variable not in known | NOT_SETTINGS:
            similar = difflib.get_close_matches(variable, known, 1)
            hint = f" Do you mean {similar[0]}?" if similar else " Remove it."
            yield Finding("settings", None, f"There is no setting {variable}, so it has no effect.{hint}")


def check_strength(settings: Settings, host: str) -> Iterator[Finding]:
    """Yield what production refuses, and what it should look at."""
    if not is_production(settings, host):
        yield Finding("production", None, "no: the portal is for this machine alone, and may have weak settings")
        return
    weaknesses = [Finding(name, False, sentence) for name, sentence in find_weaknesses(settings)]
    yield from weaknesses
    if not weaknesses:
        yield Finding("production", True, "yes: nothing is weak or missing")
    if not settings.base_url.startswith("https:") and "base_url" not in [finding.name for finding in weaknesses]:
        yield Finding("base_url", None, "It is not https: passwords and keys are sent for all on the way to read.")
    if settings.storage_check != "refuse":
        yield Finding(
            "storage_check", None, f"It is {settings.storage_check!r}: an unsafe store does not stop the start."
        )
    if not settings.secret_key:
        yield Finding(
            "secret_key",
            None,
            f"It is the one in {settings.home / 'secret.key'}: keep a copy of it apart from the database's backup, and "
            "give it to each machine.",
        )
    if not settings.smtp_host:
        yield Finding("smtp_host", None, "There is none: mails are files, and nobody can set a forgotten password.")


def check_home(settings: Settings) -> Iterator[Finding]:
    """Yield whether the data folder can be used, and the key in it."""
    place = settings.home
    while not place.exists() and place != place.parent:
        place = place.parent
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        yield Finding(
            "home", False, f"{settings.home} can't be written to. Give it to the portal's user, or set another."
        )
    elif place != settings.home:
        yield Finding("home", None, f"{settings.home} is not there yet; the first start makes it.")
    else:
        yield Finding("home", True, f"{settings.home}")
        if settings.secret_key or (settings.home / "secret.key").exists():
            try:
                open_vault(settings)
            except (OSError, SettingsError) as error:
                yield Finding("secret_key", False, f"It can't be used: {error}.")


def check_database(settings: Settings) -> Iterator[Finding]:
    """Yield whether the database answers, and has the schema of this version."""
    if not settings.database_url:
        yield Finding("database_url", None, f"There is none: the portal runs its own in {settings.home / 'postgres'}.")
        return
    engine = create_engine(settings.database_url, poolclass=NullPool, connect_args={"connect_timeout": 5})
    try:
        with engine.connect() as connection:
            version = connection.scalar(text("SHOW server_version"))
    except OperationalError as error:
        reason = " ".join(str(error.orig).split())
        yield Finding(
            "database_url", False, f"The database does not answer: {reason}. Is it running, is the address right?"
        )
        return
    number = int(str(version).split(".", maxsplit=1)[0])
    enough = number >= OLDEST_POSTGRES
    yield Finding(
        "database_url", enough, f"PostgreSQL {version}" + ("" if enough else f"; {OLDEST_POSTGRES} is needed")
    )
    try:
        migrations.require_current(settings.database_url)
        yield Finding("migrations", True, f"the schema is {migrations.head()}, as this version needs it")
    except migrations.SchemaError as error:
        yield Finding("migrations", False, str(error))


def check_store(settings: Settings) -> Iterator[Finding]:
    """Yield which promises the store breaks, or that it keeps them."""
    if settings.storage == "local" and not settings.home.exists():
        return
    try:
        findings = open_storage(settings).check()
    except (StorageError, OSError) as error:
        yield Finding("storage", False, f"The store can't be tried: {error}.")
        return
    broken = [finding for finding in findings if finding.ok is False]
    for finding in broken:
        yield Finding("storage", False, f"{finding.name}: {finding.detail}. docs/storage.md has what it needs.")
    if not broken:
        kept = sum(finding.ok is True for finding in findings)
        yield Finding("storage", True, f"{settings.storage}: it keeps all {kept} promises")


def check_mail(settings: Settings) -> Iterator[Finding]:
    """Yield whether the mail server takes the portal's login; no mail is sent."""
    if not settings.smtp_host:
        return
    try:
        with open_server(settings):
            yield Finding("smtp_host", True, f"{settings.smtp_host} answers")
    except (OSError, smtplib.SMTPException) as error:
        detail = f"The mail server does not take the portal: {type(error).__name__}: {error}."
        yield Finding(
            "smtp_host", False, f"{detail} Look at smtp_host, smtp_port, smtp_tls, smtp_user and smtp_password."
        )
