"""What waits to be told, without asking the store for it: the relay looks into every outbox each minute anyway."""

from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bg_ingest.domain.events import Change
from bg_ingest.domain.ids import shard_of
from bg_ingest.ports import Clock, Outbox, Pending

FORGET_AFTER = timedelta(minutes=5)
"""An outbox nobody looked into for so long is another process's by now."""


class Waiting:
    """What one shard's outbox is known to hold."""

    def __init__(self, looked_at: datetime) -> None:
        self.looked_at = looked_at
        self.number = 0
        self.oldest: datetime | None = None
        """When the change that waits longest was recorded, as far as is known."""

    def join(self, number: int, since: datetime) -> None:
        self.number += number
        self.oldest = min(self.oldest, since) if self.oldest else since


class Pass:
    """One pass over a shard's outbox, while it lasts."""

    def __init__(self, began: datetime) -> None:
        self.began = began
        self.seen = self.settled = 0
        self.times: dict[Pending, datetime] = {}
        """Of the page in hand: when what was not settled was recorded, or seen."""
        self.oldest: datetime | None = None

    def turn_page(self, page: Sequence[Pending] = ()) -> None:
        """Remember the oldest that the last page left, and take the next."""
        left = [*self.times.values(), *([self.oldest] if self.oldest else [])]
        self.oldest = min(left, default=None)
        self.seen += len(page)
        self.times = dict.fromkeys(page, self.began)


class MeasuredOutbox(Collector):
    """The port Outbox, and what it shows to whoever looks."""

    def __init__(self, outbox: Outbox, clock: Clock) -> None:
        self._outbox = outbox
        self._clock = clock
        self._shards: dict[int, Waiting] = {}
        self._passes: dict[int, Pass] = {}

    def committed(self, changes: Iterable[Change]) -> None:
        """Hear of changes that joined an outbox of a shard that is told here; others we do not know of."""
        for change in changes:
            waiting = self._shards.get(shard_of(change.user))
            if waiting is not None:
                waiting.join(1, change.recorded_at)

    async def waiting(self, shards: Collection[int]) -> set[int]:
        began = self._clock.now()
        found = await self._outbox.waiting(shards)
        empty = set(shards) - found - self._passes.keys()
        self._shards |= {shard: Waiting(began) for shard in empty}
        return found

    async def pending(self, shard: int) -> AsyncGenerator[Sequence[Pending]]:
        this = self._passes[shard] = Pass(self._clock.now())
        waiting = self._shards.setdefault(shard, Waiting(this.began))
        waiting.looked_at = this.began
        try:
            async with aclosing(self._outbox.pending(shard)) as pages:
                async for page in pages:
                    this.turn_page(page)
                    yield page
            this.turn_page()
            waiting.number, waiting.oldest = this.seen - this.settled, this.oldest
        finally:
            this.turn_page()
            if this.seen > this.settled and this.oldest:  # broken off: there is at least this much
                waiting.number = max(waiting.number, this.seen - this.settled)
                waiting.oldest = this.oldest
            self._passes.pop(shard, None)

    async def changes(self, pending: Collection[Pending]) -> dict[Pending, Change]:
        found = await self._outbox.changes(pending)
        for row, change in found.items():
            this = self._passes.get(row.shard)
            if this is not None and row in this.times:
                this.times[row] = change.recorded_at
        return found

    async def waits(self, pending: Pending) -> bool:
        return await self._outbox.waits(pending)

    async def settle(self, pending: Collection[Pending]) -> None:
        await self._outbox.settle(pending)
        self._left(pending)

    async def close(self, pending: Pending) -> None:
        await self._outbox.close(pending)
        self._left([pending])

    def _left(self, pending: Collection[Pending]) -> None:
        for row in pending:
            this, waiting = self._passes.get(row.shard), self._shards.get(row.shard)
            if this is not None and row in this.times:
                del this.times[row]
                this.settled += 1
            if waiting is not None:
                waiting.number = max(0, waiting.number - 1)

    async def put_back(self, pending: Collection[Pending]) -> None:
        await self._outbox.put_back(pending)

    def collect(self) -> Iterable[Metric]:
        now = self._clock.now()
        fresh = [each for each in list(self._shards.values()) if now - each.looked_at < FORGET_AFTER]
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
