"""The system clock. Besides this module, only commands read it."""

from datetime import UTC, datetime


class SystemClock:
    """Implements ``Clock``. The time may step backwards or forwards when the machine's clock is corrected."""

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 - the implementation of the Clock port
