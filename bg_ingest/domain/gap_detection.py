"""Finding gaps: pure, so that looking again finds the same.

All sensors and displays of a connection count as one series: a second display of a sensor, or a second sensor,
fills the first one's gap. LOW and HIGH are readings.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TypeAlias

import msgspec

from bg_ingest.domain.gaps import Cause, Gap, missing_count
from bg_ingest.domain.polling import Outcome
from bg_ingest.domain.readings import Reading
from bg_ingest.domain.schedule import learn_cadence

MAX_GAPS = 20
"""What one commit may open and heal: each is told, and a transaction holds 100 items."""

SENSOR_CHANGE_TIME = timedelta(minutes=30)
"""What a person takes to change a sensor, beside its warm-up."""

DEFAULT_WARM_UP = timedelta(hours=2)
"""Of a sensor generation the provider does not know the warm-up of."""

SILENCE_CAUSES = {
    Outcome.READ: Cause.PROVIDER_HAS_NOTHING,
    Outcome.NOTHING_NEW: Cause.PROVIDER_HAS_NOTHING,
    Outcome.UNAVAILABLE: Cause.PROVIDER_FAILING,
    Outcome.MISBEHAVED: Cause.PROVIDER_FAILING,
    Outcome.THROTTLED: Cause.THROTTLED,
    Outcome.FORBIDDEN: Cause.PROVIDER_FORBIDDEN,
    Outcome.REFUSED: Cause.REAUTHORIZATION_REQUIRED,
}
"""Of a silence, by how the last look ended; any other ending is ours."""


class GapChanges(msgspec.Struct, frozen=True):
    """What a look through readings finds: gaps that are new, have changed, or have healed, oldest first."""

    gaps: tuple[Gap, ...]
    checked_until: datetime
    """The reading up to which all is judged now."""
    has_more: bool
    """Whether there was more to find than one commit may hold."""


class GapContext(msgspec.Struct, frozen=True):
    """What is known of a connection besides its readings."""

    cadence_seconds: int
    """Where the readings of a device are too few to tell."""
    warm_ups: Mapping[str, timedelta]
    """By sensor generation."""
    silence_cause: Cause
    """Why nothing comes, where nothing does."""


Pair: TypeAlias = tuple[Reading, Reading | None]


def first_suspected_gap(
    readings: Sequence[Reading], cadence_seconds: int, *, since: datetime | None
) -> datetime | None:
    """Return the first of the readings (ascending) after an instant before which something seems to lack."""
    found = (
        later.measured_at
        for earlier, later in pairwise(readings)
        if since is None or since < later.measured_at
        if missing_count(earlier.measured_at, later.measured_at, cadence_seconds)
    )
    return next(found, None)


def detect_gaps(
    readings: Sequence[Reading],
    known: Iterable[Gap],
    context: GapContext,
    *,
    until: datetime,
    silent: bool,
    at: datetime,
) -> GapChanges:
    """Compare what lacks between a connection's readings (ascending, at least one) with the open gaps known there.

    Only pairs of which the later was measured by ``until`` are judged: of what is younger, the missing may still be
    on its way. A silence that was open is judged in any case. ``silent`` opens one after the last reading.
    """
    open_before = {each.after: each for each in known if each.healed_at is None}
    pairs = _checkable_pairs(readings, open_before, until)
    last = pairs[-1][1] if pairs else readings[0]
    reached = last.measured_at if last else readings[0].measured_at
    if silent and len(pairs) == len(readings) - 1:
        pairs.append((readings[-1], None))
    current_gaps = dict(_find_gaps(pairs, open_before, learn_cadences(readings, context.cadence_seconds), context, at))
    passed = {earlier.measured_at for earlier, _ in pairs}
    healed = [
        msgspec.structs.replace(old, healed_at=at, before=_healed_end(old, current_gaps, reached))
        for after, old in open_before.items()
        if after in passed and after not in current_gaps
    ]
    changed = [each for after, each in current_gaps.items() if each != open_before.get(after)]
    gaps = sorted([*healed, *changed], key=lambda each: each.after)
    if len(gaps) > MAX_GAPS:
        return GapChanges(tuple(gaps[:MAX_GAPS]), gaps[MAX_GAPS].after, has_more=True)
    return GapChanges(tuple(gaps), reached, has_more=False)


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
    own_cadences: Mapping[tuple[str | None, str], int],
    context: GapContext,
    at: datetime,
) -> Iterable[tuple[datetime, Gap]]:
    """Yield the gaps there are, by what they are after; what is left of an open one has been open as long."""
    for earlier, later in pairs:
        after, before = earlier.measured_at, later.measured_at if later else None
        old = known.get(after)
        cadence = (
            old.cadence_seconds if old else max(own_cadences[_device_key(each)] for each in (earlier, later) if each)
        )
        if before is not None and not missing_count(after, before, cadence):
            continue
        if old and old.before == before:
            yield after, old
            continue
        whole = old or next((each for each in known.values() if _contains(each, after)), None)
        yield (
            after,
            Gap(
                after=after,
                before=before,
                cadence_seconds=cadence,
                cause=_cause(earlier, later, context),
                opened_at=whole.opened_at if whole else at,
            ),
        )


def _contains(gap: Gap, instant: datetime) -> bool:
    return gap.after < instant and (gap.before is None or instant < gap.before)


def _healed_end(old: Gap, current_gaps: Mapping[datetime, Gap], reached: datetime) -> datetime:
    """Return up to where readings have come: the end of the gap, or where the next one begins."""
    ends = [after for after in current_gaps if after > old.after]
    return min([old.before or reached, *ends])


def _cause(earlier: Reading, later: Reading | None, context: GapContext) -> Cause:
    if later is None:
        return context.silence_cause
    if earlier.device.transmitter == later.device.transmitter or later.device.transmitter is None:
        return Cause.PROVIDER_HAS_NOTHING
    warm_up = context.warm_ups.get(later.device.generation, DEFAULT_WARM_UP)
    lasted = later.measured_at - earlier.measured_at
    return Cause.SENSOR_WARM_UP if lasted <= warm_up + SENSOR_CHANGE_TIME else Cause.PROVIDER_HAS_NOTHING


def learn_cadences(readings: Sequence[Reading], default: int) -> Mapping[tuple[str | None, str], int]:
    """Return each device's own cadence in seconds, where it has enough readings to tell."""
    measured: dict[tuple[str | None, str], list[datetime]] = {}
    for each in readings:
        measured.setdefault(_device_key(each), []).append(each.measured_at)
    learned = {device: learn_cadence(times) for device, times in measured.items()}
    return {device: int(each.total_seconds()) if each else default for device, each in learned.items()}


def _device_key(reading: Reading) -> tuple[str | None, str]:
    return reading.device.transmitter, reading.device.display
