"""docs/settings.md lists every setting there is."""

from dataclasses import fields

from datameta.settings import SECRETS, Settings
from tests.docs import check_document

INTRODUCTION = """\
# Settings

Made from the source by `make docs`; a test keeps it whole.

A setting `base_url` is `datameta.base_url` in the section `[app:main]` of an ini file (`--config portal.ini`;
[development.ini](../development.ini) is one), or `DATAMETA_BASE_URL` in the environment, which wins. Those marked ⚿ are
secrets, and may stand in a file of their own that `datameta.secret_key_file`, or `DATAMETA_SECRET_KEY_FILE`, names.
What a site admin changes while the portal runs is under *Administration › Settings* instead.

```sh
datameta config check --config portal.ini      # what is wrong, also with the database, the store, the mail server
datameta config show --config portal.ini       # every value, and where it is from; no secret
```

## In production

A portal that others reach, because `base_url` or the address that `datameta serve` listens on (`--host`) is not this
machine alone, refuses to start

- without `base_url`: links would lead nowhere;
- with a weak or default secret: `secret_key`, `monitoring_token`, `smtp_password`, or the password in `database_url`;
- with a `bcrypt_cost` below 10;
- on a store that does not keep its promises, unless `storage_check` says otherwise.

`production` set to `no` starts all the same, `yes` is as strict with a portal on one machine.

## All of them

| setting | default | |
| --- | --- | --- |
"""


def render_settings() -> str:
    """Return the document."""
    rows = []
    for setting in fields(Settings):
        default = f"`{setting.default}`" if str(setting.default) else ""
        mark = " ⚿" if setting.name in SECRETS else ""
        rows.append(f"| `{setting.name}`{mark} | {default} | {setting.metadata['doc']} |\n")
    return INTRODUCTION + "".join(rows)


def test_the_document_is_what_the_source_says() -> None:
    check_document("settings.md", render_settings())
