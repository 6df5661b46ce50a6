"""What was committed, and what became of it: by the hints that follow a commit, and on its way to the broker."""

from collections.abc import Sequence
from typing import Any

from bg_ingest.domain.commits import SetAside
from bg_ingest.domain.connections import Connection
from bg_ingest.domain.events import Change, ConnectionChanged, GapHealed, GapOpened, ReadingsRecorded, ReadingsRevised
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.outcomes import Outcome
from bg_ingest.domain.readings import Origin
from bg_ingest.metrics.measures import Measures
from bg_ingest.metrics.outbox import MeasuredOutbox
from bg_ingest.ports import Clock, Hints, Page, Publisher
from bg_ingest.services.ingest import Ingest
from bg_ingest.services.receive import Receiving
from bg_ingest.services.shelve import ByPlace, Shelving

NO_PROVIDER = "none"
"""Of a webhook that was refused: whose it would have been is not looked into, or not believed."""


class MeasuredHints:
    """The port Hints: told of every change once it is committed, it counts what was new."""

    def __init__(self, hints: Hints, measures: Measures, outbox: MeasuredOutbox) -> None:
        self._hints = hints
        self._measures = measures
        self._outbox = outbox

    def look(self, connection: ConnectionId) -> None:
        self._hints.look(connection)

    def told(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._count(change)
        self._outbox.committed(changes)
        self._hints.told(changes)

    def _count(self, change: Change) -> None:
        match change.what:
            case ReadingsRecorded(provider, origin, readings):
                self._measures.readings.labels(provider, origin, "recorded").inc(len(readings))
            case ReadingsRevised(provider, origin, readings):
                self._measures.readings.labels(provider, origin, "revised").inc(len(readings))
            case ConnectionChanged(provider, state):
                self._measures.connection_changes.labels(provider, state).inc()
            case GapOpened(provider, gap):
                self._measures.gaps.labels(provider, gap.cause, "opened").inc()
            case GapHealed(provider, gap):
                self._measures.gaps.labels(provider, gap.cause, "healed").inc()


class MeasuredIngest(Ingest):
    """Counts what no change tells of: readings that were there already, and those set aside."""

    def __init__(self, measures: Measures, *collaborators: Any) -> None:  # noqa: ANN401 - as Ingest has them
        super().__init__(*collaborators)
        self._measures = measures

    async def keep(
        self, connection: Connection, page: Page, *, origin: Origin, after: Connection | None = None
    ) -> tuple[Outcome, Connection]:
        outcome, connection = await super().keep(connection, page, origin=origin, after=after)
        for name, number in (("duplicate", outcome.duplicates), ("quarantined", outcome.quarantined)):
            if number:
                self._measures.readings.labels(connection.id.provider, origin, name).inc(number)
        return outcome, connection


class MeasuredShelving(Shelving):
    """Counts the records that could not be read, each once however often it comes unless there was no room for it."""

    def __init__(self, measures: Measures, *collaborators: Any) -> None:  # noqa: ANN401 - as Shelving has them
        super().__init__(*collaborators)
        self._measures = measures

    async def set_aside(self, connection: Connection, by_place: ByPlace) -> tuple[Sequence[SetAside], int]:
        added, no_room = await super().set_aside(connection, by_place)
        for each in added:
            self._measures.set_aside.labels(each.provider, each.reason).inc()
        if no_room:
            self._measures.set_aside.labels(connection.id.provider, "no_room").inc(no_room)
        return added, no_room


class MeasuredReceiving(Receiving):
    """Counts webhooks by what became of them: each once, whether it was let in or not."""

    def __init__(self, measures: Measures, *collaborators: Any) -> None:  # noqa: ANN401 - as Receiving has them
        super().__init__(*collaborators)
        self._measures = measures

    async def take(self, connection: Connection, page: Page, identity: str, *, once: bool) -> Outcome | None:
        outcome = await super().take(connection, page, identity, once=once)
        result = "accepted" if outcome else "duplicate"
        self._measures.webhooks.labels(connection.id.provider, result).inc()
        return outcome

    def turned_away(self, problem: str) -> None:
        self._measures.webhooks.labels(NO_PROVIDER, problem.replace("-", "_")).inc()


class MeasuredPublisher:
    """The port Publisher; an event that nobody was there to receive is ``unroutable``."""

    def __init__(self, publisher: Publisher, measures: Measures, clock: Clock) -> None:
        self._publisher = publisher
        self._measures = measures
        self._clock = clock

    async def publish(self, change: Change) -> bool:
        with self._measures.events(change.type) as event:
            received = await self._publisher.publish(change)
            event.outcome = "confirmed" if received else "unroutable"
        self._measures.event_age.observe((self._clock.now() - change.recorded_at).total_seconds())
        return received
