"""Weights of readings: their sums, their cadence, and their order at one second."""

from collections.abc import Iterable

from bg_ingest.domain.readings import Device, Flag, Reading, StoredReading
from bg_ingest.domain.segment_codec import to_epoch_seconds
from bg_ingest.domain.weighting import GroupTotals, ShownReading, WeightedGroups, in_shown_order
from tests.fakes.clock import NOON
from tests.harness.sample_values import DEVICE, reading


def stored(one: Reading, change: int = 1) -> StoredReading:
    return StoredReading(one, NOON, change)


def weigh(readings: Iterable[StoredReading]) -> GroupTotals:
    groups: WeightedGroups[None] = WeightedGroups()
    for second, one in in_shown_order(list(readings)):
        groups.add(None, ShownReading(second, 0, one))
    return groups.finish().get(None) or GroupTotals()


def test_a_reading_represents_the_time_to_the_next_one_and_at_most_its_cadence() -> None:
    totals = weigh(stored(reading(number)) for number in (0, 1, 2, 3, 9))
    assert totals.histogram.weight == 5 * 300
    assert (totals.first, totals.last) == (to_epoch_seconds(NOON), to_epoch_seconds(NOON) + 9 * 300)


def test_two_readings_at_one_second_share_the_time_and_both_count() -> None:
    other = Device("acme", "account-1", "cd" * 32, "iOS", "g7")
    totals = weigh([stored(reading(0)), stored(reading(0, 200, device=other)), stored(reading(1))])
    assert (totals.histogram.count, totals.histogram.weight) == (3, 600)


def test_the_cadence_is_that_of_the_device_and_five_minutes_while_it_is_unknown() -> None:
    slow = [stored(reading(3 * number)) for number in range(6)]
    assert weigh(slow).histogram.weight == 6 * 900
    assert weigh(slow[:2]).histogram.weight == 600


def test_at_one_second_the_order_is_by_sensor_name_then_by_device() -> None:
    displays = [Device("acme", "account-1", transmitter, name) for transmitter in (None, "ab" * 32) for name in "ba"]
    rows = in_shown_order([stored(reading(0, device=device)) for device in displays])
    order = [(one.reading.device.transmitter is None, one.reading.device.display) for _, one in rows]
    assert order == [(False, "a"), (False, "b"), (True, "a"), (True, "b")]


def test_flags_changes_and_days_are_summed() -> None:
    low = Reading(NOON, 39, Flag.LOW, DEVICE)
    totals = weigh([stored(low, 7), stored(reading(1), 3), stored(reading(200), 5)])
    assert (totals.low, totals.high, totals.change, len(totals.days)) == (1, 0, 7, 2)


def test_without_readings_there_is_no_group() -> None:
    assert WeightedGroups[int]().finish() == {}
