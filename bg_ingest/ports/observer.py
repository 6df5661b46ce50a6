"""Receiver of instrumentation events. Metrics, traces, the log context and ``RecentEvents`` implement it."""
# ruff: noqa: ARG002 - the base class ignores all events

from collections.abc import Iterable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Generic, Self, TypeVar

import msgspec

from bg_ingest.domain.changes import Change
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.polling import PollReport, PollResult
from bg_ingest.domain.quarantine import QuarantinedRecord
from bg_ingest.domain.readings import Origin

Result = TypeVar("Result")


class Observation(Generic[Result]):
    """Context manager around one operation. The base class observes nothing."""

    __slots__ = ("result",)

    def __init__(self) -> None:
        self.result: Result | None = None
        """None after an error, and for operations without a result."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the operation. An error of the body is not suppressed."""

    def finish(self, result: Result) -> None:
        """Set the result, at the end of the body."""
        self.result = result


class OutboxPass(msgspec.Struct):
    """Counts of one pass over the unpublished changes of a shard, so far."""

    shard: int
    seen: int = 0
    """Unpublished changes of the pages so far, without those of users who were erased meanwhile."""
    settled: int = 0
    unroutable: int = 0
    refused_users: set[UserId] = msgspec.field(default_factory=set)
    """Users with a refused event. It holds back the user's later events."""
    oldest: datetime | None = None
    """Commit time of the oldest change that is not settled, among the changes that were read."""
    ended: bool = False
    complete: bool = False
    """The last page was reached."""

    @property
    def refused(self) -> int:
        """Number of refused events."""
        return len(self.refused_users)

    @property
    def waiting(self) -> int:
        return self.seen - self.settled

    def add_page(self, settled: int, waiting_since: Iterable[datetime]) -> None:
        """Add the number of settled changes of a page, and the commit times of its changes that are not settled."""
        self.settled += settled
        self.oldest = min(filter(None, [self.oldest, *waiting_since]), default=None)


class Observer:
    """Use cases call the methods directly. No method waits or raises. The methods of this class do nothing.

    An implementation inherits from this class and overrides the methods of the events that it uses.
    """

    def poll(self, connection: ConnectionId, epoch: int) -> Observation[PollReport]:
        """Observe one poll of a connection, in an epoch of the connection's shard."""
        return Observation()

    def provider_call(self, provider: str, region: str, call: str) -> Observation[None]:
        """Observe one request to a provider, without the time spent waiting for the call budget."""
        return Observation()

    def store_call(self, call: str) -> Observation[None]:
        """Observe one call of the table port. This most frequent method may cost only about a microsecond."""
        return Observation()

    def publish(self, change: Change) -> Observation[bool]:
        """Observe one delivery; the result is that of `Publisher.publish`."""
        return Observation()

    def committed(self, changes: Sequence[Change]) -> None:
        """Changes of one transaction, directly after it succeeded."""

    def ingested(self, connection: ConnectionId, origin: Origin, result: PollResult) -> None:
        """Counts of one page that is stored completely."""

    def quarantined(self, provider: str, records: Sequence[QuarantinedRecord], no_room: int) -> None:
        """Records that are new in the quarantine, and the number of those without room in it."""

    def webhook(self, connection: ConnectionId, result: PollResult | None) -> None:
        """Webhook that is stored. The result is None if it was stored before."""

    def webhook_rejected(self, problem: str) -> None:
        """Webhook that was answered with a problem of this type."""

    def grant_stored(self, grant: Grant) -> None:
        """Grant that has just been stored, because it was refreshed or the provider refused it."""

    def stream(self) -> Observation[None]:
        """Observe one stream of changes, as long as it is open."""
        return Observation()

    def stream_event(self, recorded_at: datetime, *, live: bool) -> None:
        """Event that was sent on a stream. It is live if it was recorded while the stream was open."""

    def stream_wakeup(self, cause: str) -> None:
        """New last change of a user with open streams.

        ``cause`` is the source of its number: ``commit``, ``hint`` or ``reconcile`` (a comparison with the heads).
        """

    def stream_reread(self) -> None:
        """Repeated read of events: a slower stream needs them after a faster one."""

    def outbox_pass(self, outbox_pass: OutboxPass) -> None:
        """Pass over the unpublished changes of a shard: at its start, after each page and at its end.

        A shard without unpublished changes is reported every minute, as a pass that has ended.
        """
