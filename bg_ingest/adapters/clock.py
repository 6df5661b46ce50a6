"""The system's clock, the only place that asks it."""

from datetime import UTC, datetime


class SystemClock:
    """Time as the machine has it; it may step when it is corrected."""

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - this is the Clock port that everybody else asks
