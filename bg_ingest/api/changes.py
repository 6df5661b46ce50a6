"""Changes of a user after a given change number."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, TypeAlias

import msgspec
from litestar import Request, Response, Router, get
from litestar.params import HeaderParameter, QueryParameter

from bg_ingest.api import changes_examples as examples
from bg_ingest.api.dependencies import RouteOptions, Use, User
from bg_ingest.api.etags import CACHE_HEADERS, make_etag, not_modified
from bg_ingest.api.event_stream import EVENT_STREAM, stream_changes
from bg_ingest.api.formats import JSON, NDJSON, choose_format, encode_stream
from bg_ingest.api.openapi import USER_PROBLEMS, responses, with_views
from bg_ingest.api.problems import build_problem
from bg_ingest.api.streaming import StreamedResponse
from bg_ingest.domain.access import Scope
from bg_ingest.domain.commits import Head
from bg_ingest.domain.ids import UserId
from bg_ingest.services.queries.changes import ChangeQueries
from bg_ingest.services.queries.event_hub import EventHub

AnyRequest: TypeAlias = Request[Any, Any, Any]

MAX_EVENTS, DEFAULT_EVENTS = 1_000, 100
MAX_DIGITS = 12
LARGEST_NUMBER = 999_999_999_999

After: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="after",
        description="Number of the last change that the caller has; 0 by default. A stream without it starts at now.",
    ),
]
Limit: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="limit",
        description=f"Largest number of events, 1 to {MAX_EVENTS:,}. {DEFAULT_EVENTS} by default, all for NDJSON.",
    ),
]


LastEventId: TypeAlias = Annotated[
    str | None,
    HeaderParameter(name="Last-Event-ID", description="For a stream: `id` of the last event. It overrides `after`."),
]


class Changes(msgspec.Struct, frozen=True):
    """Contiguous events of a user, as published to the broker."""

    user_id: UserId
    events: list[msgspec.Raw]
    after: int
    """Cursor of the next request."""
    last: int
    """Number of the user's last change."""
    more: bool


@get(
    "/{user_id:str}/changes",
    summary="Changes after a number",
    operation_class=with_views({NDJSON.media_type: examples.EVENTS, EVENT_STREAM.media_type: examples.STREAM}),
    responses=responses(
        "Events; their numbers ascend by one.", Changes, examples.CHANGES, problems=(*USER_PROBLEMS, 406, 408, 410, 413)
    ),
)
async def changes(
    request: AnyRequest,
    user_id: User,
    change_queries: Use[ChangeQueries],
    event_hub: Use[EventHub],
    after: After = None,
    limit: Limit = None,
    last_event_id: LastEventId = None,
) -> Response[Any]:
    """No change is left out. 410, with the way to continue, if the changes after `after` are no longer kept.

    As `text/event-stream` the answer stays open. It starts after the number in `Last-Event-ID`. Without this header it
    starts after the number in `after`, and without both at now, with an event `snapshot`. A `snapshot` also replaces
    changes that are no longer kept; its `missed` has the first and last number of these changes. If the cursor is
    beyond the last change, the stream begins with a `snapshot` whose `missed` has all changes.
    """
    form = choose_format(request, (JSON, NDJSON, EVENT_STREAM))
    start, max_events = _parse_after(after), parse_limit(limit, DEFAULT_EVENTS)
    if form is EVENT_STREAM:
        resumed = _parse_event_id(last_event_id)
        cursor = start if resumed is None and after else resumed
        return stream_changes(request, event_hub, {user_id: cursor}, many=False)
    head = await change_queries.head(user_id)
    if start > head.last_change:
        detail = f"'after' is beyond this user's last change, {head.last_change}: send at most that."
        raise build_problem(400, "invalid-after", detail)
    headers = {**CACHE_HEADERS, "Vary": "Accept", "ETag": make_etag(request, form.media_type, head.last_change)}
    unchanged = not_modified(request, headers)
    if unchanged:
        return unchanged
    if form is NDJSON:
        until = min(head.last_change, start + max_events) if limit else head.last_change
        rows = _event_rows(change_queries, user_id, start, until, head)
        return StreamedResponse(encode_stream(rows, list, NDJSON), media_type=NDJSON.media_type, headers=headers)
    page = await change_queries.page(user_id, start, max_events, head)
    events = [msgspec.Raw(event.body) for event in page.events]
    return Response(Changes(user_id, events, page.after, page.last, page.more), headers=headers)


async def _event_rows(
    change_queries: ChangeQueries, user: UserId, after: int, until: int, head: Head
) -> AsyncGenerator[Sequence[Any]]:
    async with aclosing(change_queries.events(user, after, until, head)) as events:
        async for event in events:
            yield [msgspec.Raw(event.body)]
    yield [{"kind": "end", "after": until, "last": head.last_change, "more": until < head.last_change}]


def _parse_after(text: str | None) -> int:
    try:
        return _parse_number(text, default=0)
    except ValueError:
        detail = "'after' is no change number: send 'after' of the last answer, or 0."
        raise build_problem(400, "invalid-after", detail) from None


def _parse_event_id(text: str | None) -> int | None:
    """Return the number that a client sends when it reconnects.

    An unreadable number counts as one beyond the last change, because `EventSource` never reconnects after a 400.
    """
    try:
        return _parse_number(text, 0) if text else None
    except ValueError:
        return LARGEST_NUMBER


def parse_limit(text: str | None, default: int) -> int:
    """Return the limit of a request; 400 if it is no number from 1 to ``MAX_EVENTS``."""
    try:
        limit = _parse_number(text, default)
    except ValueError:
        limit = 0
    if not 1 <= limit <= MAX_EVENTS:
        raise build_problem(400, "invalid-limit", f"'limit' is no number from 1 to {MAX_EVENTS}: send such a number.")
    return limit


def _parse_number(text: str | None, default: int) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise ValueError(text)
    return int(text) if text else default


router = Router(
    "/api/bg",
    route_handlers=[changes],
    tags=["changes"],
    opt=RouteOptions(scope=Scope.READINGS_READ).opt(),
)
