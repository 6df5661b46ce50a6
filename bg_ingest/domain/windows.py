"""Time windows requested from a provider."""

from datetime import datetime, timedelta

import msgspec


class Window(msgspec.Struct, frozen=True):
    """Half-open: ``start`` is included, ``end`` is not."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start >= self.end:
            raise ValueError("a window ends after it starts")

    def __contains__(self, instant: datetime) -> bool:
        return self.start <= instant < self.end

    @property
    def length(self) -> timedelta:
        return self.end - self.start

    def newest(self, length: timedelta) -> "Window":
        """Return the newest part of at most this length."""
        return Window(max(self.start, self.end - length), self.end)

    def before(self, end: datetime, *, joining: "Window | None" = None) -> "Window | None":
        """Return the part before an instant, extended to include the window ``joining`` and the time in between."""
        earlier = Window(self.start, min(self.end, end)) if self.start < end else None
        if earlier is None or joining is None:
            return earlier or joining
        return Window(min(earlier.start, joining.start), max(earlier.end, joining.end))

    def since(self, start: datetime) -> "Window | None":
        """Return the part from an instant on."""
        return Window(max(self.start, start), self.end) if start < self.end else None


def live_window(watermark: datetime, now: datetime, *, overlap: timedelta) -> Window:
    """Return the window of a poll: from the watermark less the overlap until now.

    The overlap exists because late readings are normal (a phone out of reach). A watermark later than ``now`` comes
    from a clock that ran ahead; ``now`` is used instead.
    """
    start = min(watermark, now) - overlap
    return Window(start, max(now, start + timedelta(seconds=1)))
