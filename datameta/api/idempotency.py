"""The header ``Idempotency-Key``: the view runs once for a key, and its answer is given again."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import orjson
from pyramid.request import Request

from datameta.api import View, wants_only_good
from datameta.logic import idempotency


def idempotent(operation: str) -> Callable[[View], View]:
    """Make a view of ``operation`` answer a repeated key with what it answered first."""

    def decorate(view: View) -> View:
        @wraps(view)
        def run(request: Request) -> Any:
            key = request.headers.get("Idempotency-Key")
            if key is None:
                return view(request)
            place = {"operation": operation, "key": key}
            # What is said beside the body is part of it; no JSON ends in a bare number, nor in this word.
            beside = request.headers.get("DataMeta-File-Size", "") + ("good" if wants_only_good(request) else "")
            body = request.body + beside.encode()
            former = idempotency.find_answer(request.db, request.actor, request.vault, **place, body=body)
            if former is not None:
                return orjson.loads(former)
            answer = view(request)
            idempotency.keep_answer(request.db, request.actor, request.vault, **place, answer=orjson.dumps(answer))
            return answer

        return run

    return decorate
