"""Observer that records its events."""

from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from bg_ingest.domain.changes import Change
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.polling import PollReport, PollResult
from bg_ingest.domain.quarantine import QuarantinedRecord
from bg_ingest.domain.readings import Origin
from bg_ingest.ports import Observation, Observer, OutboxPass

Result = TypeVar("Result")


class Recorded(NamedTuple):
    """One event; operations are recorded at their end, with their result or the type of their error last."""

    name: str
    arguments: tuple[Any, ...]


class RecordingObserver(Observer):
    """Keeps all events in order."""

    def __init__(self) -> None:
        self.events: list[Recorded] = []

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """Return the arguments of the events with a name, oldest first."""
        return [event.arguments for event in self.events if event.name == name]

    def poll_reports(self) -> list[tuple[ConnectionId, PollReport]]:
        """Return the connection and the report of each poll that did not crash, oldest first."""
        return [(found[0], found[-1]) for found in self.named("poll") if isinstance(found[-1], PollReport)]

    def record(self, name: str, *arguments: Any) -> None:
        self.events.append(Recorded(name, arguments))

    def poll(self, connection: ConnectionId, epoch: int) -> Observation[PollReport]:
        return RecordedOperation(self, "poll", connection, epoch)

    def provider_call(self, provider: str, region: str, call: str) -> Observation[None]:
        return RecordedOperation(self, "provider_call", provider, region, call)

    def store_call(self, call: str) -> Observation[None]:
        return RecordedOperation(self, "store_call", call)

    def publish(self, change: Change) -> Observation[bool]:
        return RecordedOperation(self, "publish", change)

    def committed(self, changes: Sequence[Change]) -> None:
        self.record("committed", changes)

    def ingested(self, connection: ConnectionId, origin: Origin, result: PollResult) -> None:
        self.record("ingested", connection, origin, result)

    def quarantined(self, provider: str, records: Sequence[QuarantinedRecord], no_room: int) -> None:
        self.record("quarantined", provider, records, no_room)

    def webhook(self, connection: ConnectionId, result: PollResult | None) -> None:
        self.record("webhook", connection, result)

    def webhook_rejected(self, problem: str) -> None:
        self.record("webhook_rejected", problem)

    def grant_stored(self, grant: Grant) -> None:
        self.record("grant_stored", grant)

    def stream(self) -> Observation[None]:
        return RecordedOperation(self, "stream")

    def stream_event(self, recorded_at: datetime, *, live: bool) -> None:
        self.record("stream_event", recorded_at, live)

    def stream_wakeup(self, cause: str) -> None:
        self.record("stream_wakeup", cause)

    def stream_reread(self) -> None:
        self.record("stream_reread")

    def outbox_pass(self, outbox_pass: OutboxPass) -> None:
        self.record("outbox_pass", outbox_pass.shard, outbox_pass.seen, outbox_pass.settled, outbox_pass.ended)


class RecordedOperation(Observation[Result]):
    """Records an operation at its end."""

    def __init__(self, observer: RecordingObserver, name: str, *arguments: Any) -> None:
        super().__init__()
        self._observer = observer
        self._name = name
        self._arguments = arguments

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._observer.record(self._name, *self._arguments, kind or self.result)
