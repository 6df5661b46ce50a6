"""Readings for dashboards and ML pipelines: latest and range."""

from typing import Any, TypeAlias

from litestar import Request, Response, Router, get

from bg_ingest.api import query, statistics_query
from bg_ingest.api.dependencies import RouteOptions, Use, User
from bg_ingest.api.encoded import EncodedResponse
from bg_ingest.api.etags import CACHE_HEADERS, etag_facts, make_etag, not_modified
from bg_ingest.api.formats import ColumnarFormat, choose_format
from bg_ingest.api.headers import attachment
from bg_ingest.api.openapi import (
    BASIC_READING,
    COLUMNAR_FORMS,
    FULL_READING,
    LATEST_READING,
    READING_VERSION,
    USER_PROBLEMS,
    responses,
    with_views,
)
from bg_ingest.api.presets import PRESET_FORMATS, encode_preset, of_user, parse_preset
from bg_ingest.api.schemas import (
    BasicReading,
    LatestReading,
    VersionedReading,
    to_basic_one,
    to_latest,
)
from bg_ingest.api.streaming import StreamedResponse
from bg_ingest.api.views import BASIC, FULL, VERSIONS
from bg_ingest.domain.access import Scope
from bg_ingest.domain.cloud_events import FullReading
from bg_ingest.domain.reading_filter import ReadingFilter
from bg_ingest.ports import ColumnarEncoder
from bg_ingest.services.queries.readings import ReadingQueries

AnyRequest: TypeAlias = Request[Any, Any, Any]


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
    if newest != latest_reading.head.newest:
        # The head's newest reading lies in the future. At its time it becomes the answer, without a new change.
        facts.append(newest.reading.measured_at)
    headers = {**CACHE_HEADERS, "ETag": make_etag(request, latest_reading.head.last_change, *facts)}
    return not_modified(request, headers) or EncodedResponse(
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
            **COLUMNAR_FORMS,
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
    columnar: Use[ColumnarEncoder],
    from_: query.From = None,
    to: query.To = None,
    view: query.ViewName = None,
    as_of_time: query.AsOfTime = None,
    as_of_change: query.AsOfChange = None,
    devices: query.Devices = None,
    versions: query.Versions = None,
    preset: query.Preset = None,
    zone_name: statistics_query.ZoneName = None,
) -> Response[Any]:
    """Half-open window, from ≤ timestamp < to, of any length; streamed. 304 on a matching If-None-Match."""
    full, all_devices = query.is_full_view(view), query.has_all_devices(devices)
    all_versions = query.has_all_versions(versions, view, devices)
    chosen_preset, zone = parse_preset(preset, versions), statistics_query.parse_zone(zone_name)
    shown = VERSIONS if all_versions else FULL if full or chosen_preset else BASIC
    form = choose_format(request, (PRESET_FORMATS[chosen_preset],) if chosen_preset else shown.formats)
    start = statistics_query.parse_bound("from", from_, zone)
    end = statistics_query.parse_bound("to", to, zone)
    point, now = query.parse_as_of(as_of_time, as_of_change, reader.now())
    window = query.requested_window(start, end, now)
    head = await reader.head(user_id)
    query.check_reached(point, head)
    batches = shown.batches(reader, user_id, window, ReadingFilter(point, all_devices or all_versions))
    if chosen_preset:
        answer = encode_preset(of_user(user_id, batches), chosen_preset, zone)
    else:
        answer = shown.encode(user_id, batches, form, columnar)
    headers = {**CACHE_HEADERS, "Vary": "Accept"}
    if isinstance(form, ColumnarFormat):
        headers |= attachment(user_id, window, form.media_type)
    if start is None and end is None:
        # Both ends move, so readings leave the window without a change. The tag covers the body, one day of readings.
        body = b"".join([chunk async for chunk in answer])
        headers["ETag"] = make_etag(request, form.media_type, body)
        return not_modified(request, headers) or Response(body, media_type=form.media_type, headers=headers)
    facts = etag_facts(head, window, reader.now(), open_end=end is None)
    headers["ETag"] = make_etag(request, form.media_type, *facts)
    return not_modified(request, headers) or StreamedResponse(answer, media_type=form.media_type, headers=headers)


router = Router(
    "/api/bg",
    route_handlers=[latest, readings],
    tags=["readings"],
    opt=RouteOptions(scope=Scope.READINGS_READ).opt(),
)
