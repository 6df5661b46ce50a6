"""Readings for dashboards and ML pipelines: latest and range."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, TypeAlias

import msgspec
from litestar import Request, Response, Router, get

from bg_ingest.api import query
from bg_ingest.api.dependencies import RouteOptions, Use, User
from bg_ingest.api.etags import CACHE_HEADERS, etag_facts, make_etag, not_modified
from bg_ingest.api.formats import JSON, NDJSON, Format, csv_format, encode_stream, negotiate
from bg_ingest.api.headers import request_header
from bg_ingest.api.openapi import (
    BASIC_READING,
    FULL_READING,
    LATEST_READING,
    READING_VERSION,
    USER_PROBLEMS,
    responses,
    with_views,
)
from bg_ingest.api.problems import build_problem
from bg_ingest.api.schemas import (
    BasicReading,
    LatestReading,
    VersionedReading,
    to_basic,
    to_basic_one,
    to_full,
    to_latest,
    to_versions,
)
from bg_ingest.api.streaming import StreamedResponse
from bg_ingest.domain.access import Scope
from bg_ingest.domain.cloud_events import FullReading
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.reading_filter import ReadingFilter
from bg_ingest.domain.windows import Window
from bg_ingest.services.queries.readings import ReadingQueries

AnyRequest: TypeAlias = Request[Any, Any, Any]


class View(msgspec.Struct, frozen=True):
    """Shape of the readings in an answer: their source, their public form, and the available formats."""

    batches: Callable[[ReadingQueries, UserId, Window, ReadingFilter], AsyncGenerator[Sequence[Any]]]
    present: Callable[[Sequence[Any]], Sequence[Any]]
    formats: tuple[Format, ...]


BASIC = View(ReadingQueries.points, to_basic, (JSON, csv_format(BasicReading.__struct_fields__), NDJSON))
_FULL_COLUMNS = tuple(name for name in FullReading.__struct_fields__ if name != "previous_glucose_mg_dl")
FULL = View(ReadingQueries.readings, to_full, (JSON, csv_format(_FULL_COLUMNS), NDJSON))
_VERSION_COLUMNS = (*_FULL_COLUMNS, "superseded_at", "superseded_by")
VERSIONS = View(ReadingQueries.versions, to_versions, (JSON, csv_format(_VERSION_COLUMNS), NDJSON))


@get(
    "/{user_id:str}/latest",
    summary="The newest reading",
    operation_class=with_views({}),
    responses=responses(
        "The newest reading.", LatestReading | BasicReading, BASIC_READING, LATEST_READING, problems=USER_PROBLEMS
    ),
)
async def latest(
    request: AnyRequest, user_id: User, reader: Use[ReadingQueries], view: query.ViewName = None
) -> Response[BasicReading | LatestReading] | Response[None]:
    """Consistent: includes every reading stored before the request. 304 on a matching If-None-Match."""
    full = query.is_full_view(view)
    latest_reading = await reader.latest(user_id)
    freshness = latest_reading.freshness() if full else None
    facts: list[object] = [freshness.state, freshness.next_expected_at] if freshness else []
    newest = latest_reading.newest
    if newest != latest_reading.head.newest:  # until the time of a reading in the future, without a further change
        facts.append(newest.reading.measured_at)
    headers = {**CACHE_HEADERS, "ETag": make_etag(request, latest_reading.head.last_change, *facts)}
    return not_modified(request, headers) or Response(
        to_latest(newest, freshness) if freshness else to_basic_one(newest), headers=headers
    )


@get(
    "/{user_id:str}",
    operation_id="range",
    summary="The readings of a time range",
    operation_class=with_views(
        {
            "text/csv": "timestamp,glucose_mg_dl\r\n2025-04-26T14:30:00Z,110\r\n",
            "application/x-ndjson": '{"timestamp":"2025-04-26T14:30:00Z","glucose_mg_dl":110}\n',
        }
    ),
    responses=responses(
        "Ascending readings.",
        list[VersionedReading] | list[FullReading] | list[BasicReading],
        [BASIC_READING],
        [FULL_READING],
        [READING_VERSION],
        problems=(*USER_PROBLEMS, 406),
    ),
)
async def readings(
    request: AnyRequest,
    user_id: User,
    reader: Use[ReadingQueries],
    from_: query.From = None,
    to: query.To = None,
    view: query.ViewName = None,
    as_of_time: query.AsOfTime = None,
    as_of_change: query.AsOfChange = None,
    devices: query.Devices = None,
    versions: query.Versions = None,
) -> Response[Any]:
    """Half-open window, from ≤ timestamp < to, of any length; streamed. 304 on a matching If-None-Match."""
    full, all_devices = query.is_full_view(view), query.has_all_devices(devices)
    all_versions = query.has_all_versions(versions, view, devices)
    chosen_view = VERSIONS if all_versions else FULL if full else BASIC
    form = _choose_format(request, chosen_view)
    start, end = query.parse_instant("from", from_), query.parse_instant("to", to)
    point, now = query.parse_as_of(as_of_time, as_of_change, reader.now())
    window = query.requested_window(start, end, now)
    head = await reader.head(user_id)
    query.check_reached(point, head)
    answer = encode_stream(
        chosen_view.batches(reader, user_id, window, ReadingFilter(point, all_devices or all_versions)),
        chosen_view.present,
        form,
    )
    headers = {**CACHE_HEADERS, "Vary": "Accept"}
    if start is None and end is None:
        # Both ends move, so readings leave the window without a change. The day is small: the tag covers its content.
        body = b"".join([chunk async for chunk in answer])
        headers["ETag"] = make_etag(request, form.media_type, body)
        return not_modified(request, headers) or Response(body, media_type=form.media_type, headers=headers)
    facts = etag_facts(head, window, reader.now(), open_end=end is None)
    headers["ETag"] = make_etag(request, form.media_type, *facts)
    return not_modified(request, headers) or StreamedResponse(answer, media_type=form.media_type, headers=headers)


def _choose_format(request: AnyRequest, view: View) -> Format:
    chosen = negotiate(request_header(request.scope, b"accept") or "*/*", view.formats)
    if chosen is None:
        available = ", ".join(form.media_type.partition(";")[0] for form in view.formats)
        raise build_problem(406, "not-acceptable", f"This route answers {available}: accept one of these.")
    return chosen


router = Router(
    "/api/bg",
    route_handlers=[latest, readings],
    tags=["readings"],
    opt=RouteOptions(scope=Scope.READINGS_READ).opt(),
)
