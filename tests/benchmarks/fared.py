"""How a crowded service fared, second by second."""

from pathlib import Path

import msgspec


class Fared(msgspec.Struct):
    """What is told, each second anew."""

    seconds: float
    """Since the process began."""
    seated: int
    seated_after: float | None
    ready_after: float | None
    looks: int
    lags: list[float]
    """Of each look of this second, from the moment it was due until the provider was asked."""
    endings: dict[str, int]
    """Turns since the start, by what was asked and how it ended."""
    longest_pause: float
    """Of this second: for so long the loop did nothing for others."""
    processor: float
    """Seconds used since the start, all threads."""
    memory: int
    """Resident, in bytes."""
    stretch: float


def told(report: Path) -> list[Fared]:
    """Return all that was written so far; a line that is being written is left out."""
    if not report.exists():
        return []
    whole = report.read_bytes().rpartition(b"\n")[0]
    return [msgspec.json.decode(line, type=Fared) for line in whole.splitlines()]
