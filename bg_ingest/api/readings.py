"""GET latest and range: what dashboards and ML pipelines read."""

from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeAlias

import msgspec
from litestar import Request, Response, Router, get
from litestar.params import QueryParameter

from bg_ingest.api.as_of import as_of, check_reached
from bg_ingest.api.auth import needs
from bg_ingest.api.deps import Use, User
from bg_ingest.api.documented import BASIC_READING, FULL_READING, LATEST_READING, answers, in_views, problems
from bg_ingest.api.edge import sent
from bg_ingest.api.errors import refusal
from bg_ingest.api.etags import CACHING, etag, holds, not_modified, rests_on
from bg_ingest.api.formats import JSON, NDJSON, Format, accepted, csv_of, pieces
from bg_ingest.api.schemas import BasicReading, LatestReading, basic, basic_of, latest_of, whole
from bg_ingest.api.streaming import Streamed
from bg_ingest.api.times import instant
from bg_ingest.domain.credentials import Scope
from bg_ingest.domain.events import FullReading
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.selection import Selection
from bg_ingest.domain.windows import Window
from bg_ingest.services.read import Reader, window_of

Asked: TypeAlias = Request[Any, Any, Any]


class View(msgspec.Struct, frozen=True):
    """How much of each reading is shown: how it is read, how it is presented, and in which formats."""

    batches: Callable[[Reader, UserId, Window, Selection], AsyncGenerator[Sequence[Any]]]
    present: Callable[[Sequence[Any]], Sequence[Any]]
    formats: tuple[Format, ...]


BASIC = View(Reader.glimpses, basic, (JSON, csv_of(BasicReading.__struct_fields__), NDJSON))
FULL = View(
    Reader.readings,
    whole,
    (JSON, csv_of(tuple(name for name in FullReading.__struct_fields__ if name != "previous_glucose_mg_dl")), NDJSON),
)
VIEWS = {"": BASIC, "basic": BASIC, "full": FULL}

ViewName: TypeAlias = Annotated[
    str | None,
    QueryParameter(name="view", description="`full` shows everything known of a reading, `basic` time and value."),
]
From: TypeAlias = Annotated[
    str | None,
    QueryParameter(name="from", description="RFC 3339 with an offset, or a date (UTC). 24 hours before `to`."),
]
To: TypeAlias = Annotated[
    str | None, QueryParameter(name="to", description="Likewise; the range does not include it. Now.")
]
AsOfTime: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="as_of",
        description="Answer what was known then: a time as `from` has it, at least a minute ago; `to` is then it, too.",
    ),
]
AsOfChange: TypeAlias = Annotated[
    str | None,
    QueryParameter(name="as_of_change", description="The same exactly: the number of the last change that counts."),
]
Devices: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="devices",
        description="`one` shows a sensor's reading once however many devices tell of it, `all` as often as they do.",
    ),
]


@get(
    "/{user_id:str}/latest",
    operation_id="latest",
    summary="The newest reading",
    operation_class=in_views({}),
    responses={
        200: answers(BasicReading | LatestReading, BASIC_READING, LATEST_READING, description="The newest reading."),
        **problems(400, 401, 404, 503),
    },
)
async def latest(
    request: Asked, user_id: User, reader: Use[Reader], view: ViewName = None
) -> Response[BasicReading | LatestReading] | Response[None]:
    """Consistent: it shows what was stored before it was asked. 304 on a matching If-None-Match."""
    full = _view(view) is FULL
    found = await reader.latest(user_id)
    fresh = found.freshness() if full else None
    shown = (fresh.condition, fresh.next_expected_at) if fresh else ()
    tag = etag(request, found.head.last_change, *shown)
    headers = {**CACHING, "ETag": tag}
    if holds(request, tag):
        return not_modified(headers)
    return Response(latest_of(found.newest, fresh) if fresh else basic_of(found.newest), headers=headers)


@get(
    "/{user_id:str}",
    operation_id="range",
    summary="The readings of a time range",
    operation_class=in_views(
        {
            "text/csv": "timestamp,glucose_mg_dl\r\n2025-04-26T14:30:00Z,110\r\n",
            "application/x-ndjson": '{"timestamp":"2025-04-26T14:30:00Z","glucose_mg_dl":110}\n',
        }
    ),
    responses={
        200: answers(
            list[BasicReading] | list[FullReading], [BASIC_READING], [FULL_READING], description="Ascending readings."
        ),
        **problems(400, 401, 404, 406, 503),
    },
)
async def readings(
    request: Asked,
    user_id: User,
    reader: Use[Reader],
    from_: From = None,
    to: To = None,
    view: ViewName = None,
    as_of_time: AsOfTime = None,
    as_of_change: AsOfChange = None,
    devices: Devices = None,
) -> Response[Any]:
    """Half-open, from ≤ timestamp < to; it may span years, and is streamed. 304 on a matching If-None-Match."""
    shown = _view(view)
    form = _format(request, shown)
    every_device = _every_device(devices)
    start, end = instant("from", from_), instant("to", to)
    point, now = as_of(as_of_time, as_of_change, reader.now())
    window = asked_window(start, end, now)
    head = await reader.head(user_id)
    check_reached(point, head)
    answer = pieces(shown.batches(reader, user_id, window, Selection(point, every_device)), shown.present, form)
    headers = {**CACHING, "Vary": "Accept"}
    if start is None and end is None:
        # Both ends move: readings drop out with nothing new stored. The day is small, its tag is of its content.
        body = b"".join([piece async for piece in answer])
        headers["ETag"] = tag = etag(request, form.media_type, body)
        return (
            not_modified(headers)
            if holds(request, tag)
            else Response(body, media_type=form.media_type, headers=headers)
        )
    lately = reader.now()
    headers["ETag"] = tag = etag(request, form.media_type, *rests_on(head, window, lately, open_end=end is None))
    if holds(request, tag):
        return not_modified(headers)
    return Streamed(answer, media_type=form.media_type, headers=headers)


def _view(name: str | None) -> View:
    try:
        return VIEWS[name or ""]
    except KeyError:
        raise refusal(400, "invalid-view", "There is no such view: ask view=full or view=basic.") from None


def _every_device(devices: str | None) -> bool:
    if devices not in {None, "", "one", "all"}:
        raise refusal(400, "invalid-devices", "'devices' is neither 'one' nor 'all': send one of these.")
    return devices == "all"


def _format(request: Asked, view: View) -> Format:
    form = accepted(sent(request.scope, b"accept") or "*/*", view.formats)
    if form is None:
        there_are = ", ".join(each.media_type.partition(";")[0] for each in view.formats)
        raise refusal(406, "not-acceptable", f"This route answers {there_are}: accept one of these.")
    return form


def asked_window(start: datetime | None, end: datetime | None, now: datetime) -> Window:
    """Return what is asked for, ends that were left open filled in; 400 when it would be empty."""
    try:
        return window_of(start, end, now)
    except ValueError:
        raise refusal(
            400, "invalid-range", "'from' must be before 'to' (which is now when absent, or 'as_of')."
        ) from None


router = Router("/api/bg", route_handlers=[latest, readings], tags=["readings"], opt=needs(Scope.READINGS_READ))
