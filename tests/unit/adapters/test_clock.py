from datetime import UTC

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.ports import Clock


def test_the_system_clock_gives_utc_and_does_not_run_backwards() -> None:
    clock: Clock = SystemClock()
    first, second = clock.now(), clock.now()
    assert first.tzinfo is UTC
    assert first <= second
