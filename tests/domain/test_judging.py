import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from bg_ingest.domain.gaps import Cause, Gap, missing
from bg_ingest.domain.judging import MOST_GAPS, Judgement, Signs, judge, lacks_until
from bg_ingest.domain.readings import Device, Flag, Reading
from bg_ingest.domain.repairs import next_ask, to_ask

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
LATER = NOON + 100 * DAY
PHONE = Device("acme", "account-1", "sensor-1", "iOS", "g7")
SIGNS = Signs(300, {"g7": 30 * MINUTE, "g6": 2 * HOUR}, Cause.PROVIDER_HAS_NOTHING)


def reading(minute: float, device: Device = PHONE, flag: Flag = Flag.OK) -> Reading:
    return Reading(NOON + minute * MINUTE, 110, flag, device)


def judged(
    readings: Sequence[Reading],
    known: Sequence[Gap] = (),
    *,
    until: datetime = LATER,
    silent: bool = False,
    at: datetime = LATER,
) -> Judgement:
    ordered = sorted(readings, key=lambda each: each.measured_at)
    return judge(ordered, known, SIGNS, until=until, silent=silent, at=at)


def slots(*numbers: int, device: Device = PHONE) -> list[Reading]:
    return [reading(5 * number, device) for number in numbers]


def found(judgement: Judgement) -> list[tuple[float, float | None, bool]]:
    """Minutes of the readings around each, and whether it has healed."""
    return [
        ((g.after - NOON) / MINUTE, (g.before - NOON) / MINUTE if g.before else None, g.healed_at is not None)
        for g in judgement.gaps
    ]


def test_what_lacks_between_two_readings_is_a_gap_of_so_many() -> None:
    (gap,) = judged(slots(0, 1, 2, 6, 7)).gaps
    assert (gap.start, gap.before, gap.missing) == (NOON + 15 * MINUTE, NOON + 30 * MINUTE, 3)


def test_a_reading_at_the_edge_of_its_slot_lacks_nothing() -> None:
    assert not judged([reading(0), reading(7.5), reading(12.5)]).gaps
    assert len(judged([reading(0), reading(7.6), reading(12.5)]).gaps) == 1


def test_low_and_high_are_readings() -> None:
    assert not judged([reading(0), reading(5, flag=Flag.LOW), reading(10, flag=Flag.HIGH), reading(15)]).gaps


def test_two_displays_of_one_sensor_fill_each_others_gaps() -> None:
    receiver = msgspec.structs.replace(PHONE, display="receiver")
    assert not judged([*slots(0, 1, 2, 5, 6), *slots(0, 2, 3, 4, 5, device=receiver)]).gaps


def test_of_two_sensors_worn_at_once_one_is_enough() -> None:
    other = msgspec.structs.replace(PHONE, transmitter="sensor-2")
    assert not judged([*slots(0, 1, 2, 9, 10, 11), *[reading(5 * n + 2, other) for n in range(12)]]).gaps


def test_a_new_sensor_warms_up_and_a_longer_pause_is_none() -> None:
    new = msgspec.structs.replace(PHONE, transmitter="sensor-2")
    (warm_up,) = judged([*slots(0, 1), *slots(9, 10, device=new)]).gaps
    assert warm_up.cause is Cause.SENSOR_WARM_UP
    (pause,) = judged([*slots(0, 1), *slots(20, 21, device=new)]).gaps
    assert pause.cause is Cause.PROVIDER_HAS_NOTHING
    (g6,) = judged([*slots(0, 1), *slots(29, 30, device=msgspec.structs.replace(new, generation="g6"))]).gaps
    assert g6.cause is Cause.SENSOR_WARM_UP
    (same,) = judged(slots(0, 1, 9, 10)).gaps
    assert same.cause is Cause.PROVIDER_HAS_NOTHING


def test_each_sensor_is_judged_by_its_own_cadence() -> None:
    fast = msgspec.structs.replace(PHONE, transmitter="fast")
    slow = msgspec.structs.replace(PHONE, transmitter="slow")
    minutes = [reading(n, fast) for n in range(60) if n not in (30, 31)]
    quarters = [reading(75 + 15 * n, slow) for n in range(8) if n != 4]
    gaps = judged([*minutes, *quarters]).gaps
    assert [(gap.cadence_seconds, gap.missing) for gap in gaps] == [(60, 2), (900, 1)]


def test_what_may_still_be_on_its_way_is_not_judged() -> None:
    judgement = judged(slots(0, 1, 5, 6, 9, 10), until=NOON + 30 * MINUTE)
    assert found(judgement) == [(5, 25, False)]
    assert judgement.until == NOON + 30 * MINUTE


