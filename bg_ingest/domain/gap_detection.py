"""Detection of gaps: pure, so that a repeated check finds the same gaps.

The shown readings of all sensors of a connection count as one series: a second display of a sensor, or a second sensor,
fills the first one's gap. LOW and HIGH count as readings.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from bg_ingest.domain.gaps import Cause, Gap, missing_count
from bg_ingest.domain.polling import Outcome
from bg_ingest.domain.readings import Reading, Sensor
from bg_ingest.domain.schedule import learn_cadence

MAX_GAPS_PER_COMMIT = 20
"""Bound on the gaps that one commit opens and heals: each is a change, and a transaction holds 100 items."""

SENSOR_CHANGE_TIME = timedelta(minutes=30)
"""Time a person takes to change a sensor, in addition to its warm-up."""

DEFAULT_WARM_UP = timedelta(hours=2)
"""Warm-up of a sensor generation that the provider does not list."""

SILENCE_CAUSES = {
    Outcome.READ: Cause.PROVIDER_HAS_NOTHING,
    Outcome.NOTHING_NEW: Cause.PROVIDER_HAS_NOTHING,
    Outcome.UNAVAILABLE: Cause.PROVIDER_FAILING,
    Outcome.MISBEHAVED: Cause.PROVIDER_FAILING,
    Outcome.THROTTLED: Cause.THROTTLED,
    Outcome.FORBIDDEN: Cause.PROVIDER_FORBIDDEN,
    Outcome.REFUSED: Cause.REAUTHORIZATION_REQUIRED,
}
"""Cause of a silence by the outcome of the last poll. Any other outcome is a failure on our side."""


class GapChanges(msgspec.Struct, frozen=True):
    """Result of a check: gaps that are new, changed or healed, oldest first."""

    gaps: tuple[Gap, ...]
    checked_until: datetime
    """Measurement time up to which all gaps are checked now."""
    has_more: bool
    """True if one commit could not hold all changes."""


class GapContext(msgspec.Struct, frozen=True):
    """Facts about a connection besides its readings."""

    cadence_seconds: int
    """Default for a device with too few readings to learn its cadence."""
    warm_ups: Mapping[str, timedelta]
    """By sensor generation."""
    silence_cause: Cause


Pair: TypeAlias = tuple[Reading, Reading | None]


def first_suspected_gap(
    readings: Sequence[Reading], cadence_seconds: int, *, since: datetime | None
) -> datetime | None:
    """Return the time of the first reading after ``since`` that follows a suspected gap; readings are ascending."""
    suspected = (
        later.measured_at
        for earlier, later in pairwise(readings)
        if since is None or since < later.measured_at
        if missing_count(earlier.measured_at, later.measured_at, cadence_seconds)
    )
    return next(suspected, None)


def detect_gaps(
    readings: Sequence[Reading],
    known: Iterable[Gap],
    context: GapContext,
    *,
    until: datetime,
    silent: bool,
    at: datetime,
) -> GapChanges:
    """Compare the gaps between a connection's readings (ascending, at least one) with its known open gaps.

    A pair of neighbours is checked only if the later one was measured by ``until``, because readings missing between
    younger ones may still arrive. An open silence is always checked. ``silent`` opens a silence after the last reading.
    The unchecked remainder of an open gap stays open, so that gaps found in it later keep its opening time.
    """
    open_before = {gap.after: gap for gap in known if gap.healed_at is None}
    pairs = _checkable_pairs(readings, open_before, until)
    last = readings[len(pairs)]
    reached = last.measured_at
    if silent and last is readings[-1]:
        pairs.append((last, None))
    elif (around := _gap_around(reached, open_before)) and around.before:
        pairs.append((last, replace(last, measured_at=around.before)))
    own_cadences = learn_cadences(readings, context.cadence_seconds)
    current_gaps = {gap.after: gap for gap in _find_gaps(pairs, open_before, own_cadences, context, at)}
    passed = {earlier.measured_at for earlier, _ in pairs}
    healed = [
        replace(gap, healed_at=at, before=_healed_end(gap, current_gaps, reached))
        for after, gap in open_before.items()
        if after in passed and after not in current_gaps
    ]
    changed = [gap for after, gap in current_gaps.items() if gap != open_before.get(after)]
    gaps = sorted([*healed, *changed], key=lambda gap: gap.after)
    if len(gaps) > MAX_GAPS_PER_COMMIT:
        return _first_changes(gaps, open_before, reached)
    return GapChanges(tuple(gaps), reached, has_more=False)


def _first_changes(gaps: Sequence[Gap], known: Mapping[datetime, Gap], reached: datetime) -> GapChanges:
    """Return the changes of one commit.

    If the next change is inside an open gap, the last gap of this commit extends to the end of the open gap, so that
    gaps found in it later keep its opening time. The next check shortens the extended gap.
    """
    *first, last = gaps[:MAX_GAPS_PER_COMMIT]
    next_start = gaps[MAX_GAPS_PER_COMMIT].after
    around = _gap_around(next_start, known)
    if around is None:
        return GapChanges((*first, last), next_start, has_more=True)
    if last.after != around.after:  # else the open gap stays as it is
        first.append(replace(last, before=around.before or reached))
    return GapChanges(tuple(first), last.after, has_more=True)


def _checkable_pairs(readings: Sequence[Reading], known: Mapping[datetime, Gap], until: datetime) -> list[Pair]:
    silences = [after for after, gap in known.items() if gap.before is None]
    pairs: list[Pair] = []
    for earlier, later in pairwise(readings):
        if later.measured_at > until and not any(earlier.measured_at <= after for after in silences):
            break
        pairs.append((earlier, later))
    return pairs


def _find_gaps(
    pairs: Iterable[Pair],
    known: Mapping[datetime, Gap],
    own_cadences: Mapping[Sensor, int],
    context: GapContext,
    at: datetime,
) -> Iterator[Gap]:
    """Yield the gaps inside the pairs. The remainder of an open gap keeps the gap's opening time."""
    for earlier, later in pairs:
        after, before = earlier.measured_at, later.measured_at if later else None
        open_gap = known.get(after)
        cadences = (own_cadences[reading.device.sensor] for reading in (earlier, later) if reading)
        cadence = open_gap.cadence_seconds if open_gap else max(cadences)
        if before is not None and not missing_count(after, before, cadence):
            continue
        if open_gap and open_gap.before == before:
            yield open_gap
            continue
        earlier_gap = open_gap or _gap_around(after, known)
        opened_at = earlier_gap.opened_at if earlier_gap else at
        cause = _cause(earlier, later, context)
        yield Gap(after=after, before=before, cadence_seconds=cadence, cause=cause, opened_at=opened_at)


