"""Operations that read from the replica, where the site has one (``datameta.replica``).

The rule this module guards: an operation that fails on the replica is done again on the database, and nobody notices.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

from pyramid.request import Request

from datameta import replica

OPERATIONS = frozenset(
    {
        # What was submitted: large, asked for often, and nothing is decided by it.
        "getMetaDataSets",
        "searchMetaDataSets",
        "exportMetaDataSets",
        "getMetaDataSetHistory",
        "getGroupSubmissions",
        "listSubmissions",
        "listSubmissionFiles",
        "getOverview",
        # The audit: only ever grows.
        "listAuditEvents",
        "listUserEvents",
    }
)
"""Who asks is always looked up in the database itself, and so is all that is staged or decides something."""


def read_replica(view: Callable[[Request], Any]) -> Callable[[Request], Any]:
    """Let a view that only reads use the replica; what it streams later, it reads there as well."""

    @wraps(view)
    def read(request: Request) -> Any:
        if request.replica is None:
            return view(request)
        database = request.database
        with request.replica.reading() as db:
            if db is not None:
                request.db, request.database = db, request.replica.copy
                try:
                    return view(request)
                except replica.FAILURES as error:
                    request.replica.rest(replica.describe(error))
                finally:
                    del request.db
                    request.database = database
        return view(request)

    return read
