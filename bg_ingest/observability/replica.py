"""How things stand at the moment somebody looks: nothing has to happen for a connection to show as stale."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeHistogramMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bg_ingest.ports import Clock

FRESHNESS_BUCKETS = [60 * minutes for minutes in (1, 2, 5, 10, 15, 20, 30, 60, 120, 360, 720, 1440)]
"""Upper ends of buckets, in seconds."""


class ReplicaView(Protocol):
    """Who knows what is polled here; asked from any thread."""

    def shard_count(self) -> int:
        """Return how many shards are served here."""

    def restarts(self) -> Mapping[str, int]:
        """Return how often each actor was started again."""

    def connection_count(self) -> int:
        """Return how many connections are polled here."""

    def backfill_count(self) -> int:
        """Return of how many of them some of the past is still to be read."""

    def newest_visible_at(self) -> Mapping[str, Sequence[datetime]]:
        """Return by provider when the newest reading of each connection was shown, as far as is known."""


class ReplicaCollector(Collector):
    """The connections polled here and how fresh they are."""

    def __init__(self, replica: ReplicaView, clock: Clock) -> None:
        self._replica = replica
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("bg_ingest_shards", "Shards served here.", self._replica.shard_count())
        restarts = CounterMetricFamily(
            "bg_ingest_actor_restarts", "Actors that crashed and began again.", labels=["actor"]
        )
        for name, times in self._replica.restarts().items():
            restarts.add_metric([name], times)
        yield restarts
        yield GaugeMetricFamily("bg_ingest_connections", "Connections polled here.", self._replica.connection_count())
        yield GaugeMetricFamily(
            "bg_ingest_backfills",
            "Connections polled here whose past is not read to its end.",
            self._replica.backfill_count(),
        )
        freshness = GaugeHistogramMetricFamily(
            "bg_ingest_freshness_seconds",
            "Connections polled here by the age of their newest reading, less what the provider always takes.",
            labels=["provider"],
        )
        for provider, visible_at in self._replica.newest_visible_at().items():
            for le, count in _count_by_age(visible_at, self._clock.now()):
                freshness.add_sample("bg_ingest_freshness_seconds_bucket", {"provider": provider, "le": le}, count)
            freshness.add_sample("bg_ingest_freshness_seconds_gcount", {"provider": provider}, len(visible_at))
        yield freshness


def _count_by_age(visible_at: Sequence[datetime], now: datetime) -> Iterator[tuple[str, float]]:
    """Count into buckets, by comparing instants: to compute the age of each takes three times as long."""
    since = [now - timedelta(seconds=bound) for bound in reversed(FRESHNESS_BUCKETS)]
    counts = Counter([len(FRESHNESS_BUCKETS) - bisect_left(since, each) for each in visible_at])
    names = [*(f"{bound}.0" for bound in FRESHNESS_BUCKETS), "+Inf"]
    return zip(names, accumulate(float(counts[index]) for index in range(len(names))), strict=True)
