"""Simulated Dexcom without HTTP: users, their readings, grants and faults."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from bg_ingest.simulator.active import ActiveFaults
from bg_ingest.simulator.faults import Endpoint, Fault
from bg_ingest.simulator.grants import Grants
from bg_ingest.simulator.journal import Began, Event, Journal, Revoked
from bg_ingest.simulator.options import SimulatorOptions
from bg_ingest.simulator.readings import SimulatedWearer, TrueReading, Wearer
from bg_ingest.simulator.replay import ReplayedWearer
from bg_ingest.simulator.users import person

_DAY = timedelta(days=1)
_WINDOW_MINUTES = 60


class UnknownUser(LookupError):
    """The simulator has no user of this name."""


class CallLimit:
    """Sliding window in buckets of a minute: an allowed call counts for 60 minutes. Refused calls do not count."""

    def __init__(self, calls_per_hour: int) -> None:
        self.calls_per_hour = calls_per_hour
        self.taken = self.max_taken = self.refused = 0
        self._minutes: deque[list[int]] = deque()

    def acquire(self, now: datetime) -> bool:
        """Count a call and return True if it is allowed."""
        minute = int(now.timestamp()) // 60
        while self._minutes and self._minutes[0][0] <= minute - _WINDOW_MINUTES:
            self.taken -= self._minutes.popleft()[1]
        if self.taken >= self.calls_per_hour:
            self.refused += 1
            return False
        if not self._minutes or self._minutes[-1][0] != minute:
            self._minutes.append([minute, 0])
        self._minutes[-1][1] += 1
        self.taken += 1
        self.max_taken = max(self.max_taken, self.taken)
        return True


class Simulator:
    """State and operations behind the routes, for tests to use directly. With a journal, a restart keeps the state."""

    def __init__(self, options: SimulatorOptions, *, now: Callable[[], datetime], journal: Path | None = None) -> None:
        self.options = options
        self.now = now
        self.limit = CallLimit(options.calls_per_hour)
        self.calls: Counter[tuple[Endpoint, int]] = Counter()
        self.grants = Grants(options, now, self._record)
        self.faults = ActiveFaults(options.seed, now, self._record)
        self._journal = Journal(journal)
        self._readings_from = now() - options.days_back * _DAY
        self._resume()
        self.wearers = {wearer.name: wearer for wearer in self._create_wearers()}
        self._revoke_unknown_users()

    def _resume(self) -> None:
        events = list(self._journal.replay())
        for event in events:
            self._apply(event)
        if not events:
            self._record(Began(at=self.now(), readings_from=self._readings_from))

    def _revoke_unknown_users(self) -> None:
        """Revoke the grants of users that do not exist after a restart with fewer users."""
        for user in {grant.user for grant in self.grants.alive.values()} - self.wearers.keys():
            self._record(Revoked(at=self.now(), user=user))

    def _create_wearers(self) -> Iterator[Wearer]:
        options = self.options
        if options.replay is not None:
            yield ReplayedWearer(options.replay, options.zone)
        for number in range(1, options.users + 1):
            yield SimulatedWearer(options.seed, person(number), options.cadence_minutes, self._readings_from)

    def _record(self, event: Event) -> None:
        self._journal.append(event)
        self._apply(event)

    def _apply(self, event: Event) -> None:
        if isinstance(event, Began):
            self._readings_from = event.readings_from
        self.grants.apply(event)
        self.faults.apply(event)

    def wearer(self, user: str) -> Wearer:
        """Return the wearer of this name; raise UnknownUser."""
        try:
            return self.wearers[user]
        except KeyError:
            raise UnknownUser(f"No user {user!r}: there are SandboxUser1 to SandboxUser{self.options.users}.") from None

    def truth(self, user: str, start: datetime, end: datetime, at: datetime | None = None) -> Sequence[TrueReading]:
        """Return the readings of [start, end], both ends included, oldest first, without the effect of call faults.

        With `at`, the readings visible at that instant; without it, the final state after all late readings and
        revisions. Raises UnknownUser.
        """
        last = end if at is None else min(end, at - timedelta(seconds=self.options.delay_seconds))
        return self.faults.readings(user, self.wearer(user).readings(start, last), at)

    def extent(self, user: str, at: datetime) -> tuple[TrueReading, TrueReading] | None:
        """Return the oldest and newest reading visible at an instant; None if no reading is."""
        wearer = self.wearer(user)
        last = min(at, wearer.last or at)
        starts = [wearer.first + number * _DAY for number in range((last - wearer.first) // _DAY + 1)]
        days = [(start, min(start + _DAY, last)) for start in starts]
        oldest = next((shown[0] for a, b in days if (shown := self.truth(user, a, b, at))), None)
        newest = next((shown[-1] for a, b in reversed(days) if (shown := self.truth(user, a, b, at))), None)
        return (oldest, newest) if oldest and newest else None

    def add_fault(self, fault: Fault) -> int:
        """Add a fault and return its number. Raises UnknownUser."""
        if fault.user is not None:
            self.wearer(fault.user)
        return self.faults.add(fault)

    def clear_faults(self) -> None:
        for number in list(self.faults.all):
            self.faults.remove(number)

    def revoke(self, user: str) -> None:
        """Revoke every grant of the user. Their access and refresh tokens become invalid. Raises UnknownUser."""
        self._record(Revoked(at=self.now(), user=self.wearer(user).name))