def _gap_around(instant: datetime, known: Mapping[datetime, Gap]) -> Gap | None:
    around = (gap for gap in known.values() if gap.after < instant and (gap.before is None or instant < gap.before))
    return next(around, None)


def _healed_end(gap: Gap, current_gaps: Mapping[datetime, Gap], reached: datetime) -> datetime:
    """Return the end of the part that was filled: the end of the gap, or the start of the next one."""
    return min([gap.before or reached, *(after for after in current_gaps if after > gap.after)])


def _cause(earlier: Reading, later: Reading | None, context: GapContext) -> Cause:
    if later is None:
        return context.silence_cause
    if earlier.device.transmitter == later.device.transmitter or later.device.transmitter is None:
        return Cause.PROVIDER_HAS_NOTHING
    warm_up = context.warm_ups.get(later.device.generation, DEFAULT_WARM_UP)
    lasted = later.measured_at - earlier.measured_at
    return Cause.SENSOR_WARM_UP if lasted <= warm_up + SENSOR_CHANGE_TIME else Cause.PROVIDER_HAS_NOTHING


def learn_cadences(readings: Sequence[Reading], default: int) -> Mapping[Sensor, int]:
    """Return the cadence of each sensor in seconds; the default if it has too few readings."""
    measured: dict[Sensor, list[datetime]] = {}
    for reading in readings:
        measured.setdefault(reading.device.sensor, []).append(reading.measured_at)
    learned = {sensor: learn_cadence(times) for sensor, times in measured.items()}
    return {sensor: int(cadence.total_seconds()) if cadence else default for sensor, cadence in learned.items()}
