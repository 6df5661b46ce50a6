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

FRESH = [60 * minutes for minutes in (1, 2, 5, 10, 15, 20, 30, 60, 120, 360, 720, 1440)]
"""Upper ends of buckets, in seconds."""


class Actors(Protocol):
    """Who knows what is polled here; asked from any thread."""

    def owned(self) -> int:
        """Return how many shards are served here."""

    def restarts(self) -> Mapping[str, int]:
        """Return how often each actor was started again."""

    def polled(self) -> int:
        """Return how many connections are polled here."""

    def backfills(self) -> int:
        """Return of how many of them some of the past is still to be read."""

    def shown(self) -> Mapping[str, Sequence[datetime]]:
        """Return by provider when the newest reading of each connection was shown, as far as is known."""


class Standing(Collector):
    """The connections polled here and how fresh they are."""

    def __init__(self, actors: Actors, clock: Clock) -> None:
        self._actors = actors
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("bg_ingest_shards", "Shards served here.", self._actors.owned())
        restarts = CounterMetricFamily(
            "bg_ingest_actor_restarts", "Actors that crashed and began again.", labels=["actor"]
        )
        for name, times in self._actors.restarts().items():
            restarts.add_metric([name], times)
        yield restarts
        yield GaugeMetricFamily("bg_ingest_connections", "Connections polled here.", self._actors.polled())
        yield GaugeMetricFamily(
            "bg_ingest_backfills",
            "Connections polled here whose past is not read to its end.",
            self._actors.backfills(),
        )
        freshness = GaugeHistogramMetricFamily(
            "bg_ingest_freshness_seconds",
            "Connections polled here by the age of their newest reading, less what the provider always takes.",
            labels=["provider"],
        )
        for provider, shown in self._actors.shown().items():
            for le, count in _by_age(shown, self._clock.now()):
                freshness.add_sample("bg_ingest_freshness_seconds_bucket", {"provider": provider, "le": le}, count)
            freshness.add_sample("bg_ingest_freshness_seconds_gcount", {"provider": provider}, len(shown))
        yield freshness


def _by_age(shown: Sequence[datetime], now: datetime) -> Iterator[tuple[str, float]]:
    """Count into buckets, by comparing instants: to compute the age of each takes three times as long."""
    since = [now - timedelta(seconds=bound) for bound in reversed(FRESH)]
    counts = Counter([len(FRESH) - bisect_left(since, each) for each in shown])
    names = [*(f"{bound}.0" for bound in FRESH), "+Inf"]
    return zip(names, accumulate(float(counts[place]) for place in range(len(names))), strict=True)
