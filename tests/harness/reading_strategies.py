"""Strategies for arbitrary readings, and a plausible curve."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from bg_ingest.domain.readings import AsSent, Device, Flag, Reading, StoredReading, Version
from bg_ingest.simulator.readings import SimulatedWearer
from bg_ingest.simulator.users import person

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_LONG_AGO = datetime(1971, 1, 1, tzinfo=UTC)

texts = st.one_of(st.text(max_size=6), st.sampled_from(["ab" * 8, "AB" * 8, "ab" * 7, "abc" * 7, "0" * 64]))
devices = st.builds(Device, texts, texts, st.one_of(st.none(), texts), texts, texts)
few_devices = st.lists(
    st.one_of(devices, st.sampled_from([Device("p", "a", None, "d"), Device("p", "a", "", "d")])),
    min_size=1,
    max_size=3,
)
numbers = st.one_of(st.integers(0, 600), st.integers(-(2**31), 2**31))
rates = st.one_of(st.none(), st.integers(-90, 90).map(lambda n: n / 10), st.floats(allow_nan=False))
seconds = st.one_of(st.integers(0, 500).map(lambda n: n * 300), st.integers(0, 10**9))
instants = st.integers(0, 10**12).map(lambda ms: _LONG_AGO + timedelta(milliseconds=ms))
offsets = st.one_of(st.none(), st.integers(-50_400, 50_400))
as_sent = st.one_of(st.none(), st.builds(AsSent, st.floats(allow_nan=False), texts))
versions = st.builds(
    Version, numbers, st.sampled_from(Flag), instants, st.integers(1, 2**31), texts, rates, offsets, as_sent
)


def _unique(readings: list[StoredReading]) -> list[StoredReading]:
    return list({each.reading.identity: each for each in readings}.values())


@st.composite
def stored_readings(draw: st.DrawFn) -> list[StoredReading]:
    """Draw readings of a few devices and commits, in any order, each identity once."""
    worn = draw(few_devices)
    commits = draw(st.lists(st.tuples(instants, st.integers(1, 2**31)), min_size=1, max_size=4))
    trends = st.sampled_from([None, "", *draw(st.lists(texts, max_size=3))])
    reading = st.builds(
        Reading,
        seconds.map(lambda n: _LONG_AGO + timedelta(seconds=n)),
        numbers,
        st.sampled_from(Flag),
        st.sampled_from(worn),
        trends,
        rates,
        offsets,
        as_sent,
    )
    one = st.builds(
        lambda each, commit, earlier: StoredReading(each, commit[0], commit[1], tuple(earlier)),
        reading,
        st.sampled_from(commits),
        st.lists(versions, max_size=2),
    )
    return _unique(draw(st.lists(one, max_size=12)))


def glucose_curve(number: int, cadence: int, days: int) -> list[Reading]:
    """Return the readings of a simulated person's sensor, including gaps and sensor changes."""
    wearer = SimulatedWearer(1, person(number), cadence, FIRST)
    return [
        Reading(
            true.measured_at,
            true.glucose_mg_dl,
            Flag(true.flag),
            Device("acme", f"{number:064x}", true.transmitter_id, str(true.display_device), str(true.generation)),
            true.trend,
            true.trend_rate,
            true.utc_offset_seconds,
        )
        for true in wearer.readings(FIRST, FIRST + timedelta(days=days))
    ]


def index_by_identity(readings: Sequence[StoredReading]) -> dict[object, StoredReading]:
    return {each.reading.identity: each for each in readings}
