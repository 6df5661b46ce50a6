"""Entity tags: equal tags only for equal answers."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

import msgspec
from litestar import Request, Response

from bg_ingest.api.encoded import EncodedResponse
from bg_ingest.api.headers import request_header
from bg_ingest.domain.commits import Head
from bg_ingest.domain.windows import Window

CACHE_HEADERS = {"Cache-Control": "private, no-cache"}
"""Keeps health data out of shared caches; the caller's own cache revalidates each time."""

MAX_READ_LAG = timedelta(seconds=5)
"""Longest expected lag of an eventually consistent read of a range; the usual lag is below a second. An answer read
within this time after the last change may lack the change. Its tag therefore differs from the tags made for the same
head after this time."""


def make_etag(request: Request[Any, Any, Any], *facts: object) -> str:
    """Return a weak tag over path and query string as sent, and over the facts that determine their answer."""
    query = (request.scope["path"], request.scope["query_string"])
    digest = blake2b(msgspec.json.encode((*query, *facts)), digest_size=16)
    return f'W/"{digest.hexdigest()}"'


def etag_facts(head: Head, window: Window, now: datetime, *, open_end: bool) -> Iterable[object]:
    """Return the facts that determine the answer of a range with a fixed start.

    The head's last change determines the stored readings. With an open end and readings dated in the future, more of
    them enter the window as time passes, so the end is a fact too.
    """
    yield head.last_change
    ahead = head.newest is not None and head.newest.reading.measured_at >= window.end
    yield window.end if open_end and ahead else None
    yield head.recorded_at is not None and now - head.recorded_at < MAX_READ_LAG


def not_modified(request: Request[Any, Any, Any], headers: dict[str, str]) -> Response[None] | None:
    """Return a 304 with the headers of the 200 if If-None-Match is `*` or contains their ETag, weakly compared."""
    given = request_header(request.scope, b"if-none-match")
    if not given:
        return None
    tags = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    matches = given.strip() == "*" or headers["ETag"].removeprefix("W/") in tags
    return EncodedResponse(None, status_code=304, headers=headers) if matches else None
