"""Statistics of readings: a window, its days, the profile of a day, and series for charts."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import msgspec
from litestar import Request, Response, Router, get

from bg_ingest.api import query, statistics_query
from bg_ingest.api.dependencies import RouteOptions, Use, User
from bg_ingest.api.etags import CACHE_HEADERS, etag_facts, make_etag, not_modified
from bg_ingest.api.fairness import LongAnswers
from bg_ingest.api.openapi import USER_PROBLEMS, responses
from bg_ingest.api.statistics_examples import DAILY, PROFILE, SERIES, STATISTICS
from bg_ingest.domain.access import Scope
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.local_time import Zone
from bg_ingest.domain.series import Series
from bg_ingest.domain.summaries import DailyStatistics, Profile, Statistics
from bg_ingest.services.queries.readings import ReadingQueries
from bg_ingest.services.queries.statistics import StatisticsQueries, StatisticsRequest

AnyRequest: TypeAlias = Request[Any, Any, Any]


class TimeParameters(msgspec.Struct, frozen=True):
    """Query parameters that select the readings, as sent."""

    start: str | None
    end: str | None
    as_of: str | None
    as_of_change: str | None

    def parse(
        self, reader: ReadingQueries, user: UserId, zone: Zone, ranges: str, *, max_days: int | None
    ) -> StatisticsRequest:
        """Return the parsed request; 400 for a parameter outside its limits. `max_days` None permits any length."""
        point, now = query.parse_as_of(self.as_of, self.as_of_change, reader.now())
        start = statistics_query.parse_bound("from", self.start, zone)
        end = statistics_query.parse_bound("to", self.end, zone)
        window = statistics_query.parse_window(start, end, now, max_days=max_days)
        return StatisticsRequest(user, window, zone, point, now, ranges)


@get(
    "/{user_id:str}/statistics",
    operation_id="statistics",
    summary="Statistics of a time range",
    responses=responses("The figures of the time range.", Statistics, STATISTICS, problems=USER_PROBLEMS),
)
async def window_statistics(
    request: AnyRequest,
    user_id: User,
    reader: Use[ReadingQueries],
    statistics: Use[StatisticsQueries],
    from_: statistics_query.From = None,
    to: query.To = None,
    zone: statistics_query.ZoneName = None,
    ranges: statistics_query.RangesName = None,
    as_of_time: query.AsOfTime = None,
    as_of_change: query.AsOfChange = None,
) -> Response[Any]:
    """Times in glucose ranges, mean, variability and risk. At most 366 days.

    They are computed from the readings that `GET /api/bg/{user_id}` returns for the same time range.
    """
    asked = TimeParameters(from_, to, as_of_time, as_of_change).parse(
        reader,
        user_id,
        statistics_query.parse_zone(zone),
        statistics_query.parse_ranges(ranges),
        max_days=statistics_query.MAX_DAYS,
    )
    return await _answer(request, reader, asked, statistics.window)


@get(
    "/{user_id:str}/statistics/daily",
    operation_id="daily_statistics",
    summary="Statistics of each day",
    responses=responses("The figures of each local day.", DailyStatistics, DAILY, problems=USER_PROBLEMS),
)
async def daily_statistics(
    request: AnyRequest,
    user_id: User,
    reader: Use[ReadingQueries],
    statistics: Use[StatisticsQueries],
    from_: statistics_query.From = None,
    to: query.To = None,
    zone: statistics_query.ZoneName = None,
    ranges: statistics_query.RangesName = None,
    as_of_time: query.AsOfTime = None,
    as_of_change: query.AsOfChange = None,
) -> Response[Any]:
    """Local days with readings, ascending. A day that lies partly in the time range has the figures of that part."""
    asked = TimeParameters(from_, to, as_of_time, as_of_change).parse(
        reader,
        user_id,
        statistics_query.parse_zone(zone),
        statistics_query.parse_ranges(ranges),
        max_days=statistics_query.MAX_DAYS,
    )
    return await _answer(request, reader, asked, statistics.daily)


@get(
    "/{user_id:str}/profile",
    summary="Profile of the day (AGP)",
    responses=responses("The percentiles of each time of day.", Profile, PROFILE, problems=USER_PROBLEMS),
)
async def profile(
    request: AnyRequest,
    user_id: User,
    reader: Use[ReadingQueries],
    statistics: Use[StatisticsQueries],
    from_: statistics_query.From = None,
    to: query.To = None,
    zone: statistics_query.ZoneName = None,
    ranges: statistics_query.RangesName = None,
    bin_name: statistics_query.ProfileBinName = None,
    as_of_time: query.AsOfTime = None,
    as_of_change: query.AsOfChange = None,
) -> Response[Any]:
    """The lines of an ambulatory glucose profile: percentiles 5, 25, 50, 75 and 95 by local time of day."""
    bin_minutes = statistics_query.parse_profile_bin(bin_name)
    asked = TimeParameters(from_, to, as_of_time, as_of_change).parse(
        reader,
        user_id,
        statistics_query.parse_zone(zone),
        statistics_query.parse_ranges(ranges),
        max_days=statistics_query.MAX_DAYS,
    )
    return await _answer(request, reader, asked, lambda chosen: statistics.profile(chosen, bin_minutes))


@get(
    "/{user_id:str}/series",
    summary="Series for a chart",
    responses=responses("Columns with a row for each bin.", Series, SERIES, problems=USER_PROBLEMS),
)
async def series(
    request: AnyRequest,
    user_id: User,
    reader: Use[ReadingQueries],
    statistics: Use[StatisticsQueries],
    from_: statistics_query.From = None,
    to: query.To = None,
    zone: statistics_query.SeriesZone = None,
    bin_name: statistics_query.SeriesBinName = None,
    points: statistics_query.Points = None,
    as_of_time: query.AsOfTime = None,
    as_of_change: query.AsOfChange = None,
) -> Response[Any]:
    """Lowest, mean and highest value and number of readings of each bin. The range is widened to whole bins."""
    chosen_zone = statistics_query.parse_zone(zone, "UTC")
    parameters = TimeParameters(from_, to, as_of_time, as_of_change)
    asked = parameters.parse(reader, user_id, chosen_zone, "standard", max_days=None)
    bins = statistics_query.parse_bins(bin_name, points, asked.window, chosen_zone)
    widened = msgspec.structs.replace(asked, window=bins.window)
    return await _answer(request, reader, widened, lambda chosen: statistics.series(chosen, bins))


async def _answer(
    request: AnyRequest,
    reader: ReadingQueries,
    asked: StatisticsRequest,
    compute: Callable[[StatisticsRequest], Awaitable[msgspec.Struct]],
) -> Response[Any]:
    head = await reader.head(asked.user)
    query.check_reached(asked.as_of, head)
    long_answers: LongAnswers = request.app.state.long_answers
    if asked.window.end < asked.now:  # only a numbered change alters the answer of a window in the past
        tag = make_etag(request, *etag_facts(head, asked.window, reader.now(), open_end=False))
        headers = {**CACHE_HEADERS, "Vary": "Accept", "ETag": tag}
        if response := not_modified(request, headers):
            return response
        async with long_answers.open(request.scope):
            return Response(await compute(asked), headers=headers)
    async with long_answers.open(request.scope):
        body = msgspec.json.encode(await compute(asked))
    headers = {**CACHE_HEADERS, "Vary": "Accept", "ETag": make_etag(request, body)}
    return not_modified(request, headers) or Response(body, media_type="application/json", headers=headers)


router = Router(
    "/api/bg",
    route_handlers=[window_statistics, daily_statistics, profile, series],
    tags=["statistics"],
    opt=RouteOptions(scope=Scope.READINGS_READ).opt(),
)
