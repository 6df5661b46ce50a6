"""What the simulated provider wrote down of its calls, and what of them was late or done by two."""

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
"""Where a replica finds the provider, before its own name."""

LATE_SECONDS = 30.0
"""Seconds after which a call was not for an instant, if there is another that it may have been for."""

VISIBILITY_TOLERANCE = timedelta(seconds=0.3)
"""A reading that came to be shown so soon after a call arrived may or may not be in its answer."""


class Call(msgspec.Struct, frozen=True, array_like=True):
    """One call as the provider saw it arrive. ``at`` in seconds since 1970; ``login`` whose access token it had."""

    at: float
    caller: str
    endpoint: str
    login: str
    status: int


class Due(NamedTuple):
    """When a user's next poll should have been, when it was (None: not at all), and how late that is, in seconds."""

    login: str
    due: float
    call: Call | None
    lag: float


class SensorTimes(NamedTuple):
    """What decides when a user is polled: what the sensor measured, ascending, and how often we may look."""

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
    """Yield when each poll was due by what the one before could see, the last one only if that was before the end."""
    for before, after in pairwise([*calls, None]):
        if before is None:
            return
        expected = _expected_dues(before, wearing)
        if not expected:  # nothing was ever shown of this sensor
            continue
        if after is None:
            if expected[-1] < end:
                yield Due(login, expected[-1], None, end - expected[-1])
            return
        due = _nearest_due(expected, after)
        yield Due(login, due, after, after.at - due)


def _nearest_due(expected: Sequence[float], call: Call) -> float:
    """Return which instant a call was for; who took over and looked at once may come long before the later one."""
    return min(expected, key=lambda each: (call.at - each > LATE_SECONDS, abs(call.at - each)))


def _expected_dues(before: Call, wearing: SensorTimes) -> list[float]:
    """Return when the next poll is due, twice where it is not sure what the one before was shown."""
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
