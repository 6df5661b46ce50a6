"""Active faults, and their effect on calls and readings."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec

from bg_ingest.simulator.faults import AnswerFault, CallFault, Endpoint, Fault, Late, ReadingFault, Revised
from bg_ingest.simulator.journal import Event, FaultAdded, FaultMet, FaultRemoved
from bg_ingest.simulator.options import chance, key_of
from bg_ingest.simulator.readings import TrueReading, clamp_to_display


class ActiveFault(msgspec.Struct):
    fault: Fault
    met: int = 0
    """Number of affected calls."""
    matched_calls: int = 0


class ActiveFaults:
    """Faults by number, in the order of their addition. Every change is recorded as an event first."""

    def __init__(self, seed: int, now: Callable[[], datetime], record: Callable[[Event], None]) -> None:
        self._seed = seed
        self._now = now
        self._record = record
        self.all: dict[int, ActiveFault] = {}
        self._last_number = 0

    def apply(self, event: Event) -> None:
        match event:
            case FaultAdded(number=number, fault=fault):
                self._last_number = number
                self.all[number] = ActiveFault(fault)
            case FaultMet(number=number):
                self.all[number].met += 1
            case FaultRemoved(number=number):
                self.all.pop(number, None)

    def add(self, fault: Fault) -> int:
        number = self._last_number + 1
        self._record(FaultAdded(at=self._now(), number=number, fault=fault))
        return number

    def remove(self, number: int) -> bool:
        """Remove a fault; return False for an unknown number."""
        known = number in self.all
        if known:
            self._record(FaultRemoved(at=self._now(), number=number))
        return known

    def select(self, endpoint: Endpoint, user: str | None) -> list[Fault]:
        """Return the faults that affect this call, in order, with at most one that replaces the answer."""
        call_faults: list[Fault] = []
        for number, active in list(self.all.items()):
            fault = active.fault
            if not isinstance(fault, CallFault) or not self._matches(fault, endpoint, user):
                continue
            if isinstance(fault, AnswerFault) and any(isinstance(other, AnswerFault) for other in call_faults):
                continue
            if self._takes_effect(number, active, fault):
                call_faults.append(fault)
        return call_faults

    def _matches(self, fault: CallFault, endpoint: Endpoint, user: str | None) -> bool:
        return (
            fault.endpoint in ("any", endpoint)
            and fault.user in (None, user)
            and (fault.until is None or self._now() < fault.until)
        )

    def _takes_effect(self, number: int, active: ActiveFault, fault: CallFault) -> bool:
        if fault.count is not None and active.met >= fault.count:
            return False
        active.matched_calls += 1
        if chance(key_of(self._seed, "fault", number), active.matched_calls) >= fault.probability:
            return False
        if fault.count is None:
            active.met += 1
        else:
            self._record(FaultMet(at=self._now(), number=number))
        return True

    def readings(self, user: str, true: Iterable[TrueReading], at: datetime | None) -> Sequence[TrueReading]:
        """Return the readings visible at `at`; if `at` is None, all readings after all delays and revisions."""
        faults = [active.fault for active in self.all.values() if active.fault.user in (None, user)]
        faults = [fault for fault in faults if isinstance(fault, ReadingFault)]
        if not faults:
            return list(true)
        return [changed for reading in true if (changed := _apply_reading_faults(reading, faults, at))]


def _apply_reading_faults(reading: TrueReading, faults: Iterable[Fault], at: datetime | None) -> TrueReading | None:
    for fault in faults:
        match fault:
            case Late(start=start, end=end, shown_at=shown_at):
                if start <= reading.measured_at < end and at is not None and at < shown_at:
                    return None
            case Revised(start=start, end=end, revised_at=revised_at, by=by):
                if start <= reading.measured_at < end and (at is None or at >= revised_at):
                    value, flag = clamp_to_display(reading.glucose_mg_dl + by)
                    reading = msgspec.structs.replace(reading, glucose_mg_dl=value, flag=flag)
    return reading
