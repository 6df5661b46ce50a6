"""Entity tags: the same tag only where the same answer would be given."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

import msgspec
from litestar import Request, Response

from bg_ingest.api.headers import request_header
from bg_ingest.domain.commits import Head
from bg_ingest.domain.windows import Window

CACHE_HEADERS = {"Cache-Control": "private, no-cache"}
"""Health data stays out of shared caches; the caller's own asks us whether what it has still holds."""

SETTLED_AFTER = timedelta(seconds=5)
"""Ranges may lag a second behind the head: a tag made so soon after a change must not outlive the lag."""


def make_etag(request: Request[Any, Any, Any], *facts: object) -> str:
    """Return a weak tag of the query as sent and what its answer rests on."""
    query = (request.scope["path"], request.scope["query_string"])
    digest = blake2b(msgspec.json.encode((*query, *facts)), digest_size=16)
    return f'W/"{digest.hexdigest()}"'


def etag_facts(head: Head, window: Window, now: datetime, *, open_end: bool) -> Iterable[object]:
    """Return what a range with a given start rests on: all readings up to the head's last change.

    A window that ends now takes in readings dated ahead of us as time passes: then its end counts too.
    """
    yield head.last_change
    ahead = head.newest is not None and head.newest.reading.measured_at >= window.end
    yield window.end if open_end and ahead else None
    yield head.recorded_at is not None and now - head.recorded_at < SETTLED_AFTER


def if_none_match(request: Request[Any, Any, Any], tag: str) -> bool:
    """Tell whether If-None-Match names the tag (weakly compared) or anything at all."""
    header = request_header(request.scope, b"if-none-match")
    return header.strip() == "*" or tag.removeprefix("W/") in (
        each.strip().removeprefix("W/") for each in header.split(",")
    )


def not_modified(headers: dict[str, str]) -> Response[None]:
    """Answer 304: no body, the headers that a 200 would have had."""
    return Response(None, status_code=304, headers=headers)
