"""The portal's settings: read once, from an ini file and ``DATAMETA_*`` variables, and refused if wrong.

A setting ``datameta.base_url`` in the ini is ``DATAMETA_BASE_URL`` in the environment; the
environment wins. A secret may stand in a file of its own instead: ``DATAMETA_SECRET_KEY_FILE`` names it.
Wrong values stop the start with a sentence for each, which names the setting.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

from sqlalchemy import make_url


class SettingsError(ValueError):
    """Settings are wrong; each of the ``sentences`` names one and says what is expected."""

    def __init__(self, *sentences: str) -> None:
        super().__init__(" ".join(sentences))
        self.sentences = sentences


@dataclass(frozen=True)
class SiteIdFormat:
    """How site ids of one entity look: a prefix and a number of random digits."""

    prefix: str
    digits: int

    def __str__(self) -> str:
        return f"{self.prefix}:{self.digits}"


def _integer(low: int, high: int) -> Any:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError("a whole number") from None
        if not low <= number <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return number

    return parse


def _one_of(*words: str) -> Any:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError("one of " + ", ".join(repr(word) for word in words))
        return text

    return parse


def _matching(pattern: str, expected: str) -> Any:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(expected)
        return text

    return parse


def _boolean(text: str) -> bool:
    word = text.lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off"):
        return False
    raise ValueError("'true' or 'false'")


def _url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", text):
        raise ValueError("an address such as https://data.example.org")
    return text.rstrip("/")


def _optional_url(text: str) -> str:
    return _url(text) if text else ""


def _folder(text: str) -> Path:
    if not text:
        raise ValueError("a folder")
    return Path(text)


def _database_url(text: str) -> str:
    if not text:
        return ""
    if not re.match(r"postgres(ql)?(\+psycopg)?://", text):
        raise ValueError("an address such as postgresql://user:password@host/database; DataMeta needs PostgreSQL")
    url = re.sub(r"^postgres(ql)?(\+psycopg)?://", "postgresql+psycopg://", text)
    try:
        make_url(url)
    except ValueError:
        # The reason would quote a part of the password, where that holds an unescaped @ or colon.
        raise ValueError("an address whose user and password are percent-encoded") from None
    return url


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",")) if text else ()
    except ValueError:
        raise ValueError("addresses and networks, such as 10.0.0.7, 192.168.1.0/24") from None


def _secret_keys(text: str) -> str:
    if text and any(len(key.strip()) < 32 for key in text.split(",")):
        raise ValueError("32 characters or more (several keys are separated by commas)")
    return text


_host = _matching(
    r"[^\s/:@]*|[0-9a-fA-F]*(:[0-9a-fA-F]*){2,}", "a host such as mail.example.org; its port is a setting of its own"
)
_line = _matching(r"[^\x00-\x1f\x7f]*", "one line of text")


def _site_id(text: str) -> SiteIdFormat:
    match = re.fullmatch(r"([A-Za-z][A-Za-z0-9_-]{0,19}?):(\d{1,2})", text)
    if not match or not 4 <= int(match[2]) <= 18:
        raise ValueError("a prefix and 4 to 18 digits, such as DMU-:8")
    return SiteIdFormat(match[1], int(match[2]))


def _setting(default: Any, doc: str, parse: Any = str, *, secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"doc": doc, "parse": parse, "secret": secret})


@dataclass(frozen=True)
class Settings:
    """Everything an installation can choose. ``metadata["doc"]`` of each field is its documentation."""

    home: Path = _setting(Path("var"), "Folder of the embedded database and of local storage.", _folder)
    base_url: str = _setting("http://127.0.0.1:8080", "Public address of the portal; every link is made from it.", _url)
    production: str = _setting(
        "auto",
        "Refuse to start with what is unsafe where others reach the portal: 'yes', 'no', or 'auto': if base_url, or "
        "the address that 'datameta serve' listens on, is not this machine alone.",
        _one_of("auto", "yes", "no"),
    )
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = _setting(
        (),
        "Addresses and networks of the proxies before the portal, separated by commas: from them, and nobody else, "
        "X-Forwarded-For and X-Forwarded-Proto are believed.",
        _networks,
    )
    database_url: str = _setting(
        "",
        "PostgreSQL address. Empty: the portal runs its own PostgreSQL in HOME/postgres.",
        _database_url,
        secret=True,
    )
    database_pool: int = _setting(10, "Database connections each process keeps.", _integer(1, 200))
    database_replica_url: str = _setting(
        "",
        "A streaming replica of the database, which lists, searches and exports of submitted data are read from. "
        "Empty: everything is read from database_url.",
        _database_url,
        secret=True,
    )
    database_replica_wait_ms: int = _setting(
        100,
        "Milliseconds a read waits for the replica to have all that was committed before; then it asks the database "
        "itself.",
        _integer(0, 10_000),
    )
    storage: str = _setting("local", "Where bytes are kept: 'local' (HOME/storage) or 's3'.", _one_of("local", "s3"))
    upload_mode: str = _setting(
        "auto",
        "'presigned' (clients send to the store), 'gateway' (through the portal), 'auto' (presigned with s3).",
        _one_of("auto", "presigned", "gateway"),
    )
    upload_hours: int = _setting(20, "Hours an announced upload stays open.", _integer(1, 168))
    upload_session_days: int = _setting(7, "Days an upload in parts stays open.", _integer(1, 30))
    upload_max_bytes: int = _setting(
        5 * 1024**3, "Largest file in bytes that is sent in one piece.", _integer(1, 5 * 1024**3)
    )
    verification_jobs: int = _setting(2, "Contents that each worker verifies at the same time.", _integer(1, 64))
    verification_wait_seconds: int = _setting(
        30, "Seconds a confirmation waits for the verification of a large file before it answers 409.", _integer(0, 300)
    )
    storage_check: str = _setting(
        "refuse",
        "When the store does not keep a promise at the start: 'refuse' to start, 'warn', or 'off': do not look.",
        _one_of("refuse", "warn", "off"),
    )
    orphan_days: int = _setting(
        35,
        "Days that content in the store is kept once its file was deleted, and of which the database knows no file: "
        "as old as a backup of the database may be that you restore.",
        _integer(2, 3650),
    )
    body_max_bytes: int = _setting(16 * 1024**2, "Largest JSON request in bytes.", _integer(1024, 1024**3))
    sheet_max_bytes: int = _setting(64 * 1024**2, "Largest sample sheet in bytes.", _integer(1024, 1024**3))
    sheet_jobs: int = _setting(
        2, "Sample sheets that each process reads at the same time, each in up to 1 GiB of memory.", _integer(1, 64)
    )
    s3_endpoint: str = _setting("", "S3 address as the portal reaches it. Empty: AWS.", _optional_url)
    s3_public_endpoint: str = _setting(
        "", "S3 address as clients reach it. Empty: the same as s3_endpoint.", _optional_url
    )
    s3_region: str = _setting("us-east-1", "S3 region.", _matching(r"\S{1,64}", "one word, such as eu-central-1"))
    s3_bucket: str = _setting(
        "", "S3 bucket; it must exist.", _matching(r"[^\s/]{0,255}", "the name of a bucket alone")
    )
    s3_path_style: bool = _setting(
        True, "Address the bucket in the path (most own stores) or in the host name (AWS).", _boolean
    )
    api_key_max_days: int = _setting(365, "Longest life of an API key, in days.", _integer(1, 3650))
    bcrypt_cost: int = _setting(12, "Cost of a password hash; each step doubles the time.", _integer(4, 16))
    secret_key: str = _setting(
        "",
        "Key by which stored secrets are encrypted, 32 characters or more; several, newest first, separated by commas. "
        "Empty: the portal makes one in HOME/secret.key. Processes on several machines need the same.",
        _secret_keys,
        secret=True,
    )
    smtp_host: str = _setting("", "Mail server. Empty: mails are written as files into HOME/mail.", _host)
    smtp_port: int = _setting(587, "Port of the mail server.", _integer(1, 65535))
    smtp_user: str = _setting("", "User at the mail server. Empty: none is needed.", _line)
    smtp_password: str = _setting("", "Password at the mail server.", _line, secret=True)
    smtp_tls: str = _setting(
        "starttls",
        "How the way to the mail server is protected: 'starttls', 'tls' (from the first byte), or 'none'.",
        _one_of("none", "starttls", "tls"),
    )
    smtp_timeout: int = _setting(10, "Seconds to wait for the mail server.", _integer(1, 300))
    monitoring_token: str = _setting(
        "",
        "Token, of 32 characters or more, with which Prometheus fetches /metrics. Empty: there is none.",
        _matching(r"|[!-~]{32,}", "32 characters or more, without spaces"),
        secret=True,
    )
    log_level: str = _setting(
        "info", "From which level on events are logged.", _one_of("debug", "info", "warning", "error")
    )
    log_format: str = _setting(
        "auto",
        "How 'datameta serve' and 'worker' log: 'json', 'plain', or 'auto': plain in a terminal, else JSON.",
        _one_of("auto", "json", "plain"),
    )
    slow_query_ms: int = _setting(
        500,
        "Milliseconds from which on a statement to the database is logged as slow. 0: none is.",
        _integer(0, 600_000),
    )
    id_users: SiteIdFormat = _setting(SiteIdFormat("DMU-", 8), "Site ids of users, as PREFIX:DIGITS.", _site_id)
    id_groups: SiteIdFormat = _setting(SiteIdFormat("DMG-", 8), "Site ids of groups.", _site_id)
    id_submissions: SiteIdFormat = _setting(SiteIdFormat("DMS-", 8), "Site ids of submissions.", _site_id)
    id_metadatasets: SiteIdFormat = _setting(SiteIdFormat("DMR-", 8), "Site ids of metadatasets.", _site_id)
    id_files: SiteIdFormat = _setting(SiteIdFormat("DMF-", 8), "Site ids of files.", _site_id)
    id_services: SiteIdFormat = _setting(SiteIdFormat("DMP-", 8), "Site ids of services.", _site_id)

    @property
    def upload_is_direct(self) -> bool:
        """Say whether clients send bytes straight to the store."""
        return self.upload_mode == "presigned" or (self.upload_mode == "auto" and self.storage == "s3")


SECRETS = frozenset(setting.name for setting in fields(Settings) if setting.metadata["secret"])
"""The settings that may stand in a file of their own."""


def read_settings(ini: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from an ini section and the environment.

    Raises ``SettingsError``, with a sentence for each value that does not parse, each unknown ``datameta.*`` key and
    each contradiction. Unknown ``DATAMETA_*`` variables are left alone: the published client uses some of its own.
    """
    ini = ini or {}
    environ = os.environ if environ is None else environ
    known = {setting.name: setting for setting in fields(Settings)}
    in_ini = _strip_prefix(ini)
    allowed = known.keys() | {f"{name}_file" for name in SECRETS}
    problems = [
        f"There is no setting 'datameta.{name}'. The settings are: {', '.join(known)}."
        for name in in_ini
        if name not in allowed
    ]
    values: dict[str, Any] = {}
    for name, setting in known.items():
        try:
            found = _find_text(name, in_ini, environ)
            if found is not None:
                source, text = found
                values[name] = _parse(setting, source, text.strip())
        except SettingsError as error:
            problems += error.sentences
    if problems:
        raise SettingsError(*problems)
    settings = Settings(**values)
    contradictions = list(_contradictions(settings))
    if contradictions:
        raise SettingsError(*contradictions)
    return settings


