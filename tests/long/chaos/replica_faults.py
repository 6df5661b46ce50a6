"""Faults of one of several replicas while all poll: killed, stopped, suspended, cut off from its store."""

import time
from typing import NamedTuple

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.domain.ownership import SHARED_TIMINGS
from tests.long.chaos.fleet import Fleet, Replica
from tests.long.chaos.processes import wait_until
from tests.long.chaos.report import Report, console

SUSPENDED_SECONDS = 60.0
"""Seconds of the suspension: four times the time after which a replica counts as dead."""

SETTLE_SECONDS = 10.0
"""Seconds of the others' polls that are checked after recovery from the fault."""

TAKE_OVER_SECONDS = 1.5 * SHARED_TIMINGS.ttl


class Phase(NamedTuple):
    """Phase of a run: seconds since 1970, the largest lateness of its polls, and the affected replica."""

    name: str
    start: float
    end: float
    latest: float
    whom: str = ""


def now() -> float:
    return SystemClock().now().timestamp()


def kill(fleet: Fleet, one: Replica, report: Report) -> Phase:
    """Kill it with -9, let the others take over, and start it again."""
    console.print(f"kill -9 {one.name}")
    start = now()
    one.process.kill()
    fleet.get_balanced()
    report.figure("kill -9: the others serve all after, s", round(now() - start, 1))
    time.sleep(SETTLE_SECONDS)
    return _wait_balanced(fleet, one, Phase("kill -9", start, now(), TAKE_OVER_SECONDS, one.name))


def stop(fleet: Fleet, one: Replica, report: Report) -> Phase:
    """Send SIGTERM; the others take each shard as it is released."""
    console.print(f"SIGTERM {one.name}")
    start = now()
    code, seconds = one.process.stop()
    report.check("SIGTERM: exit code", code, holds=code == 0, expected="0")
    report.figure("SIGTERM: gone after, s", round(seconds, 1))
    fleet.get_balanced()
    time.sleep(SETTLE_SECONDS)
    return _wait_balanced(fleet, one, Phase("SIGTERM", start, now(), 3.0, one.name))


def suspend(fleet: Fleet, one: Replica, report: Report) -> Phase:
    """Suspend it for long enough that it counts as dead; then resume it."""
    console.print(f"SIGSTOP {one.name} for {SUSPENDED_SECONDS:g} s")
    start = now()
    one.process.pause()
    time.sleep(SUSPENDED_SECONDS)
    one.process.go_on()
    woken = now()
    wait_until(lambda: one.is_ready, 60, "the resumed replica to be ready")
    fleet.get_balanced()
    report.figure("SIGCONT: it serves its share again after, s", round(now() - woken, 1))
    time.sleep(SETTLE_SECONDS)
    return Phase("SIGSTOP", start, now(), TAKE_OVER_SECONDS, one.name)


def cut_off(fleet: Fleet, one: Replica, report: Report) -> tuple[Phase, Phase]:
    """Silence its store, for it alone; return the whole phase, and the phase in which it was cut off."""
    if one.gate is None:
        raise ValueError("this replica has no gate before its store")
    console.print(f"{one.name} cut off from its store")
    start = now()
    one.gate.switch("silent")
    wait_until(lambda: not one.is_ready, 2 * SHARED_TIMINGS.ttl, "the cut-off replica to report it", every=0.1)
    report.figure("cut off: ready answers 503 after, s", round(now() - start, 1))
    others = [each for each in fleet.replicas if each is not one]
    wait_until(lambda: sum(each.report()["shards"]["owned"] for each in others) == 256, 60, "the others to serve all")
    report.figure("cut off: the others serve all after, s", round(now() - start, 1))
    time.sleep(SETTLE_SECONDS)
    opened = now()
    one.gate.switch("open")
    wait_until(lambda: one.is_ready, 60, "the replica to be ready again")
    fleet.get_balanced()
    report.figure("cut off: it serves its share again after, s", round(now() - opened, 1))
    time.sleep(SETTLE_SECONDS)
    whole = Phase("cut off", start, now(), TAKE_OVER_SECONDS, one.name)
    return whole, Phase("while cut off", start, opened, TAKE_OVER_SECONDS, one.name)


def _wait_balanced(fleet: Fleet, one: Replica, phase: Phase) -> Phase:
    one.restart()
    fleet.get_balanced()
    return phase
