"""Detection of gaps between readings: opened, changed and healed, by cause."""

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.gap_detection import MAX_GAPS_PER_COMMIT, GapChanges, GapContext, detect_gaps, first_suspected_gap
from bg_ingest.domain.gaps import Cause, Gap
from bg_ingest.domain.readings import Device, Flag, Reading

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LATER = NOON + 100 * DAY
PHONE = Device("acme", "account-1", "sensor-1", "iOS", "g7")
CONTEXT = GapContext(300, {"g7": 30 * MINUTE, "g6": 2 * HOUR}, Cause.PROVIDER_HAS_NOTHING)


def reading(minute: float, device: Device = PHONE, flag: Flag = Flag.OK) -> Reading:
    return Reading(NOON + minute * MINUTE, 110, flag, device)


def detect(
    readings: Sequence[Reading],
    known: Sequence[Gap] = (),
    *,
    until: datetime = LATER,
    silent: bool = False,
    at: datetime = LATER,
) -> GapChanges:
    ordered = sorted(readings, key=lambda reading: reading.measured_at)
    return detect_gaps(ordered, known, CONTEXT, until=until, silent=silent, at=at)


def slots(*numbers: int, device: Device = PHONE) -> list[Reading]:
    return [reading(5 * number, device) for number in numbers]


def opened_gaps(changes: GapChanges) -> list[tuple[float, float | None, bool]]:
    """Return for gap_or_reading gap the minutes of the readings around it, and True if it is healed."""
    return [
        ((g.after - NOON) / MINUTE, (g.before - NOON) / MINUTE if g.before else None, g.healed_at is not None)
        for g in changes.gaps
    ]


def test_readings_missing_between_two_are_a_gap_with_their_number() -> None:
    (gap,) = detect(slots(0, 1, 2, 6, 7)).gaps
    assert (gap.start, gap.before, gap.missing) == (NOON + 15 * MINUTE, NOON + 30 * MINUTE, 3)


def test_a_reading_at_the_edge_of_its_slot_leaves_no_gap() -> None:
    assert not detect([reading(0), reading(7.5), reading(12.5)]).gaps
    assert len(detect([reading(0), reading(7.6), reading(12.5)]).gaps) == 1


def test_low_and_high_are_readings() -> None:
    assert not detect([reading(0), reading(5, flag=Flag.LOW), reading(10, flag=Flag.HIGH), reading(15)]).gaps


def test_two_displays_of_one_sensor_fill_each_others_gaps() -> None:
    receiver = msgspec.structs.replace(PHONE, display="receiver")
    assert not detect([*slots(0, 1, 2, 5, 6), *slots(0, 2, 3, 4, 5, device=receiver)]).gaps


def test_a_second_sensor_worn_at_the_same_time_fills_the_gap() -> None:
    other = msgspec.structs.replace(PHONE, transmitter="sensor-2")
    assert not detect([*slots(0, 1, 2, 9, 10, 11), *[reading(5 * n + 2, other) for n in range(12)]]).gaps


def test_a_pause_is_a_warm_up_only_with_a_new_sensor_and_its_length() -> None:
    new = msgspec.structs.replace(PHONE, transmitter="sensor-2")
    (warm_up,) = detect([*slots(0, 1), *slots(9, 10, device=new)]).gaps
    assert warm_up.cause is Cause.SENSOR_WARM_UP
    (pause,) = detect([*slots(0, 1), *slots(20, 21, device=new)]).gaps
    assert pause.cause is Cause.PROVIDER_HAS_NOTHING
    (g6,) = detect([*slots(0, 1), *slots(29, 30, device=msgspec.structs.replace(new, generation="g6"))]).gaps
    assert g6.cause is Cause.SENSOR_WARM_UP
    (same,) = detect(slots(0, 1, 9, 10)).gaps
    assert same.cause is Cause.PROVIDER_HAS_NOTHING


def test_each_sensor_is_checked_by_its_own_cadence() -> None:
    fast = msgspec.structs.replace(PHONE, transmitter="fast")
    slow = msgspec.structs.replace(PHONE, transmitter="slow")
    minutes = [reading(n, fast) for n in range(60) if n not in (30, 31)]
    quarters = [reading(75 + 15 * n, slow) for n in range(8) if n != 4]
    gaps = detect([*minutes, *quarters]).gaps
    assert [(gap.cadence_seconds, gap.missing) for gap in gaps] == [(60, 2), (900, 1)]


def test_readings_that_may_still_be_on_their_way_are_not_checked() -> None:
    changes = detect(slots(0, 1, 5, 6, 9, 10), until=NOON + 30 * MINUTE)
    assert opened_gaps(changes) == [(5, 25, False)]
    assert changes.checked_until == NOON + 30 * MINUTE


def test_a_silence_has_no_end_until_the_next_reading() -> None:
    (silence,) = detect(slots(0, 1), silent=True).gaps
    assert (silence.before, silence.missing) == (None, None)
    assert not detect(slots(0, 1), [silence], silent=True).gaps, "the gap is opened once"
    ended = detect(slots(0, 1, 7, 8), [silence], until=NOON)
    assert opened_gaps(ended) == [(5, 35, False)]
    assert ended.checked_until == NOON + 35 * MINUTE, "younger readings are not checked"
    assert opened_gaps(detect(slots(*range(9)), [silence], until=NOON)) == [(5, 10, True)]


