"""Metrics as an observer, the fan-out to several observers, and the table whose calls are observed."""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Self, TypeVar

from bg_ingest.domain.changes import Change, ConnectionChanged, GapHealed, GapOpened, ReadingsRecorded, ReadingsRevised
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.polling import PollReport, PollResult
from bg_ingest.domain.quarantine import QuarantinedRecord
from bg_ingest.domain.readings import Origin
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.observability.replica import OutboxCollector
from bg_ingest.observability.timing import PollTiming, PublishTiming, Timing
from bg_ingest.ports import Clock, Observation, Observer, OutboxPass
from bg_ingest.ports.table import Item, Key, SingleWrite, Table, Write

NO_PROVIDER = "none"
"""Provider label of rejected webhooks, because a provider named by a rejected webhook is unverified."""

Result = TypeVar("Result")


class Metrics(Observer):
    """Counts and durations of all events, in the registry of this process."""

    def __init__(self, registry: MetricsRegistry, clock: Clock) -> None:
        self.registry = registry
        self._clock = clock
        self._outboxes = OutboxCollector(clock)
        registry.add(self._outboxes)

    def poll(self, connection: ConnectionId, epoch: int) -> Observation[PollReport]:
        del epoch  # a label with too many values
        return PollTiming(self.registry.polls, connection.provider)

    def provider_call(self, provider: str, region: str, call: str) -> Observation[None]:
        return Timing(self.registry.provider_calls, provider, region, call)

    def store_call(self, call: str) -> Observation[None]:
        return Timing(self.registry.store_calls, call)

    def publish(self, change: Change) -> Observation[bool]:
        return PublishTiming(self.registry.events, self.registry.event_age, self._clock, change)

    def committed(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._count(change)
        self._outboxes.committed(changes)

    def _count(self, change: Change) -> None:
        metrics = self.registry
        match change.data:
            case ReadingsRecorded(provider, origin, readings):
                metrics.readings.labels(provider, origin, "recorded").inc(len(readings))
            case ReadingsRevised(provider, origin, readings):
                metrics.readings.labels(provider, origin, "revised").inc(len(readings))
            case ConnectionChanged(provider, state):
                metrics.connection_changes.labels(provider, state).inc()
            case GapOpened(provider, gap):
                metrics.gaps.labels(provider, gap.cause, "opened").inc()
            case GapHealed(provider, gap):
                metrics.gaps.labels(provider, gap.cause, "healed").inc()

    def ingested(self, connection: ConnectionId, origin: Origin, result: PollResult) -> None:
        for outcome, number in (("duplicate", result.duplicates), ("quarantined", result.quarantined)):
            if number:
                self.registry.readings.labels(connection.provider, origin, outcome).inc(number)

    def quarantined(self, provider: str, records: Sequence[QuarantinedRecord], no_room: int) -> None:
        for record in records:
            self.registry.quarantined_records.labels(record.provider, record.reason).inc()
        if no_room:
            self.registry.quarantined_records.labels(provider, "no_room").inc(no_room)

    def webhook(self, connection: ConnectionId, result: PollResult | None) -> None:
        self.registry.webhooks.labels(connection.provider, "accepted" if result else "duplicate").inc()

    def webhook_rejected(self, problem: str) -> None:
        self.registry.webhooks.labels(NO_PROVIDER, problem.replace("-", "_")).inc()

    def outbox_pass(self, outbox_pass: OutboxPass) -> None:
        self._outboxes.outbox_pass(outbox_pass)


class Observers(Observer):
    """Sends each event to all observers, first to last. Context managers exit in the reverse order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers
        # Store calls are so frequent that calls of observers that ignore them would cost more than the metrics.
        self._store_observers = [
            observer for observer in observers if type(observer).store_call is not Observer.store_call
        ]

    def poll(self, connection: ConnectionId, epoch: int) -> Observation[PollReport]:
        return Joined([observer.poll(connection, epoch) for observer in self._observers])

    def provider_call(self, provider: str, region: str, call: str) -> Observation[None]:
        return Joined([observer.provider_call(provider, region, call) for observer in self._observers])

    def store_call(self, call: str) -> Observation[None]:
        if len(self._store_observers) == 1:
            return self._store_observers[0].store_call(call)
        return Joined([observer.store_call(call) for observer in self._store_observers])

    def publish(self, change: Change) -> Observation[bool]:
        return Joined([observer.publish(change) for observer in self._observers])

    def committed(self, changes: Sequence[Change]) -> None:
        for observer in self._observers:
            observer.committed(changes)

    def ingested(self, connection: ConnectionId, origin: Origin, result: PollResult) -> None:
        for observer in self._observers:
            observer.ingested(connection, origin, result)

    def quarantined(self, provider: str, records: Sequence[QuarantinedRecord], no_room: int) -> None:
        for observer in self._observers:
            observer.quarantined(provider, records, no_room)

    def webhook(self, connection: ConnectionId, result: PollResult | None) -> None:
        for observer in self._observers:
            observer.webhook(connection, result)

    def webhook_rejected(self, problem: str) -> None:
        for observer in self._observers:
            observer.webhook_rejected(problem)

    def grant_stored(self, grant: Grant) -> None:
        for observer in self._observers:
            observer.grant_stored(grant)

    def outbox_pass(self, outbox_pass: OutboxPass) -> None:
        for observer in self._observers:
            observer.outbox_pass(outbox_pass)


class Joined(Observation[Result]):
    """Several observations of one operation. Each of them gets the result of the operation."""

    __slots__ = ("_observations",)

    def __init__(self, observations: Sequence[Observation[Result]]) -> None:
        super().__init__()
        self._observations = observations

    def __enter__(self) -> Self:
        for observation in self._observations:
            observation.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for observation in reversed(self._observations):
            observation.__exit__(kind, error, traceback)

    def finish(self, result: Result) -> None:
        for observation in self._observations:
            observation.finish(result)


class ObservedTable:
    """Table that reports each call of another table. A failed condition has its own outcome, `condition_failed`."""

    def __init__(self, table: Table, observer: Observer) -> None:
        self._table = table
        self._call = observer.store_call

    async def get(self, key: Key) -> Item | None:
        with self._call("get"):
            return await self._table.get(key)

    async def batch_get(self, keys: Collection[Key], *, consistent: bool = True) -> dict[Key, Item]:
        with self._call("batch_get"):
            return await self._table.batch_get(keys, consistent=consistent)

    async def batch_get_once(self, keys: Collection[Key]) -> dict[Key, Item | None]:
        with self._call("batch_get"):
            return await self._table.batch_get_once(keys)

    async def query(
        self, pk: str, low: str, high: str, *, consistent: bool = True, page: int = 100
    ) -> AsyncGenerator[list[tuple[Key, Item]]]:
        pages = self._table.query(pk, low, high, consistent=consistent, page=page)
        async with aclosing(self._observe_pages("query", pages)) as observed:
            async for items in observed:
                yield items

    async def non_empty(self, pks: Collection[str], low: str, high: str) -> set[str]:
        with self._call("non_empty"):
            return await self._table.non_empty(pks, low, high)

    async def scan(self, part: int, parts: int, kinds: Collection[str] = ()) -> AsyncGenerator[list[tuple[Key, Item]]]:
        async with aclosing(self._observe_pages("scan", self._table.scan(part, parts, kinds))) as observed:
            async for items in observed:
                yield items

    async def _observe_pages(
        self, name: str, inner: AsyncGenerator[list[tuple[Key, Item]]]
    ) -> AsyncGenerator[list[tuple[Key, Item]]]:
        async with aclosing(inner) as pages:
            with self._call(name):
                items = await anext(pages, None)
            while items is not None:
                yield items
                call = self._call(name).__enter__()
                items = await anext(pages, None)
                if items is not None:  # the end of the pages may need no request
                    call.__exit__(None, None, None)

    async def write(self, one: SingleWrite) -> None:
        with self._call("write"):
            await self._table.write(one)

    async def transact(self, writes: Sequence[Write]) -> None:
        with self._call("transact"):
            await self._table.transact(writes)

    async def delete(self, keys: Collection[Key]) -> None:
        with self._call("delete"):
            await self._table.delete(keys)
