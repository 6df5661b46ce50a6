"""Durations and outcomes of operations. A measurement costs about one microsecond."""

import re
from time import perf_counter
from typing import Self, TypeVar

from prometheus_client import Gauge, Histogram

from bg_ingest.domain.changes import Change
from bg_ingest.domain.polling import PollReport
from bg_ingest.errors import IngestError
from bg_ingest.ports import Clock, Observation

Result = TypeVar("Result")

_WORD_BOUNDARY = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Timer:
    """Histogram of durations that caches its children, one for each combination of label values."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._children: dict[tuple[str, ...], Histogram] = {}

    def observe(self, seconds: float, *labels: str) -> None:
        """Record one operation; `labels` are the values of all labels in order."""
        child = self._children.get(labels)
        if child is None:
            child = self._children[labels] = self._histogram.labels(*labels)
        child.observe(seconds)


class Timing(Observation[Result]):
    """Duration of one operation. The last label is the outcome: by default "ok", or the name of the error."""

    __slots__ = ("_began", "_labels", "_timer")

    def __init__(self, timer: Timer, *labels: str) -> None:
        self.result = None
        self._timer = timer
        self._labels = labels

    def __enter__(self) -> Self:
        self._began = perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        last_labels = self.end_labels() if kind is None else self.error_labels(outcome_label(kind))
        self._timer.observe(perf_counter() - self._began, *self._labels, *last_labels)

    def end_labels(self) -> tuple[str, ...]:
        """Return the values of the last labels after a body without an error."""
        return ("ok",)

    def error_labels(self, outcome: str) -> tuple[str, ...]:
        """Return the values of the last labels after an error."""
        return (outcome,)


class OpenCount(Observation[None]):
    """Number of operations in progress."""

    __slots__ = ("_gauge",)

    def __init__(self, gauge: Gauge) -> None:
        super().__init__()
        self._gauge = gauge

    def __enter__(self) -> Self:
        self._gauge.inc()
        return self

    def __exit__(self, *_: object) -> None:
        self._gauge.dec()


class PollTiming(Timing[PollReport]):
    """Duration of a poll. The origin of its window is known only at the end; after an error it is "none"."""

    __slots__ = ()

    def end_labels(self) -> tuple[str, ...]:
        report = self.result
        return (report.origin or "none", report.result.outcome) if report else self.error_labels("crashed")

    def error_labels(self, outcome: str) -> tuple[str, ...]:
        return ("none", outcome)


class PublishTiming(Timing[bool]):
    """Duration of a delivery, and age of the change afterwards. An event without a queue is "unroutable"."""

    __slots__ = ("_ages", "_change", "_clock")

    def __init__(self, timer: Timer, ages: Histogram, clock: Clock, change: Change) -> None:
        super().__init__(timer, change.type)
        self._ages = ages
        self._clock = clock
        self._change = change

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        super().__exit__(kind)
        if kind is None:
            self._ages.observe((self._clock.now() - self._change.recorded_at).total_seconds())

    def end_labels(self) -> tuple[str, ...]:
        return ("confirmed" if self.result else "unroutable",)


def outcome_label(kind: type[BaseException]) -> str:
    """Return an error's name in snake case; errors that are not ours are "crashed" or "cancelled"."""
    if issubclass(kind, IngestError):
        return _WORD_BOUNDARY.sub("_", kind.__name__).lower()
    return "crashed" if issubclass(kind, Exception) else "cancelled"