def test_late_readings_heal_shrink_and_split() -> None:
    (gap,) = detect(slots(0, 1, 10, 11), at=NOON + DAY).gaps
    assert opened_gaps(detect(slots(*range(12)), [gap])) == [(5, 50, True)]
    assert opened_gaps(detect(slots(0, 1, 2, 3, 10, 11), [gap])) == [(5, 15, True), (15, 50, False)]
    assert opened_gaps(detect(slots(0, 1, 8, 9, 10, 11), [gap])) == [(5, 40, False)]
    split = detect(slots(0, 1, 5, 6, 10, 11), [gap])
    assert opened_gaps(split) == [(5, 25, False), (30, 50, False)]
    assert {gap.opened_at for gap in split.gaps} == {NOON + DAY}


def commit_all(readings: Sequence[Reading], gaps: Sequence[Gap] = ()) -> list[list[Gap]]:
    """Check until there is no more to check; return the open gaps after each commit."""
    open_gaps, rest, commits = {gap.after: gap for gap in gaps}, readings, list[list[Gap]]()
    has_more = True
    while has_more:
        changes = detect(rest, list(open_gaps.values()))
        assert len(changes.gaps) <= MAX_GAPS_PER_COMMIT
        changed = open_gaps | {gap.after: gap for gap in changes.gaps}
        open_gaps = {after: gap for after, gap in changed.items() if gap.healed_at is None}
        rest = [reading for reading in readings if reading.measured_at >= changes.checked_until]
        commits.append(sort_gaps(open_gaps))
        has_more = changes.has_more
    return commits


def test_more_gaps_than_a_commit_holds_are_found_in_several_checks() -> None:
    commits = commit_all(slots(*range(0, 200, 2)))
    assert [len(gaps) for gaps in commits] == [20, 40, 60, 80, 99]


@pytest.mark.parametrize("has_end", [True, False])
@pytest.mark.parametrize("filled", [1, 2])
@pytest.mark.parametrize("earlier_gaps", [0, 18, 19, 20])
def test_a_gap_with_more_parts_than_a_commit_holds_keeps_its_opening_time_and_its_end(
    earlier_gaps: int, filled: int, *, has_end: bool
) -> None:
    (gap,) = detect(slots(0, 100) if has_end else slots(0), silent=not has_end, at=NOON + DAY).gaps
    parts = slots(*range(-2 * earlier_gaps, 1, 2), *range(filled, 98, 2), 100)
    commits = commit_all(parts, [gap])
    if has_end:
        assert all(gaps[-1].before == gap.before for gaps in commits if gaps[-1].after >= gap.after)
    open_parts = [part for part in commits[-1] if part.after >= gap.after]
    assert {part.opened_at for part in open_parts} == {gap.opened_at}
    expected = {(a.measured_at, b.measured_at) for a, b in itertools.pairwise(parts)}
    assert {(part.after, part.before) for part in commits[-1]} == {(a, b) for a, b in expected if b - a > 5 * MINUTE}


def test_the_remainder_of_a_gap_stays_open_though_the_check_does_not_reach_its_end() -> None:
    (gap,) = detect(slots(0, 1, 10, 11), at=NOON + DAY).gaps
    readings = slots(0, 1, 2, 3, 10, 11)
    first = detect(readings, [gap], until=NOON + 10 * MINUTE)
    assert opened_gaps(first) == [(5, 10, True), (10, 50, False)]
    rest = first.gaps[1]
    assert not detect(readings[:3], [rest]).gaps
    second = detect(readings, [rest])
    assert opened_gaps(second) == [(10, 15, True), (15, 50, False)]
    assert {part.opened_at for part in (*first.gaps, *second.gaps)} == {NOON + DAY}


@pytest.mark.slow
@given(st.lists(st.sets(st.integers(1, 58)), min_size=1, max_size=5), st.integers(1, 2))
def test_for_any_arrivals_in_any_order_the_open_gaps_are_those_of_the_readings(
    arrivals: list[set[int]], checks: int
) -> None:
    """Checks between arrivals end with the same gaps as one check at the end. Their changes can be replayed."""
    slots_present, open_gaps = {0, 59}, dict[datetime, Gap]()
    for number, arrival in enumerate(arrivals):
        slots_present |= arrival
        for _ in range(checks):
            changes = detect(slots(*slots_present), list(open_gaps.values()), at=LATER + number * HOUR)
            while True:
                for gap in changes.gaps:
                    assert gap != open_gaps.get(gap.after), "no change is repeated"
                    if gap.healed_at:
                        del open_gaps[gap.after]
                    else:
                        open_gaps[gap.after] = gap
                if not changes.has_more:
                    break
                changes = detect(slots(*slots_present), list(open_gaps.values()), at=LATER + number * HOUR)
    at = sorted(slots_present)
    expected = [(a, b) for a, b in itertools.pairwise(at) if b - a > 1]
    around = [((g.after - NOON) / MINUTE / 5, (g.before - NOON) / MINUTE / 5) for g in sort_gaps(open_gaps) if g.before]
    assert around == expected


def sort_gaps(gaps: dict[datetime, Gap]) -> list[Gap]:
    return [gaps[after] for after in sorted(gaps)]


def test_the_first_reading_after_a_suspected_gap_is_returned() -> None:
    readings = slots(0, 1, 4, 5)
    assert first_suspected_gap(readings, 300, since=None) == NOON + 20 * MINUTE
    assert first_suspected_gap(readings, 300, since=NOON) == NOON + 20 * MINUTE
    assert first_suspected_gap(readings, 300, since=NOON + 20 * MINUTE) is None
