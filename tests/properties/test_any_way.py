"""Stored readings, events and as-of answers do not depend on the order and route by which a series arrives."""

from typing import Any

import anyio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bg_ingest.domain.cloud_events import FullReading
from tests.conftest import VirtualTimeLoop, examples
from tests.fakes.faults import Fault
from tests.harness.stored_readings import read_all
from tests.properties.world import ADA, World, rebuild, world

numbers = st.integers(0, 26)
several = st.lists(numbers, min_size=1, max_size=8, unique=True)
webhooks = st.integers(1, 4)
# the methods of a World, with their arguments
steps = st.one_of(
    st.tuples(st.just("show"), several),
    st.tuples(st.just("revise"), several, st.integers(1, 40)),
    st.tuples(st.just("poll"), st.integers(0, 1)),
    st.tuples(st.just("push"), several, webhooks, st.booleans()),
    st.tuples(st.just("both"), several, several, webhooks),
    st.tuples(st.just("both"), several, several, webhooks),
    st.tuples(st.just("backfill"), st.integers(0, 6)),
    st.tuples(st.just("night")),
    st.tuples(st.just("remember")),
    st.tuples(st.just("trouble"), st.integers(1, 12), st.sampled_from([Fault.BEFORE, Fault.AFTER])),
)


def key(each: FullReading) -> tuple[str, ...]:
    return str(each.timestamp), str(each.sensor), each.device


async def run_any_way(values: list[int], taken: list[tuple[Any, ...]], seed: int) -> None:
    async with world(values, seed) as opened:
        for name, *more in taken:
            await getattr(opened, name)(*more)
            await check_events(opened)  # before sweeps add lost readings
        await opened.end()
        await check_events(opened)
        await check_stored(opened)


@settings(max_examples=examples(120), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.integers(41, 300), min_size=3, max_size=27),
    st.lists(steps, min_size=3, max_size=12),
    st.integers(0, 2**16),
)
@example(
    [100, 110, 120],
    [("show", [0, 1]), ("both", [0, 1], [1, 2], 1), ("remember",), ("revise", [0, 1], 5), ("poll", 1)],
    1,
)
@example([100, 110, 120], [("show", [0]), ("poll", 0), ("revise", [0], 9), ("push", [0], 1, True), ("remember",)], 2)
def test_the_same_is_stored_published_and_remembered(
    values: list[int], taken: list[tuple[Any, ...]], seed: int
) -> None:
    anyio.run(run_any_way, values, taken, seed, backend_options={"loop_factory": VirtualTimeLoop})


async def check_events(opened: World) -> None:
    """The events give the stored series, and their numbers are contiguous."""
    events = await opened.events()
    head = await opened.plain.readings.head(ADA.user)
    assert head is not None
    assert [each["change"] for each in events] == list(range(1, head.last_change + 1)), "numbers are not contiguous"
    series = await opened.series()
    assert sorted(rebuild(events), key=key) == sorted(series, key=key), "events give another series"
    newest = head.newest and head.newest.reading.measured_at
    assert newest == max((each.timestamp for each in series), default=None), "latest is not the newest"


async def check_stored(opened: World) -> None:
    """The stored series is the true one, and each earlier as-of answer is still given."""
    stored = [each.reading for each in await read_all(opened.plain.readings, ADA.user)]
    found = [((r.measured_at, r.device.transmitter, r.device.display), r.glucose_mg_dl) for r in stored]
    assert sorted(found, key=str) == opened.truth.series(), "the stored series is not the true one"
    for point, then in opened.remembered:
        assert await opened.series(point) == then, "an as-of answer has changed"
