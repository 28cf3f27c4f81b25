"""What a portal that others reach refuses to start with: a portal for one machine may be as weak as it likes.

A portal is in production when its public address, or the address that it listens on, is not this machine alone.
Nobody has to remember to say so; the setting ``production`` says otherwise where that guess is wrong.
"""

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from sqlalchemy import make_url

from datameta.settings import Settings, SettingsError

FEWEST_CHARACTERS = 10
"""Random text of 32 characters has more different ones than this; what a person typed to fill them has not."""
LOWEST_COST = 10
WORDS = re.compile("change.?me|replace.?me|secret|password|passwort|example|default|insecure|qwert", re.IGNORECASE)
DEFAULTS = frozenset(
    [
        "datameta",
        "postgres",
        "postgresql",
        "admin",
        "root",
        "test",
        "guest",
        "user",
        "minioadmin",
        "1234",
        "12345678",
        "letmein",
    ]
)
WAY_OUT = "'datameta config check' shows all there is to mend; DATAMETA_PRODUCTION=no starts all the same."


def is_production(settings: Settings, host: str = "127.0.0.1") -> bool:
    """Say whether others reach the portal; ``host`` is the address that it listens on."""
    if settings.production != "auto":
        return settings.production == "yes"
    return not (is_local(urlsplit(settings.base_url).hostname or "") and is_local(host))


def is_local(host: str) -> bool:
    """Say whether a host name or address is of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def find_weaknesses(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield what production refuses: the name of the setting, and a sentence with the way out."""
    if is_local(urlsplit(settings.base_url).hostname or ""):
        yield (
            "base_url",
            "DATAMETA_BASE_URL is missing: set it to the address that others reach the portal by, such as "
            "https://data.example.org; every link is made from it.",
        )
    secrets = {"secret_key": settings.secret_key.split(","), "monitoring_token": [settings.monitoring_token]}
    for name, values in secrets.items():
        if any(is_weak(value.strip()) for value in values):
            yield (
                name,
                f"DATAMETA_{name.upper()} is weak: it has few different characters, or a word of an example. Make "
                "one with 'openssl rand -hex 32'.",
            )
    for name, address in (
        ("database_url", settings.database_url),
        ("database_replica_url", settings.database_replica_url),
    ):
        if has_default_password(address):
            yield (
                name,
                f"DATAMETA_{name.upper()} has a default password, which is the first that anybody tries. Give the "
                "database's user another.",
            )
    if is_word(settings.smtp_password):
        yield "smtp_password", "DATAMETA_SMTP_PASSWORD is a word of an example. Give the mail server's user another."
    if settings.bcrypt_cost < LOWEST_COST:
        yield (
            "bcrypt_cost",
            f"DATAMETA_BCRYPT_COST is {settings.bcrypt_cost}, with which passwords are guessed too fast: set it to "
            f"{LOWEST_COST} or more, or leave it out.",
        )


def has_default_password(address: str) -> bool:
    """Say whether a database's address, if there is one, has a password that comes with it, or is its user's name."""
    if not address:
        return False
    url = make_url(address)
    password = str(url.password or "")
    return bool(password) and (password.casefold() in DEFAULTS | {url.username, url.database} or is_word(password))


def is_weak(secret: str) -> bool:
    """Say whether a secret of 32 characters or more, if there is one, was not made at random."""
    return bool(secret) and (len(set(secret)) < FEWEST_CHARACTERS or WORDS.search(secret) is not None)


def is_word(password: str) -> bool:
    """Say whether a password is no more than a word of an example, with digits and signs around it at most."""
    return bool(password) and WORDS.fullmatch(password.strip("0123456789!?.-_#$")) is not None


def require_strength(settings: Settings, host: str = "127.0.0.1") -> None:
    """Raise ``SettingsError`` for a portal in production that is weak."""
    if is_production(settings, host):
        sentences = [sentence for _, sentence in find_weaknesses(settings)]
        if sentences:
            raise SettingsError(*sentences, WAY_OUT)
