"""Faults during streams: replicas killed and drained, the broker away, the store away."""

import itertools
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from tests.long.chaos.fleet import Fleet, Replica
from tests.long.chaos.gate import Gate
from tests.long.chaos.processes import wait_until
from tests.long.chaos.real_parts import RealParts
from tests.long.chaos.report import Report, console

BROKER_SECONDS, STORE_SECONDS, CALM_SECONDS = 90.0, 20.0, 5.0
"""Seconds without the broker, without the store, and after each fault."""

Fault: TypeAlias = tuple[str, Callable[[], None]]

RECOVERY_SECONDS, MAX_STOP_SECONDS = 90.0, 20.0


class StreamFaults:
    """Replicas and their parts. ``gate`` is before the store of all replicas."""

    def __init__(self, report: Report, parts: RealParts, gate: Gate, replicas: Fleet) -> None:
        self._report = report
        self._parts = parts
        self._gate = gate
        self._replicas = replicas
        self._slowest_stop = 0.0

    def go_through(self, seconds: float) -> None:
        """Cause each fault, then kill and drain one replica after the other until the time is over."""
        began = time.monotonic()
        one, two, three = self._replicas.replicas
        once: list[Fault] = [
            (f"kill -9 {one.name}", partial(self.kill, one)),
            (f"SIGTERM {two.name}", partial(self.drain, two)),
            (f"broker away for {BROKER_SECONDS:g} s, meanwhile SIGTERM {three.name}", partial(self.stop_broker, three)),
            (f"store away for {STORE_SECONDS:g} s", self.stop_store),
        ]
        again: list[Fault] = [
            (f"kill -9 {two.name}", partial(self.kill, two)),
            (f"SIGTERM {one.name}", partial(self.drain, one)),
        ]
        again += [(f"kill -9 {three.name}", partial(self.kill, three)), *once[:2]]
        count = 0
        for name, fault in itertools.chain(once, itertools.cycle(again)):
            passed = time.monotonic() - began
            if count >= len(once) and passed >= seconds:
                break
            console.print(f"{passed:4.0f} of {seconds:.0f} s: {name}")
            fault()
            time.sleep(CALM_SECONDS)
            count += 1
        self._report.figure("faults", f"{count}, each of {'; '.join(name for name, _ in once)}")
        self._report.figure("slowest stop by SIGTERM, s", round(self._slowest_stop, 1))

    def kill(self, replica: Replica) -> None:
        replica.process.kill()
        time.sleep(CALM_SECONDS)
        replica.restart()
        self._replicas.get_balanced()

    def drain(self, replica: Replica) -> None:
        self._stop(replica)
        replica.restart()
        self._replicas.get_balanced()

    def stop_broker(self, replica: Replica) -> None:
        """Take the broker away, and meanwhile drain a replica."""
        self._parts.node.server.stop()
        began = time.monotonic()
        self._stop(replica)
        replica.process.start()
        time.sleep(max(0.0, BROKER_SECONDS - (time.monotonic() - began)))
        self._parts.node.server.start()
        self._recover()

    def stop_store(self) -> None:
        self._gate.switch("breaking")  # ministack loses writes that arrive while it stops
        time.sleep(1)
        self._parts.dynamodb.stop(signal.SIGTERM)
        time.sleep(STORE_SECONDS)
        self._parts.dynamodb.start()
        self._gate.switch("open")
        self._recover()

    def _stop(self, replica: Replica) -> None:
        code, seconds = replica.process.stop()
        self._slowest_stop = max(self._slowest_stop, seconds)
        if code or seconds > MAX_STOP_SECONDS:
            self._report.wrong(f"{replica.name} ended with {code} after {seconds:.1f} s")

    def _recover(self) -> None:
        replicas = self._replicas.replicas
        wait_until(lambda: all(each.is_ready for each in replicas), RECOVERY_SECONDS, "all to be ready", every=1)
        self._replicas.get_balanced()
