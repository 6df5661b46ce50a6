"""Instants of local times around clock changes."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from bg_ingest.domain.files.instants import LocalTime, to_instants

NEW_YORK = ZoneInfo("America/New_York")
SERIES = "8AM1EY", "iOS G6"
FALL, SPRING = "2025-11-02", "2025-03-09"


def resolve(
    day: str, *times: str, ticks: tuple[int | None, ...] = (), zone: ZoneInfo = NEW_YORK
) -> list[tuple[str, bool] | None]:
    """Return the times in UTC, and True for uncertain ones; None for times that do not exist."""
    rows = [
        LocalTime(datetime.fromisoformat(f"{day}T{time}"), tick, SERIES)
        for time, tick in zip(times, ticks or [None] * len(times), strict=True)
    ]
    instants = to_instants(rows, zone)
    assert all(
        instant is None
        or (instant.utc + timedelta(seconds=instant.utc_offset_seconds)).replace(tzinfo=None) == row.wall
        for instant, row in zip(instants, rows, strict=True)
    )
    return [instant and (f"{instant.utc:%H:%M}", instant.uncertain) for instant in instants]


def certain(*times: str) -> list[tuple[str, bool]]:
    return [(time, False) for time in times]


def test_f16_the_transmitter_shows_a_clock_that_was_not_set_forward() -> None:
    ticks = (7200, 7500, 10800, 11100, 11400)
    times = ("02:00", "02:05", "03:00", "03:05", "04:10")
    assert resolve(SPRING, *times, ticks=ticks) == certain("07:00", "07:05", "08:00", "08:05", "08:10")


def test_f16_a_clock_that_is_set_late_is_followed_at_once() -> None:
    ticks = (3600, 7200, 10800, 11100, 11400)
    assert resolve(SPRING, "01:00", "02:00", "03:00", "03:05", "04:10", ticks=ticks) == certain(
        "06:00", "07:00", "08:00", "08:05", "08:10"
    )


def test_a_receiver_that_is_never_set_keeps_its_offset() -> None:
    ticks = tuple(range(0, 36_000, 3600))
    times = tuple(f"{hour:02}:30" for hour in range(10))
    assert resolve(SPRING, *times, ticks=ticks) == certain(*(f"{hour + 5:02}:30" for hour in range(10)))


def test_without_the_transmitter_a_skipped_time_does_not_exist() -> None:
    assert resolve(SPRING, "01:55", "02:00", "02:59", "03:00") == [("06:55", False), None, None, ("07:00", False)]


def test_a_time_that_the_transmitter_places_nowhere_does_not_exist() -> None:
    assert resolve(SPRING, "01:55", "02:30", "03:00", ticks=(300, 999_999, 600))[1] is None


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5), (0, 1, 4, 2, 5, 3), (5, 4, 3, 2, 1, 0), (3, 1, 5, 0, 2, 4)])
def test_the_transmitter_tells_the_passes_of_the_repeated_hour_in_any_order(order: tuple[int, ...]) -> None:
    times = ("00:55", "01:00", "01:30", "01:00", "01:30", "02:00")
    ticks = (1000, 1300, 3100, 4900, 6700, 8500)
    utc = ("04:55", "05:00", "05:30", "06:00", "06:30", "07:00")
    ordered = [times[index] for index in order]
    resolved = resolve(FALL, *ordered, ticks=tuple(ticks[index] for index in order))
    assert resolved == certain(*(utc[index] for index in order))


def test_a_pass_without_a_certain_time_follows_from_the_one_beside_it() -> None:
    assert resolve(FALL, "00:55", "01:30", "01:30", ticks=(1000, 3100, 6700)) == certain("04:55", "05:30", "06:30")


def test_ticks_that_measure_no_time_have_no_effect() -> None:
    times = ("00:55", "01:30", "01:55", "01:00", "01:30", "02:00")
    utc = certain("04:55", "05:30", "05:55", "06:00", "06:30", "07:00")
    assert resolve(FALL, *times, ticks=(1, 2, 3, 4, 5, 6)) == utc
    assert resolve(FALL, *times) == utc


def test_a_transmitter_that_restarts_does_not_disturb_the_times() -> None:
    assert resolve(FALL, "03:00", "03:05", "05:00", "05:05", ticks=(90_000, 90_300, 0, 300)) == certain(
        "08:00", "08:05", "10:00", "10:05"
    )


def test_a_time_that_is_there_twice_is_in_both_passes() -> None:
    times = ("00:55", "01:00", "01:00", "01:30", "01:30", "01:55", "02:00")
    assert resolve(FALL, *times) == [
        *certain("04:55", "05:00", "06:00", "05:30", "06:30"),
        ("05:55", True),
        ("07:00", False),
    ]


def test_newest_first_is_the_same_as_oldest_first() -> None:
    times = ("00:55", "01:30", "01:55", "01:00", "01:30", "02:00")
    assert resolve(FALL, *reversed(times)) == list(reversed(resolve(FALL, *times)))


def test_the_zone_may_be_utc() -> None:
    utc = ZoneInfo("UTC")
    assert resolve(FALL, "01:00", "01:05", ticks=(300, 600), zone=utc) == certain("01:00", "01:05")
    assert resolve(FALL, "01:00", zone=utc) == certain("01:00")


def test_london_has_no_offset_after_the_change() -> None:
    ticks = (0, 3600, 7200)
    london = ZoneInfo("Europe/London")
    assert resolve("2025-10-26", "01:30", "01:30", "02:30", ticks=ticks, zone=london) == certain(
        "00:30", "01:30", "02:30"
    )
