"""Recorded calls of the simulated provider, with their lateness and duplicates from two replicas."""

from bisect import bisect
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import msgspec

from bg_ingest.domain.schedule import Rhythm, next_poll

FROM = "/from/"
"""Address of the provider for a replica, completed by the replica's name."""

LATE_SECONDS = 30.0
"""Largest lateness in seconds of a call for an instant, if the call may also belong to another instant."""

VISIBILITY_TOLERANCE = timedelta(seconds=0.3)
"""Tolerance of the time of a call: a reading shown within it after the call's arrival may or may not be returned."""


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One call at its arrival. ``at`` in seconds since 1970; ``login`` is the owner of the call's access token."""

    at: float
    caller: str
    endpoint: str
    login: str
    status: int


class Due(NamedTuple):
    """Due time of a user's poll, its call (None if there was none), and the lateness in seconds."""

    login: str
    due: float
    call: Call | None
    lag: float


class SensorTimes(NamedTuple):
    """Inputs of a user's schedule: times of the sensor's readings, ascending, and the least interval of polls."""

    measured: Sequence[datetime]
    rhythm: Rhythm


def read_calls(file: Path) -> dict[str, list[Call]]:
    """Return the answered data calls of each login, in the order of their arrival."""
    found: dict[str, list[Call]] = defaultdict(list)
    for call in msgspec.json.Decoder(Call).decode_lines(file.read_bytes()):
        if call.endpoint == "egvs" and call.status == 200:
            found[call.login].append(call)
    for calls in found.values():
        calls.sort(key=lambda call: call.at)
    return found


def dues(login: str, calls: Sequence[Call], wearing: SensorTimes, end: float) -> Iterable[Due]:
    """Yield each poll's due time by the readings visible to the one before; the last only if due before the end."""
    for before, after in pairwise([*calls, None]):
        if before is None:
            return
        expected = _expected_dues(before, wearing)
        if not expected:  # no reading of this sensor was ever shown
            continue
        if after is None:
            if expected[-1] < end:
                yield Due(login, expected[-1], None, end - expected[-1])
            return
        due = _nearest_due(expected, after)
        yield Due(login, due, after, after.at - due)


def _nearest_due(expected: Sequence[float], call: Call) -> float:
    """Return the instant of a call. A new owner polls at once, maybe long before the later instant."""
    return min(expected, key=lambda each: (call.at - each > LATE_SECONDS, abs(call.at - each)))


def _expected_dues(before: Call, wearing: SensorTimes) -> list[float]:
    """Return the due time of the next poll, two candidates if the answer of the one before is uncertain."""
    at = datetime.fromtimestamp(before.at, UTC)
    expected = []
    for seen_at in (at, at + VISIBILITY_TOLERANCE):
        shown = bisect(wearing.measured, seen_at - wearing.rhythm.delay)
        if shown:
            expected.append(next_poll(wearing.measured[shown - 1], seen_at, wearing.rhythm).timestamp())
    return expected


def doubled_calls(
    calls: Mapping[str, Sequence[Call]], *, within: float, start: float, end: float
) -> list[tuple[Call, Call]]:
    """Return neighbouring polls of one user by two callers that lie closer together than slots do, in [start, end)."""
    return [
        (earlier, later)
        for some in calls.values()
        for earlier, later in pairwise(some)
        if start <= later.at < end and earlier.caller != later.caller and later.at - earlier.at < within
    ]


def calls_after_successor(calls: Iterable[Sequence[Call]], caller: str, start: float, end: float) -> int:
    """Count a caller's calls in [start, end) that came after another's for the same user in that time."""
    late = 0
    for some in calls:
        taken = False
        for call in some:
            if start <= call.at < end:
                taken |= call.caller != caller
                late += taken and call.caller == caller
    return late