def list_given(ini: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the names of the settings that are given, each with where it is; the values may be wrong."""
    in_ini = _strip_prefix(ini)
    sources = {setting.name: _list_sources(setting.name, in_ini, environ) for setting in fields(Settings)}
    return {name: found[0][0] for name, found in sources.items() if found}


def _strip_prefix(ini: Mapping[str, str]) -> dict[str, str]:
    """Return what an ini section says of the portal, by the names of settings."""
    return {key.removeprefix("datameta."): text for key, text in ini.items() if key.startswith("datameta.")}


def _list_sources(name: str, in_ini: Mapping[str, str], environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return where a setting is given in the place that counts: one source, or both the value and its file."""
    endings = ("", "_file") if name in SECRETS else ("",)
    variables = [f"DATAMETA_{name.upper()}{ending.upper()}" for ending in endings]
    sources = [(variable, environ[variable]) for variable in variables if variable in environ]
    return sources or [(f"datameta.{name}{end}", in_ini[f"{name}{end}"]) for end in endings if f"{name}{end}" in in_ini]


def _find_text(name: str, in_ini: Mapping[str, str], environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Return where a setting is given and what it says, or None; raises ``SettingsError``."""
    sources = _list_sources(name, in_ini, environ)
    if len(sources) > 1:
        raise SettingsError(f"{sources[0][0]} and {sources[1][0]} say the same thing twice: give one of them.")
    if not sources or not sources[0][0].lower().endswith("_file"):
        return sources[0] if sources else None
    [(source, place)] = sources
    try:
        text = Path(place.strip()).read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise SettingsError(
            f"{source} must be a file with the secret in it; {place!r} can't be read: {reason}."
        ) from None
    if not text.strip():
        raise SettingsError(f"{source} must be a file with the secret in it; {place!r} is empty.")
    return source, text


def _parse(setting: Any, source: str, text: str) -> Any:
    try:
        return setting.metadata["parse"](text)
    except ValueError as error:
        shown = "" if setting.metadata["secret"] else f", not {text!r}"
        raise SettingsError(f"{source} must be {error}{shown}.") from None


def _contradictions(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each pair of settings that do not go together."""
    if settings.storage == "s3" and not settings.s3_bucket:
        yield "datameta.s3_bucket is missing: storage 's3' needs the name of a bucket."
    if settings.storage == "local" and settings.upload_mode == "presigned":
        yield "datameta.upload_mode 'presigned' needs storage 's3'; local storage is 'gateway'."
    if settings.database_replica_url and not settings.database_url:
        yield "datameta.database_replica_url needs datameta.database_url: what it is a replica of."
    if bool(settings.smtp_user) != bool(settings.smtp_password):
        yield "datameta.smtp_user and datameta.smtp_password belong together: give both or neither."
    if settings.smtp_user and settings.smtp_tls == "none":
        yield "datameta.smtp_tls 'none' would show the password: it needs 'starttls' or 'tls'."
