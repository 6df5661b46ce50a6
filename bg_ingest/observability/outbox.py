"""What waits to be told, without asking the store for it: the relay looks into every outbox each minute anyway."""

from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bg_ingest.domain.changes import Change
from bg_ingest.domain.ids import shard_of
from bg_ingest.ports import Clock
from bg_ingest.store.outbox import OutboxEntry, OutboxStore

FORGET_AFTER = timedelta(minutes=5)
"""An outbox nobody looked into for so long is another process's by now."""


class OutboxBacklog:
    """What one shard's outbox is known to hold."""

    def __init__(self, checked_at: datetime) -> None:
        self.checked_at = checked_at
        self.number = 0
        self.oldest: datetime | None = None
        """When the change that waits longest was recorded, as far as is known."""

    def add(self, number: int, since: datetime) -> None:
        self.number += number
        self.oldest = min(self.oldest, since) if self.oldest else since


class OutboxPass:
    """One pass over a shard's outbox, while it lasts."""

    def __init__(self, began: datetime) -> None:
        self.began = began
        self.seen = self.settled = 0
        self.times: dict[OutboxEntry, datetime] = {}
        """Of the page in hand: when what was not settled was recorded, or seen."""
        self.oldest: datetime | None = None

    def next_page(self, page: Sequence[OutboxEntry] = ()) -> None:
        """Remember the oldest that the last page left, and take the next."""
        left = [*self.times.values(), *([self.oldest] if self.oldest else [])]
        self.oldest = min(left, default=None)
        self.seen += len(page)
        self.times = dict.fromkeys(page, self.began)


class MeasuredOutbox(Collector):
    """The port Outbox, and what it shows to whoever looks."""

    def __init__(self, outbox: OutboxStore, clock: Clock) -> None:
        self._outbox = outbox
        self._clock = clock
        self._shards: dict[int, OutboxBacklog] = {}
        self._passes: dict[int, OutboxPass] = {}

    def committed(self, changes: Iterable[Change]) -> None:
        """Hear of changes that joined an outbox of a shard that is told here; others we do not know of."""
        for change in changes:
            backlog = self._shards.get(shard_of(change.user))
            if backlog is not None:
                backlog.add(1, change.recorded_at)

    async def non_empty_shards(self, shards: Collection[int]) -> set[int]:
        began = self._clock.now()
        found = await self._outbox.non_empty_shards(shards)
        empty = set(shards) - found - self._passes.keys()
        self._shards |= {shard: OutboxBacklog(began) for shard in empty}
        return found

    async def iter_entries(self, shard: int) -> AsyncGenerator[Sequence[OutboxEntry]]:
        outbox_pass = self._passes[shard] = OutboxPass(self._clock.now())
        backlog = self._shards.setdefault(shard, OutboxBacklog(outbox_pass.began))
        backlog.checked_at = outbox_pass.began
        try:
            async with aclosing(self._outbox.iter_entries(shard)) as pages:
                async for page in pages:
                    outbox_pass.next_page(page)
                    yield page
            outbox_pass.next_page()
            backlog.number, backlog.oldest = outbox_pass.seen - outbox_pass.settled, outbox_pass.oldest
        finally:
            outbox_pass.next_page()
            if outbox_pass.seen > outbox_pass.settled and outbox_pass.oldest:  # broken off: there is at least this much
                backlog.number = max(backlog.number, outbox_pass.seen - outbox_pass.settled)
                backlog.oldest = outbox_pass.oldest
            self._passes.pop(shard, None)

    async def changes(self, pending: Collection[OutboxEntry]) -> dict[OutboxEntry, Change]:
        found = await self._outbox.changes(pending)
        for row, change in found.items():
            outbox_pass = self._passes.get(row.shard)
            if outbox_pass is not None and row in outbox_pass.times:
                outbox_pass.times[row] = change.recorded_at
        return found

    async def exists(self, pending: OutboxEntry) -> bool:
        return await self._outbox.exists(pending)

    async def settle(self, pending: Collection[OutboxEntry]) -> None:
        await self._outbox.settle(pending)
        self._count_settled(pending)

    async def settle_last(self, pending: OutboxEntry) -> None:
        await self._outbox.settle_last(pending)
        self._count_settled([pending])

    def _count_settled(self, pending: Collection[OutboxEntry]) -> None:
        for row in pending:
            outbox_pass, backlog = self._passes.get(row.shard), self._shards.get(row.shard)
            if outbox_pass is not None and row in outbox_pass.times:
                del outbox_pass.times[row]
                outbox_pass.settled += 1
            if backlog is not None:
                backlog.number = max(0, backlog.number - 1)

    async def restore(self, changes: Iterable[Change]) -> None:
        await self._outbox.restore(changes)

    def collect(self) -> Iterable[Metric]:
        now = self._clock.now()
        fresh = [each for each in list(self._shards.values()) if now - each.checked_at < FORGET_AFTER]
        oldest = min((each.oldest for each in fresh if each.number and each.oldest), default=now)
        yield GaugeMetricFamily(
            "bg_ingest_outbox_waiting",
            "Changes of our shards that wait to be told.",
            sum(each.number for each in fresh),
        )
        yield GaugeMetricFamily(
            "bg_ingest_outbox_oldest_seconds",
            "For how long the oldest of these has waited; 0 without any.",
            max(0.0, (now - oldest).total_seconds()),
        )
