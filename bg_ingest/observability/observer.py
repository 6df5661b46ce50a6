"""Metrics as an observer, and the fan-out to several observers."""

from collections.abc import Sequence
from datetime import datetime
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
from bg_ingest.observability.timing import OpenCount, PollTiming, PublishTiming, Timing
from bg_ingest.ports import Clock, Observation, Observer, OutboxPass

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

    def stream(self) -> Observation[None]:
        return OpenCount(self.registry.streams)

    def stream_event(self, recorded_at: datetime, *, live: bool) -> None:
        self.registry.stream_events.inc()
        if live:
            self.registry.stream_delay.observe((self._clock.now() - recorded_at).total_seconds())

    def stream_wakeup(self, cause: str) -> None:
        self.registry.stream_wakeups.labels(cause).inc()

    def stream_reread(self) -> None:
        self.registry.stream_rereads.inc()

    def outbox_pass(self, outbox_pass: OutboxPass) -> None:
        self._outboxes.outbox_pass(outbox_pass)


class Observers(Observer):
    """Sends each event to all observers, first to last. Context managers exit in the reverse order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers
        # Observers that ignore store calls are omitted: these calls are so frequent that the empty methods would cost
        # more than the metrics.
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

    def stream(self) -> Observation[None]:
        return Joined([observer.stream() for observer in self._observers])

    def stream_event(self, recorded_at: datetime, *, live: bool) -> None:
        for observer in self._observers:
            observer.stream_event(recorded_at, live=live)

    def stream_wakeup(self, cause: str) -> None:
        for observer in self._observers:
            observer.stream_wakeup(cause)

    def stream_reread(self) -> None:
        for observer in self._observers:
            observer.stream_reread()

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
