"""Checks of punctual polls by one replica per user, from the calls recorded by the provider."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.schedule import Rhythm
from bg_ingest.simulator import SimulatorOptions, TrueReading
from bg_ingest.simulator.readings import SimulatedWearer
from bg_ingest.simulator.users import person as wearer
from tests.long.chaos.calls import Call, Due, SensorTimes, calls_after_successor, doubled_calls, dues
from tests.long.chaos.replica_faults import Phase
from tests.long.chaos.report import Report
from tests.long.chaos.store_dump import PROVIDER
from tests.long.chaos.users import SimulatedUser

BEFORE = timedelta(hours=6)
"""Age of readings without an effect on the polls of a phase, because sensors are out of reach for three at most."""

INTERVAL = timedelta(seconds=60)

EARLY_SECONDS = -2.0
"""Seconds before the due time. An earlier poll is an additional one, by a new owner that polls at once."""


class Timetable:
    """Due times of each user's polls in a run, from the user's sensor and our schedule."""

    def __init__(
        self,
        options: SimulatorOptions,
        users: Sequence[SimulatedUser],
        calls: Mapping[str, Sequence[Call]],
        start: float,
        end: float,
    ) -> None:
        self._options = options
        self._span = datetime.fromtimestamp(start, UTC) - BEFORE, datetime.fromtimestamp(end, UTC)
        self.dues = [
            due for each in users for due in dues(each.login, calls.get(each.login, ()), self._wearing(each), end)
        ]

    def _wearing(self, person: SimulatedUser) -> SensorTimes:
        delay = timedelta(seconds=self._options.delay_seconds)
        cadence = timedelta(minutes=self._options.cadence_minutes)
        jitter = ConnectionId(UserId(person.user), PROVIDER).jitter
        start, end = self._span
        measured = [each.measured_at for each in measurements(self._options, person, start - delay, end - delay)]
        return SensorTimes(measured, Rhythm(INTERVAL, cadence, delay, jitter))

    def within(self, phase: Phase) -> Iterator[Due]:
        return (each for each in self.dues if phase.start <= each.due < phase.end)


def measurements(
    options: SimulatorOptions, person: SimulatedUser, start: datetime, end: datetime
) -> Sequence[TrueReading]:
    """Return the readings of a user's sensor, generated like the simulator's."""
    number = int(person.login.removeprefix("SandboxUser"))
    return SimulatedWearer(options.seed, wearer(number), options.cadence_minutes, start).readings(start, end)


def check_steady(report: Report, times: Timetable, calls: Mapping[str, Sequence[Call]], phase: Phase) -> None:
    """Check a phase without faults: polls on time, each user by one replica."""
    lags = sorted(each.lag for each in times.within(phase))
    early = sum(lag < EARLY_SECONDS for lag in lags)
    report.check("steady: polls that fell due", len(lags), holds=bool(lags), expected="some")
    report.figure("steady: a second", round(len(lags) / (phase.end - phase.start), 1))
    late = _quantile(lags, 0.99)
    report.check("steady: lag p99, s", round(late, 2), holds=late <= phase.latest, expected=f"{phase.latest:g} at most")
    report.figure("steady: lag p50; p95; at most, s", "; ".join(f"{_quantile(lags, q):.2f}" for q in (0.5, 0.95, 1)))
    report.check("steady: polls before their time", early, holds=not early, expected="0")
    twice = len(doubled_calls(calls, within=INTERVAL.seconds / 2, start=phase.start, end=phase.end))
    report.check("steady: polls by two replicas in one slot", twice, holds=not twice, expected="0")


def check_leaving(report: Report, times: Timetable, calls: Mapping[str, Sequence[Call]], phase: Phase) -> None:
    """Check the lateness of all polls of a phase in which a replica stopped."""
    lags = sorted(each.lag for each in times.within(phase))
    most = _quantile(lags, 1)
    expected = f"{phase.latest:g} at most"
    report.figure(f"{phase.name}: polls that fell due", len(lags))
    report.check(f"{phase.name}: latest poll, s", round(most, 2), holds=most <= phase.latest, expected=expected)
    report.figure(f"{phase.name}: p50; p99, s", f"{_quantile(lags, 0.5):.2f}; {_quantile(lags, 0.99):.2f}")
    twice = len(doubled_calls(calls, within=INTERVAL.seconds / 2, start=phase.start, end=phase.end))
    report.figure(f"{phase.name}: polled again by a new owner", twice)


def check_cut_off(report: Report, calls: Mapping[str, Sequence[Call]], phase: Phase) -> None:
    """Check that a replica that was cut off made no call for a user after a call of the new owner."""
    late = calls_after_successor(calls.values(), phase.whom, phase.start, phase.end)
    report.check("cut off: its calls after a successor's", late, holds=not late, expected="0")
    last = max(
        (c.at for some in calls.values() for c in some if c.caller == phase.whom and c.at < phase.end), default=0
    )
    report.figure("cut off: its last call after, s", round(last - phase.start, 1))


def by_caller(calls: Mapping[str, Sequence[Call]], phase: Phase) -> dict[str, int]:
    """Count the calls of each replica in a phase."""
    return dict(Counter(c.caller for some in calls.values() for c in some if phase.start <= c.at < phase.end))


def _quantile(ascending: Sequence[float], share: float) -> float:
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))] if ascending else float("nan")
