"""Metrics that count events. docs/operating/metrics.md explains them."""

from collections.abc import Awaitable, Callable

import anyio.to_thread
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.registry import Collector

from bg_ingest import __version__
from bg_ingest.observability.timing import Timer

STORE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0)
HTTP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
CALL_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
MIN_BUILD_INTERVAL_SECONDS = 0.25
"""Least time between the starts of two builds of the scraped text. It bounds the cost of many scrapes at once."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the series, and no query uses them

AGE_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 86_400.0)
"""Upper bounds of the buckets, in seconds, like STORE_BUCKETS, HTTP_BUCKETS and CALL_BUCKETS."""


class SharedText:
    """A text that is built on request. One build serves all requests that arrived before its beginning."""

    def __init__(self, build: Callable[[], Awaitable[bytes]]) -> None:
        self._build = build
        self._lock = anyio.Lock()
        self._begun = self._ended = 0
        """Numbers of the last build that began, and of the last one that ended."""
        self._next_at = 0.0
        self._text = b""

    async def get(self) -> bytes:
        before = self._begun
        async with self._lock:
            if self._ended <= before:
                await anyio.sleep(max(0.0, self._next_at - anyio.current_time()))
                self._begun = number = self._begun + 1
                self._next_at = anyio.current_time() + MIN_BUILD_INTERVAL_SECONDS
                self._text = await self._build()
                self._ended = number
            return self._text


class MetricsRegistry:
    """The metrics of one process, in a Prometheus registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._shared_text = SharedText(lambda: anyio.to_thread.run_sync(self.text))
        self.readings = self._counter(
            "readings", "Readings of pages and pushes, by outcome.", "provider", "origin", "outcome"
        )
        self.quarantined_records = self._counter(
            "quarantined_records", "Unreadable records, by reason.", "provider", "reason"
        )
        self.connection_changes = self._counter(
            "connection_changes", "Connections that entered a state.", "provider", "state"
        )
        self.gaps = self._counter("gaps", "Gaps opened and healed.", "provider", "cause", "outcome")
        self.webhooks = self._counter("webhooks", "Webhooks by result.", "provider", "result")
        self.polls = self._timer(
            "poll_seconds", "Polls of connections, by origin of the fetched window.", CALL_BUCKETS, "provider", "origin"
        )
        self.provider_calls = self._timer(
            "provider_call_seconds", "Calls to providers.", CALL_BUCKETS, "provider", "region", "call"
        )
        self.store_calls = self._timer("store_call_seconds", "Calls to the store.", STORE_BUCKETS, "call")
        self.store_units = self._counter("store_units", "Capacity units consumed, as reported by DynamoDB.", "kind")
        self.events = self._timer(
            "event_seconds", "Deliveries of events, until the broker answers.", STORE_BUCKETS, "type"
        )
        self.event_age = self._histogram(
            "event_age_seconds", "Time from the commit of a change to its confirm.", AGE_BUCKETS
        )
        self.streams = Gauge("bg_ingest_streams", "Open streams of changes.", registry=self.registry)
        self.stream_events = self._counter("stream_events", "Events sent on streams.")
        self.stream_delay = self._histogram(
            "stream_delay_seconds", "Time from the commit of a change until it was sent on an open stream.", AGE_BUCKETS
        )
        self.stream_wakeups = self._counter("stream_wakeups", "New changes of users with open streams.", "by")
        for cause in ("commit", "hint", "reconcile"):
            self.stream_wakeups.labels(cause)
        self.stream_rereads = self._counter("stream_rereads", "Reads of the store for slower streams.")
        self.requests = self._histogram(
            "http_request_seconds",
            "Requests, until the last byte of the response.",
            HTTP_BUCKETS,
            "method",
            "route",
            "status",
        )
        self.dropped_log_lines = self._counter("log_lines_dropped", "Log lines that could not be written.")
        Info("bg_ingest_build", "Version of this process.", registry=self.registry).info({"version": __version__})
        ProcessCollector(registry=self.registry)

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus. Any thread may call it."""
        return generate_latest(self.registry)

    async def exposition(self) -> bytes:
        """Return the text of all metrics, built on a thread: with many connections, the build would delay requests."""
        return await self._shared_text.get()

    def add(self, collector: Collector) -> None:
        """Add metrics that are computed at each scrape."""
        self.registry.register(collector)

    def add_store_units(self, kind: str, units: float) -> None:
        """Count the cost of a call as reported by the store; `kind` is read or write."""
        self.store_units.labels(kind).inc(units)

    def _counter(self, name: str, description: str, *labels: str) -> Counter:
        return Counter(f"bg_ingest_{name}", description, labels, registry=self.registry)

    def _histogram(self, name: str, description: str, bounds: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"bg_ingest_{name}", description, labels, buckets=bounds, registry=self.registry)

    def _timer(self, name: str, description: str, bounds: tuple[float, ...], *labels: str) -> Timer:
        return Timer(self._histogram(name, description, bounds, *labels, "outcome"))
