"""Latest reading and windows of readings, from a store in memory."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import msgspec
import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.commits import plan_erasure
from bg_ingest.domain.freshness import FreshnessState
from bg_ingest.domain.reading_filter import AsOf, ReadingFilter
from bg_ingest.domain.segments import segment_start
from bg_ingest.domain.windows import Window
from bg_ingest.errors import NotFound
from bg_ingest.services.queries.readings import DEFAULT_WINDOW_LENGTH, ReadingQueries, resolve_window
from bg_ingest.store import Store
from tests.fakes.clock import NOON, SetClock
from tests.harness.sample_values import DEVICE, USER, commit_connection, reading, readings_commit_of

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
MIDNIGHT = NOON + 12 * HOUR
WINDOW = Window(NOON - 24 * HOUR, NOON + 24 * HOUR)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    clock = SetClock()
    async with open_table(None, clock) as table:
        yield Store(table, clock)


@pytest.fixture
def queries(store: Store) -> ReadingQueries:
    return ReadingQueries(store.readings, SetClock())


async def add(store: Store, *numbers: int, value: int = 110) -> None:
    batch = [reading(number, value) for number in numbers]
    await store.commits.write(await readings_commit_of(store.readings, batch))


async def values(
    queries: ReadingQueries, window: Window = WINDOW, reading_filter: ReadingFilter | None = None
) -> list[tuple[datetime, int]]:
    batches = queries.readings(USER, window, reading_filter or ReadingFilter())
    return [(stored.reading.measured_at, stored.reading.glucose_mg_dl) async for batch in batches for stored in batch]


async def test_a_user_that_never_connected_or_was_erased_is_not_found(store: Store, queries: ReadingQueries) -> None:
    with pytest.raises(NotFound):
        await queries.latest(USER)
    connection = await commit_connection(store)
    erasure = plan_erasure(USER, await store.readings.head(USER), [connection], NOON)
    await store.erasures.begin(erasure)
    with pytest.raises(NotFound):
        await queries.head(USER)


async def test_before_the_first_reading_there_is_no_latest(store: Store, queries: ReadingQueries) -> None:
    await commit_connection(store)
    assert (await queries.head(USER)).newest is None
    with pytest.raises(NotFound, match="no reading of this user yet"):
        await queries.latest(USER)


async def test_the_latest_reading_comes_with_its_freshness(store: Store, queries: ReadingQueries) -> None:
    await commit_connection(store)
    await add(store, -3, -1, -2)
    latest = await queries.latest(USER)
    assert latest.newest.reading == reading(-1)
    freshness = latest.freshness()
    assert (freshness.state, freshness.age_seconds) == (FreshnessState.LIVE, 300)


async def test_a_window_is_answered_in_ascending_batches_of_one_segment(store: Store, queries: ReadingQueries) -> None:
    await commit_connection(store)
    numbers = range(-100, 100, 10)
    await add(store, *numbers)
    batches = [batch async for batch in queries.points(USER, WINDOW)]
    expected = [(int(reading(number).measured_at.timestamp()), 110) for number in numbers]
    assert [point for batch in batches for point in batch] == expected
    starts = [{segment_start(NOON + timedelta(seconds=at - NOON.timestamp())) for at, _ in batch} for batch in batches]
    assert all(len(segments) == 1 for segments in starts)


@pytest.mark.parametrize(
    ("start", "end", "numbers"),
    [
        (NOON, NOON + 10 * MINUTE, [0, 1]),
        (NOON, NOON + 10 * MINUTE + timedelta(microseconds=1), [0, 1, 2]),
        (NOON + timedelta(microseconds=1), NOON + HOUR, [1, 2, 3]),
        (NOON - HOUR, NOON, []),
    ],
)
async def test_a_window_includes_its_start_and_excludes_its_end(
    store: Store, queries: ReadingQueries, start: datetime, end: datetime, numbers: list[int]
) -> None:
    await commit_connection(store)
    await add(store, 0, 1, 2, 3)
    assert [at for at, _ in await values(queries, Window(start, end))] == [reading(n).measured_at for n in numbers]


async def test_an_answer_as_of_a_change_has_the_values_of_that_time(store: Store, queries: ReadingQueries) -> None:
    await commit_connection(store)
    await add(store, 0)
    before = (await queries.head(USER)).last_change
    await add(store, 0, 1, value=120)
    assert await values(queries) == [(NOON, 120), (NOON + 5 * MINUTE, 120)]
    as_of = ReadingFilter(AsOf(change=before))
    assert await values(queries, reading_filter=as_of) == [(NOON, 110)]


async def test_a_second_display_is_shown_on_request(store: Store, queries: ReadingQueries) -> None:
    await commit_connection(store)
    receiver = msgspec.structs.replace(DEVICE, display="receiver")
    batch = [reading(0, 110), reading(0, 112, device=receiver)]
    await store.commits.write(await readings_commit_of(store.readings, batch))
    assert await values(queries) == [(NOON, 110)]
    assert await values(queries, reading_filter=ReadingFilter(all_devices=True)) == [(NOON, 110), (NOON, 112)]


def test_a_request_without_bounds_is_for_the_last_day() -> None:
    assert resolve_window(None, None, NOON) == Window(NOON - DEFAULT_WINDOW_LENGTH, NOON)
    assert resolve_window(None, NOON - HOUR, NOON) == Window(NOON - HOUR - DEFAULT_WINDOW_LENGTH, NOON - HOUR)
    assert resolve_window(NOON - HOUR, None, NOON) == Window(NOON - HOUR, NOON)
    with pytest.raises(ValueError, match="ends after it starts"):
        resolve_window(NOON, NOON - HOUR, NOON)


WATCH = msgspec.structs.replace(DEVICE, display="watch")


async def add_phone_and_watch(store: Store) -> None:
    """Store a phone's readings across midnight, and those of a watch, in turn 9 seconds later and earlier."""
    for number in range(140, 149):  # the last slots before midnight, and the first ones after it
        phone = msgspec.structs.replace(
            reading(number, 100 + number - 140), measured_at=MIDNIGHT + (number - 144) * 5 * MINUTE - 5 * SECOND
        )
        apart = 9 * SECOND if number % 2 else -9 * SECOND
        watch = msgspec.structs.replace(phone, measured_at=phone.measured_at + apart, glucose_mg_dl=200, device=WATCH)
        for batch in ([watch], [phone]):
            await store.commits.write(await readings_commit_of(store.readings, batch))


@pytest.mark.parametrize("start", [MIDNIGHT - HOUR, MIDNIGHT, MIDNIGHT - 5 * SECOND, MIDNIGHT + 4 * SECOND])
@pytest.mark.parametrize("as_of", [None, AsOf(change=10_000)])
async def test_f22_the_watch_is_hidden_on_both_sides_of_a_segments_end_and_of_a_window(
    store: Store, queries: ReadingQueries, start: datetime, as_of: AsOf | None
) -> None:
    await commit_connection(store)
    await add_phone_and_watch(store)
    window = Window(start, MIDNIGHT + HOUR)
    shown = await values(queries, window, ReadingFilter(as_of))
    assert shown
    assert all(value < 200 for _, value in shown)
    points = queries.points(USER, window, ReadingFilter(as_of))
    assert [(at.timestamp(), value) for at, value in shown] == [point async for batch in points for point in batch]
    everything = await values(queries, window, ReadingFilter(as_of, all_devices=True))
    assert 2 * len(shown) - 1 <= len(everything) <= 2 * len(shown) + 1
    later = ReadingQueries(store.readings, SetClock(start + timedelta(days=1)))
    assert (await later.latest(USER)).newest.reading.glucose_mg_dl == shown[-1][1]
