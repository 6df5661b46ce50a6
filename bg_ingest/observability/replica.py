"""State of this replica, computed at each scrape, because no event reports a stale connection."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Protocol

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeHistogramMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bg_ingest.domain.changes import Change
from bg_ingest.domain.ids import shard_of
from bg_ingest.domain.replica_status import BrokerState
from bg_ingest.ports import Clock, OutboxPass

FRESHNESS_BUCKETS = [60 * minutes for minutes in (1, 2, 5, 10, 15, 20, 30, 60, 120, 360, 720, 1440)]
"""Upper bounds of buckets, in seconds."""

FORGET_AFTER = timedelta(minutes=5)
"""Time since the last pass over an outbox after which another process is assumed to relay it."""


class ReplicaView(Protocol):
    """View of the actors of this process, and of the shards and connections that they own. Any thread may call it."""

    def shard_count(self) -> int: ...

    def broker_state(self) -> BrokerState | None:
        """Return the state of the connection to the broker; None without a broker."""

    def restarts(self) -> Mapping[str, int]: ...

    def connection_count(self) -> int: ...

    def backfill_count(self) -> int: ...

    def newest_visible_at(self) -> Mapping[str, Sequence[datetime]]:
        """Return per provider the time at which the newest reading of each connection became visible, if known."""


class ReplicaCollector(Collector):
    """Shards, actors, and connections by the age of their newest reading."""

    def __init__(self, replica: ReplicaView, clock: Clock) -> None:
        self._replica = replica
        self._clock = clock

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily("bg_ingest_shards", "Shards owned here.", self._replica.shard_count())
        states = GaugeMetricFamily("bg_ingest_broker_state", "1 for the state of the broker.", labels=["state"])
        broker_state = self._replica.broker_state()
        for state in BrokerState if broker_state is not None else ():
            states.add_metric([state], state is broker_state)
        yield states
        restarts = CounterMetricFamily("bg_ingest_actor_restarts", "Actors restarted after a crash.", labels=["actor"])
        for name, times in self._replica.restarts().items():
            restarts.add_metric([name], times)
        yield restarts
        yield GaugeMetricFamily("bg_ingest_connections", "Connections polled here.", self._replica.connection_count())
        yield GaugeMetricFamily(
            "bg_ingest_backfills",
            "Connections polled here with an unfinished backfill.",
            self._replica.backfill_count(),
        )
        freshness = GaugeHistogramMetricFamily(
            "bg_ingest_freshness_seconds",
            "Connections polled here, by the age of their newest reading less the delay of the provider.",
            labels=["provider"],
        )
        for provider, visible_at in self._replica.newest_visible_at().items():
            for le, count in _count_by_age(visible_at, self._clock.now()):
                freshness.add_sample("bg_ingest_freshness_seconds_bucket", {"provider": provider, "le": le}, count)
            freshness.add_sample("bg_ingest_freshness_seconds_gcount", {"provider": provider}, len(visible_at))
        yield freshness


class OutboxBacklog(msgspec.Struct):
    """Known number of one shard's unpublished changes, as of the last event about them."""

    checked_at: datetime
    counted: int = 0
    """Changes left by the last pass, and changes committed since."""
    settled: int = 0
    """Changes published by the current pass."""
    oldest: datetime | None = None
    """Commit time of the oldest unpublished change, as far as known."""

    @property
    def waiting(self) -> int:
        return max(0, self.counted - self.settled)


class OutboxCollector(Collector):
    """Number and age of unpublished changes.

    Observer events give both figures without additional reads, because the relay reports every shard once a minute.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._backlogs: dict[int, OutboxBacklog] = {}

    def committed(self, changes: Iterable[Change]) -> None:
        """Add changes to the outboxes of shards that are relayed here; other outboxes are not known."""
        for change in changes:
            backlog = self._backlogs.get(shard_of(change.user))
            if backlog is not None:
                backlog.counted += 1
                backlog.oldest = min(backlog.oldest or change.recorded_at, change.recorded_at)

    def outbox_pass(self, outbox_pass: OutboxPass) -> None:
        """Update the backlog of a shard during and after a pass."""
        now = self._clock.now()
        backlog = self._backlogs.setdefault(outbox_pass.shard, OutboxBacklog(now))
        backlog.checked_at = now
        backlog.settled = outbox_pass.settled
        if not outbox_pass.ended:
            return
        if outbox_pass.complete:
            backlog.counted, backlog.oldest = outbox_pass.waiting, None
        else:  # the pages not reached may hold more
            backlog.counted = max(backlog.waiting, outbox_pass.waiting)
        if outbox_pass.waiting:
            backlog.oldest = outbox_pass.oldest or now
        backlog.settled = 0

    def collect(self) -> Iterable[Metric]:
        now = self._clock.now()
        known = [backlog for backlog in list(self._backlogs.values()) if now - backlog.checked_at < FORGET_AFTER]
        oldest = min((backlog.oldest for backlog in known if backlog.waiting and backlog.oldest), default=now)
        yield GaugeMetricFamily(
            "bg_ingest_outbox_waiting",
            "Unpublished changes of the shards owned here.",
            sum(backlog.waiting for backlog in known),
        )
        yield GaugeMetricFamily(
            "bg_ingest_outbox_oldest_seconds",
            "Age of the oldest unpublished change of the shards owned here; 0 without any.",
            max(0.0, (now - oldest).total_seconds()),
        )


def _count_by_age(visible_at: Sequence[datetime], now: datetime) -> Iterator[tuple[str, float]]:
    """Count into cumulative buckets by comparing instants: computing each age takes three times as long."""
    since = [now - timedelta(seconds=bound) for bound in reversed(FRESHNESS_BUCKETS)]
    counts = Counter([len(FRESHNESS_BUCKETS) - bisect_left(since, instant) for instant in visible_at])
    names = [*(f"{bound}.0" for bound in FRESHNESS_BUCKETS), "+Inf"]
    return zip(names, accumulate(float(counts[index]) for index in range(len(names))), strict=True)
