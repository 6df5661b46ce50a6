"""The system clock. No other module reads it."""

from datetime import UTC, datetime


class SystemClock:
    """Implements ``Clock``. The time may step backwards or forwards when the machine's clock is corrected."""

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - the Clock port, which all other modules use