def test_a_silence_is_open_without_an_end_and_then_has_one() -> None:
    (silence,) = judged(slots(0, 1), silent=True).gaps
    assert (silence.before, silence.missing) == (None, None)
    assert not judged(slots(0, 1), [silence], silent=True).gaps, "told once"
    ended = judged(slots(0, 1, 7, 8), [silence], until=NOON)
    assert found(ended) == [(5, 35, False)]
    assert ended.until == NOON + 35 * MINUTE, "what is younger stays unjudged"
    assert found(judged(slots(*range(9)), [silence], until=NOON)) == [(5, 10, True)]


def test_late_readings_heal_shrink_and_split() -> None:
    (gap,) = judged(slots(0, 1, 10, 11), at=NOON + DAY).gaps
    assert found(judged(slots(*range(12)), [gap])) == [(5, 50, True)]
    assert found(judged(slots(0, 1, 2, 3, 10, 11), [gap])) == [(5, 15, True), (15, 50, False)]
    assert found(judged(slots(0, 1, 8, 9, 10, 11), [gap])) == [(5, 40, False)]
    split = judged(slots(0, 1, 5, 6, 10, 11), [gap])
    assert found(split) == [(5, 25, False), (30, 50, False)]
    assert {each.opened_at for each in split.gaps} == {NOON + DAY}


def test_more_than_a_commit_holds_is_found_piece_by_piece() -> None:
    readings, known = slots(*range(0, 200, 2)), dict[datetime, Gap]()
    rest, rounds = readings, 0
    while True:
        judgement = judged(rest, list(known.values()))
        known |= {gap.after: gap for gap in judgement.gaps}
        rest = [each for each in readings if each.measured_at >= judgement.until]
        rounds += 1
        if not judgement.more:
            break
        assert len(judgement.gaps) == MOST_GAPS
    assert len(known) == 99
    assert rounds == 5


@given(st.lists(st.sets(st.integers(1, 58)), min_size=1, max_size=5), st.integers(1, 2))
def test_whatever_comes_in_whatever_order_the_open_gaps_are_those_of_the_readings(
    arrivals: list[set[int]], surveys: int
) -> None:
    """Surveys between arrivals end where one survey at the end does; what is told can be replayed."""
    there, open_gaps = {0, 59}, dict[datetime, Gap]()
    for number, arrival in enumerate(arrivals):
        there |= arrival
        for _ in range(surveys):
            judgement = judged(slots(*there), list(open_gaps.values()), at=LATER + number * HOUR)
            while True:
                for gap in judgement.gaps:
                    assert gap != open_gaps.get(gap.after), "nothing is told twice"
                    if gap.healed_at:
                        del open_gaps[gap.after]
                    else:
                        open_gaps[gap.after] = gap
                if not judgement.more:
                    break
                judgement = judged(slots(*there), list(open_gaps.values()), at=LATER + number * HOUR)
    at = sorted(there)
    expected = [(a, b) for a, b in itertools.pairwise(at) if b - a > 1]
    around = [((g.after - NOON) / MINUTE / 5, (g.before - NOON) / MINUTE / 5) for g in ordered(open_gaps) if g.before]
    assert around == expected


def ordered(gaps: dict[datetime, Gap]) -> list[Gap]:
    return [gaps[after] for after in sorted(gaps)]


def test_the_first_reading_is_told_before_which_something_lacks() -> None:
    readings = slots(0, 1, 4, 5)
    assert lacks_until(readings, 300, since=None) == NOON + 20 * MINUTE
    assert lacks_until(readings, 300, since=NOON) == NOON + 20 * MINUTE
    assert lacks_until(readings, 300, since=NOON + 20 * MINUTE) is None


def test_missing_are_counted_between_the_two_around() -> None:
    assert [missing(NOON, NOON + n * MINUTE, 300) for n in (1, 5, 7, 8, 10, 15, 60)] == [0, 0, 0, 1, 1, 2, 11]


def test_open_gaps_are_asked_for_ever_more_seldom_and_then_no_more() -> None:
    (gap,) = judged(slots(0, 1, 10, 11), at=NOON + 2 * HOUR).gaps
    asks, at = [], NOON
    while (due := next_ask([gap], at)) is not None:
        asks.append((due - gap.opened_at) / HOUR)
        at = due
    assert asks == [4, 8, 16, 32, 64, 128, 256, 512]
    window = to_ask([gap], gap.opened_at + 4 * HOUR, gap.opened_at + 5 * HOUR)
    assert window is not None
    assert window.start <= gap.after < (gap.before or LATER) < window.end
    assert to_ask([gap], gap.opened_at + 5 * HOUR, gap.opened_at + 6 * HOUR) is None
    assert next_ask([msgspec.structs.replace(gap, healed_at=LATER)], NOON) is None
    assert next_ask([msgspec.structs.replace(gap, before=None)], NOON) is None
    assert next_ask([msgspec.structs.replace(gap, opened_at=NOON + 40 * DAY)], NOON) is None
