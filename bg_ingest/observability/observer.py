"""What was committed, and what became of it: by the hints that follow a commit, and on its way to the broker."""

from collections.abc import Sequence
from datetime import datetime
from time import perf_counter
from typing import Any

from bg_ingest.domain.changes import (
    Change,
    ConnectionChanged,
    GapHealed,
    GapOpened,
    ReadingsRecorded,
    ReadingsRevised,
)
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.grants import Credentials, SecretBytes
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.polling import PollReport, PollResult, PollState
from bg_ingest.domain.quarantine import QuarantinedRecord
from bg_ingest.domain.readings import Origin, Reading, Unreadable
from bg_ingest.domain.windows import Window
from bg_ingest.observability.outbox import MeasuredOutbox
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.observability.timing import outcome_label
from bg_ingest.ports import (
    AccountData,
    Answers,
    Clock,
    ConnectStep,
    Page,
    Polls,
    Priority,
    Provider,
    Publisher,
    Wakeups,
)
from bg_ingest.services.polling.ingest import Ingester
from bg_ingest.services.polling.quarantine import Quarantine, RecordsByKey
from bg_ingest.services.polling.webhooks import WebhookReceiver

NO_PROVIDER = "none"
"""Of a webhook that was refused: whose it would have been is not looked into, or not believed."""


class MeasuredWakeups:
    """The port Hints: told of every change once it is committed, it counts what was new."""

    def __init__(self, wakeups: Wakeups, metrics: MetricsRegistry, outbox: MeasuredOutbox) -> None:
        self._wakeups = wakeups
        self._metrics = metrics
        self._outbox = outbox

    def wake_poller(self, connection: ConnectionId) -> None:
        self._wakeups.wake_poller(connection)

    def wake_relay(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._count(change)
        self._outbox.committed(changes)
        self._wakeups.wake_relay(changes)

    def _count(self, change: Change) -> None:
        match change.data:
            case ReadingsRecorded(provider, origin, readings):
                self._metrics.readings.labels(provider, origin, "recorded").inc(len(readings))
            case ReadingsRevised(provider, origin, readings):
                self._metrics.readings.labels(provider, origin, "revised").inc(len(readings))
            case ConnectionChanged(provider, state):
                self._metrics.connection_changes.labels(provider, state).inc()
            case GapOpened(provider, gap):
                self._metrics.gaps.labels(provider, gap.cause, "opened").inc()
            case GapHealed(provider, gap):
                self._metrics.gaps.labels(provider, gap.cause, "healed").inc()


class MeasuredIngester(Ingester):
    """Counts what no change tells of: readings that were there already, and those set aside."""

    def __init__(self, metrics: MetricsRegistry, *collaborators: Any) -> None:  # noqa: ANN401 - as Ingest has them
        super().__init__(*collaborators)
        self._metrics = metrics

    async def ingest(
        self, connection: Connection, page: Page, *, origin: Origin, after: Connection | None = None
    ) -> tuple[PollResult, Connection]:
        outcome, connection = await super().ingest(connection, page, origin=origin, after=after)
        for name, number in (("duplicate", outcome.duplicates), ("quarantined", outcome.quarantined)):
            if number:
                self._metrics.readings.labels(connection.id.provider, origin, name).inc(number)
        return outcome, connection


class MeasuredQuarantine(Quarantine):
    """Counts the records that could not be read, each once however often it comes unless there was no room for it."""

    def __init__(self, metrics: MetricsRegistry, *collaborators: Any) -> None:  # noqa: ANN401 - as Shelving has them
        super().__init__(*collaborators)
        self._metrics = metrics

    async def add_pages(self, connection: Connection, by_key: RecordsByKey) -> tuple[Sequence[QuarantinedRecord], int]:
        added, no_room = await super().add_pages(connection, by_key)
        for each in added:
            self._metrics.quarantined_records.labels(each.provider, each.reason).inc()
        if no_room:
            self._metrics.quarantined_records.labels(connection.id.provider, "no_room").inc(no_room)
        return added, no_room


class MeasuredWebhookReceiver(WebhookReceiver):
    """Counts webhooks by what became of them: each once, whether it was let in or not."""

    def __init__(self, metrics: MetricsRegistry, *collaborators: Any) -> None:  # noqa: ANN401 - as Receiving has them
        super().__init__(*collaborators)
        self._metrics = metrics

    async def store(self, connection: Connection, page: Page, identity: str, *, once: bool) -> PollResult | None:
        outcome = await super().store(connection, page, identity, once=once)
        result = "accepted" if outcome else "duplicate"
        self._metrics.webhooks.labels(connection.id.provider, result).inc()
        return outcome

    def record_rejection(self, problem: str) -> None:
        self._metrics.webhooks.labels(NO_PROVIDER, problem.replace("-", "_")).inc()


class MeasuredPublisher:
    """The port Publisher; an event that nobody was there to receive is ``unroutable``."""

    def __init__(self, publisher: Publisher, metrics: MetricsRegistry, clock: Clock) -> None:
        self._publisher = publisher
        self._metrics = metrics
        self._clock = clock

    async def publish(self, change: Change) -> bool:
        with self._metrics.events(change.type) as event:
            received = await self._publisher.publish(change)
            event.outcome = "confirmed" if received else "unroutable"
        self._metrics.event_age.observe((self._clock.now() - change.recorded_at).total_seconds())
        return received


class MeasuredProvider:
    """The port Provider. Refusals count as ``provider_throttled`` and ``grant_rejected``."""

    def __init__(self, provider: Provider, metrics: MetricsRegistry) -> None:
        self.name = provider.name
        self.capabilities = provider.capabilities
        self._provider = provider
        self._calls = metrics.provider_calls

    async def connect(self, region: str, answers: Answers) -> ConnectStep:
        if not answers.values:  # makes no call
            return await self._provider.connect(region, answers)
        with self._calls(self.name, region, "exchange"):
            return await self._provider.connect(region, answers)

    def parse_credentials(self, content: SecretBytes) -> Credentials:
        return self._provider.parse_credentials(content)

    async def renew(self, region: str, credentials: Credentials) -> Credentials:
        with self._calls(self.name, region, "refresh"):
            return await self._provider.renew(region, credentials)

    async def available(self, region: str, credentials: Credentials, priority: Priority) -> AccountData:
        with self._calls(self.name, region, "available"):
            return await self._provider.available(region, credentials, priority)

    async def readings(self, region: str, credentials: Credentials, window: Window, priority: Priority) -> Page:
        with self._calls(self.name, region, "readings"):
            return await self._provider.readings(region, credentials, window, priority)

    def translate_record(self, provider_account: str, raw: bytes, came_at: datetime) -> Reading | Unreadable:
        return self._provider.translate_record(provider_account, raw, came_at)


class MeasuredPolls:
    """Takes turns, and times those that asked a provider apart from those that were not due."""

    def __init__(self, polls: Polls, metrics: MetricsRegistry) -> None:
        self._polls = polls
        self._metrics = metrics

    async def poll(
        self, connection_id: ConnectionId, epoch: int, state: PollState, *, requested: bool = False
    ) -> PollReport:
        origin, outcome = "none", "crashed"
        began = perf_counter()
        try:
            report = await self._polls.poll(connection_id, epoch, state, requested=requested)
            origin, outcome = report.origin or "none", report.result.outcome
        except BaseException as error:
            outcome = outcome_label(type(error))
            raise
        finally:
            self._metrics.polls.observe(perf_counter() - began, connection_id.provider, origin, outcome)
        return report
