"""Stretches of time asked of a provider."""

from datetime import datetime, timedelta

import msgspec


class Window(msgspec.Struct, frozen=True):
    """Half-open: start is in it, end is not."""

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
        """Return its newest part of at most this length."""
        return Window(max(self.start, self.end - length), self.end)

    def before(self, end: datetime, *, joining: "Window | None" = None) -> "Window | None":
        """Return what of it lies before an instant, grown to hold another window, what is between included."""
        left = Window(self.start, min(self.end, end)) if self.start < end else None
        if left is None or joining is None:
            return left or joining
        return Window(min(left.start, joining.start), max(left.end, joining.end))

    def since(self, start: datetime) -> "Window | None":
        """Return what of it lies from an instant on."""
        return Window(max(self.start, start), self.end) if start < self.end else None


def live_window(watermark: datetime, now: datetime, *, overlap: timedelta) -> Window:
    """Return what a poll asks: from the watermark less the overlap until now.

    Readings come late as a matter of course (a phone out of reach), so each poll looks back a little.
    A watermark beyond now, left by a clock that ran ahead, is not believed.
    """
    start = min(watermark, now) - overlap
    return Window(start, max(now, start + timedelta(seconds=1)))
