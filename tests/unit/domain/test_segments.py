"""Merge of batches into segments: nothing is lost or stored twice, in any split and repetition."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bg_ingest.domain.readings import Device, Flag, Reading, StoredReading
from bg_ingest.domain.segments import (
    MAX_READINGS_PER_COMMIT,
    MAX_SEGMENTS_PER_COMMIT,
    MAX_VERSIONS,
    SEGMENT_HOURS,
    Decision,
    KnownSegments,
    decide,
    segment_start,
    split_batch,
)
from tests.conftest import examples

quick = settings(max_examples=examples(60))

FIRST = datetime(2026, 3, 1, tzinfo=UTC)
DEVICES = [Device("acme", "a", transmitter, "phone") for transmitter in (None, "", "t")]

instants_of_day = st.integers(-3000, 3000).map(lambda minutes: FIRST + timedelta(minutes=minutes))
readings = st.builds(
    Reading,
    instants_of_day,
    st.integers(39, 45),
    st.sampled_from(Flag),
    st.sampled_from(DEVICES),
    utc_offset_seconds=st.none(),
)
batches = st.lists(readings, max_size=40, unique_by=lambda reading: reading.identity)
instants = st.integers(0, 10**10).map(lambda n: datetime.fromtimestamp(n, UTC))


def apply_decision(known: KnownSegments, decision: Decision) -> KnownSegments:
    return known | {segment.start: segment for segment in decision.segments}


def stored_values(known: KnownSegments) -> list[StoredReading]:
    return [stored for _, segment in sorted(known.items()) for stored in segment.readings]


def fold(all_batches: list[list[Reading]]) -> tuple[KnownSegments, list[Decision], int]:
    """Merge one batch after the other, as commits do."""
    known: KnownSegments = {}
    decisions: list[Decision] = []
    last = 0
    for number, batch in enumerate(all_batches):
        decision = decide(known, batch, at=FIRST + timedelta(seconds=number), last_change=last)
        last += bool(decision.recorded) + bool(decision.revised)
        known = apply_decision(known, decision)
        decisions.append(decision)
    return known, decisions, last


@pytest.mark.slow
@quick
@given(st.lists(batches, max_size=5))
def test_the_last_value_of_every_identity_is_kept_once(all_batches: list[list[Reading]]) -> None:
    known, _, _ = fold(all_batches)
    expected = {reading.identity: reading for batch in all_batches for reading in batch}
    all_stored = stored_values(known)
    assert len(all_stored) == len(expected)
    assert {stored.reading.identity: (stored.reading.glucose_mg_dl, stored.reading.flag) for stored in all_stored} == {
        identity: (reading.glucose_mg_dl, reading.flag) for identity, reading in expected.items()
    }


@pytest.mark.slow
@quick
@given(st.lists(batches, max_size=4), st.randoms(use_true_random=False))
def test_the_same_batch_again_changes_nothing(all_batches: list[list[Reading]], random: Random) -> None:
    known, _, last = fold(all_batches)
    again = [stored.reading for stored in stored_values(known)]
    random.shuffle(again)
    decision = decide(known, again, at=FIRST + timedelta(days=1), last_change=last)
    assert decision == Decision((), (), (), len(again), ())


@pytest.mark.slow
@quick
@given(st.lists(batches, max_size=5))
def test_every_reading_of_a_batch_is_counted_once(all_batches: list[list[Reading]]) -> None:
    _, decisions, _ = fold(all_batches)
    for batch, decision in zip(all_batches, decisions, strict=True):
        published = len(decision.recorded) + len(decision.revised) + len(decision.rejected)
        assert published + decision.duplicates == len(batch)


@pytest.mark.slow
@quick
@given(st.lists(batches, max_size=5))
def test_every_earlier_value_is_kept_in_order(all_batches: list[list[Reading]]) -> None:
    known, _, _ = fold(all_batches)
    expected_values: dict[object, list[tuple[int, Flag]]] = {}
    for reading in (reading for batch in all_batches for reading in batch):
        values = expected_values.setdefault(reading.identity, [])
        if not values or values[-1] != (reading.glucose_mg_dl, reading.flag):
            values.append((reading.glucose_mg_dl, reading.flag))
    for stored in stored_values(known):
        earlier = [(version.glucose_mg_dl, version.flag) for version in stored.earlier]
        current = (stored.reading.glucose_mg_dl, stored.reading.flag)
        assert [*earlier, current] == expected_values[stored.reading.identity]
        changes = [*(version.change for version in stored.earlier), stored.change]
        assert changes == sorted(set(changes))


@pytest.mark.slow
@quick
@given(st.lists(batches, max_size=5))
def test_published_readings_are_the_stored_ones_under_the_next_numbers(all_batches: list[list[Reading]]) -> None:
    known: KnownSegments = {}
    last = 0
    for number, batch in enumerate(all_batches):
        at = FIRST + timedelta(seconds=number)
        decision = decide(known, batch, at=at, last_change=last)
        known = apply_decision(known, decision)
        published = [group for group in (decision.recorded, decision.revised) if group]
        assert [{stored.change for stored in group} for group in published] == [
            {last + 1 + n} for n in range(len(published))
        ]
        assert all(
            stored.recorded_at == at and stored in stored_values(known) for group in published for stored in group
        )
        last += len(published)


@pytest.mark.slow
@quick
@given(st.lists(batches, max_size=5))
def test_a_segment_holds_its_own_six_hours_ascending_and_the_change_that_wrote_it(
    all_batches: list[list[Reading]],
) -> None:
    _, decisions, last = fold(all_batches)
    for decision in decisions:
        fresh = {stored.reading.identity: stored.change for stored in (*decision.recorded, *decision.revised)}
        for segment in decision.segments:
            times = [stored.reading.measured_at for stored in segment.readings]
            assert times == sorted(times)
            assert {segment_start(at) for at in times} == {segment.start}
            own = [stored.change for stored in segment.readings if stored.reading.identity in fresh]
            assert segment.change == max(own) <= last


def test_a_reading_with_too_many_revisions_is_rejected_and_the_others_are_kept() -> None:
    values = [[Reading(FIRST, 100 + n, Flag.OK, DEVICES[2])] for n in range(MAX_VERSIONS + 2)]
    known, decisions, last = fold(values)
    assert [len(decision.rejected) for decision in decisions] == [0] * (MAX_VERSIONS + 1) + [1]
    (stored,) = stored_values(known)
    assert stored.reading.glucose_mg_dl == 100 + MAX_VERSIONS
    assert len(stored.earlier) == MAX_VERSIONS
    assert b"117" in decisions[-1].rejected[0].raw

    other = Reading(FIRST + timedelta(minutes=5), 90, Flag.OK, DEVICES[2])
    decision = decide(known, [*values[0], other], at=FIRST + timedelta(days=1), last_change=last)
    assert [stored.reading for stored in decision.recorded] == [other]
    assert len(decision.rejected) == 1


@pytest.mark.slow
@quick
@given(st.lists(readings, max_size=400), st.integers(1, 60))
def test_parts_are_bounded_and_ascending_and_hold_every_reading_once(batch: list[Reading], spread: int) -> None:
    batch = [reading for reading in batch for _ in range(1 + spread % 2)]
    parts = list(split_batch(batch))
    joined = [reading for part in parts for reading in part]
    expected = {reading.identity: reading for reading in batch}
    assert sorted(map(repr, joined)) == sorted(map(repr, expected.values()))
    times = [reading.measured_at for reading in joined]
    assert times == sorted(times)
    for part in parts:
        assert 0 < len(part) <= MAX_READINGS_PER_COMMIT
        assert len({segment_start(reading.measured_at) for reading in part}) <= MAX_SEGMENTS_PER_COMMIT


def test_parts_of_a_dense_and_a_sparse_batch_are_as_large_as_allowed() -> None:
    dense = [Reading(FIRST + timedelta(minutes=n), 100, Flag.OK, DEVICES[2]) for n in range(1000)]
    sparse = [Reading(FIRST + timedelta(hours=6 * n), 100, Flag.OK, DEVICES[2]) for n in range(20)]
    assert [len(part) for part in split_batch(dense)] == [288, 288, 288, 136]
    assert [len(part) for part in split_batch(sparse)] == [8, 8, 4]
    assert list(split_batch([])) == []


@quick
@given(instants)
def test_an_instant_lies_in_a_segment_that_starts_at_most_six_hours_before(instant: datetime) -> None:
    start = segment_start(instant)
    assert start <= instant < start + timedelta(hours=SEGMENT_HOURS)
    assert (start.hour % SEGMENT_HOURS, start.minute, start.second, start.microsecond) == (0, 0, 0, 0)
