"""Metrics of a service with many users, second by second."""

from pathlib import Path

import msgspec


class CrowdMetrics(msgspec.Struct):
    """Metrics of one second, one record per second."""

    seconds: float
    """Seconds since the start of the process."""
    scheduled: int
    scheduled_after: float | None
    ready_after: float | None
    polls: int
    lags: list[float]
    """Seconds from the due time of each poll of this second to its provider call."""
    outcomes: dict[str, int]
    """Polls since the start, by origin and outcome."""
    max_pause: float
    """Longest time of this second in which the loop was blocked."""
    processor: float
    """Processor seconds used since the start, all threads."""
    memory: int
    """Resident memory in bytes."""
    slowdown: float


def read_metrics(report: Path) -> list[CrowdMetrics]:
    """Return all records written so far, without an incomplete last line."""
    if not report.exists():
        return []
    whole = report.read_bytes().rpartition(b"\n")[0]
    return [msgspec.json.decode(line, type=CrowdMetrics) for line in whole.splitlines()]
