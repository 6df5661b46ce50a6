"""Times calls, and how they end, at about a microsecond each."""

import re
from time import perf_counter
from types import TracebackType
from typing import Self

from prometheus_client import Histogram

from bg_ingest.errors import IngestError

_WORD_BOUNDARY = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Timer:
    """A histogram of calls; its last label says how they ended: "ok", or what was raised."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._children: dict[tuple[str, ...], Histogram] = {}

    def __call__(self, *labels: str) -> "Timing":
        """Return what times a ``with`` body."""
        return Timing(self, labels)

    def observe(self, seconds: float, *labels: str) -> None:
        """Note one call; the last of its labels is how it ended."""
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._histogram.labels(*labels)
        child.observe(seconds)


class Timing:
    """One call; ``outcome`` may be set in the body where "ok" would say too little."""

    __slots__ = ("_began", "_labels", "_timer", "outcome")

    def __init__(self, timer: Timer, labels: tuple[str, ...]) -> None:
        self._timer = timer
        self._labels = labels
        self.outcome = "ok"

    def __enter__(self) -> Self:
        self._began = perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        outcome = self.outcome if kind is None else outcome_label(kind)
        self._timer.observe(perf_counter() - self._began, *self._labels, outcome)


def outcome_label(kind: type[BaseException]) -> str:
    """Return our errors by their own names; what nobody expects is "crashed", whatever it is."""
    if issubclass(kind, IngestError):
        return _WORD_BOUNDARY.sub("_", kind.__name__).lower()
    return "crashed" if issubclass(kind, Exception) else "cancelled"
