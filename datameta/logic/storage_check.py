"""What ``datameta storage check`` tries, for those who look after the site and have no shell."""

from collections.abc import Sequence

from datameta.authz import Actor, may_administer_site
from datameta.errors import ForbiddenError
from datameta.settings import Settings
from datameta.storage import Finding, open_storage


def check_storage(actor: Actor, settings: Settings) -> Sequence[Finding]:
    """Try every protection the portal relies on against the store.

    Raises ``ForbiddenError``.
    """
    if not may_administer_site(actor):
        raise ForbiddenError
    # Another one than that of this process, which goes on believing what was found at the start.
    return open_storage(settings).check()
