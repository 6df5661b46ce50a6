"""How a crowded service fared, second by second."""

from pathlib import Path

import msgspec


class CrowdMetrics(msgspec.Struct):
    """What is told, each second anew."""

    seconds: float
    """Since the process began."""
    scheduled: int
    scheduled_after: float | None
    ready_after: float | None
    polls: int
    lags: list[float]
    """Of each look of this second, from the moment it was due until the provider was asked."""
    outcomes: dict[str, int]
    """Turns since the start, by what was asked and how it ended."""
    max_pause: float
    """Of this second: for so long the loop did nothing for others."""
    processor: float
    """Seconds used since the start, all threads."""
    memory: int
    """Resident, in bytes."""
    slowdown: float


def read_metrics(report: Path) -> list[CrowdMetrics]:
    """Return all that was written so far; a line that is being written is left out."""
    if not report.exists():
        return []
    whole = report.read_bytes().rpartition(b"\n")[0]
    return [msgspec.json.decode(line, type=CrowdMetrics) for line in whole.splitlines()]
