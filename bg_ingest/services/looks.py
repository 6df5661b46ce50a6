"""What a turn asks of a provider: what is new, a window of the past, or again what was read before."""

from collections.abc import Mapping
from datetime import datetime, timedelta

import msgspec

from bg_ingest.domain.connections import Connection, Defaults, State
from bg_ingest.domain.grants import Credentials, Grant
from bg_ingest.domain.judging import lacks_until
from bg_ingest.domain.outcomes import Ending, Outcome
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.schedule import learned_cadence
from bg_ingest.domain.windows import Window, live_window
from bg_ingest.errors import ProviderMisbehaved
from bg_ingest.ports import Clock, Connections, Page, Priority, Provider
from bg_ingest.services.grants import Grants
from bg_ingest.services.ingest import Ingest, risen
from bg_ingest.services.transition import Transition

NOTED_EVERY = timedelta(hours=1)
"""How old the outcome on record may get while it stays the same."""

PRIORITIES = {Origin.LIVE: Priority.LIVE, Origin.BACKFILL: Priority.BACKFILL, Origin.SWEEP: Priority.REPAIR}


class Looked(msgspec.Struct, frozen=True):
    """What a look has come to."""

    outcome: Outcome
    connection: Connection
    """As it is after it."""


class Looks:
    """Asks, keeps what came, and notes how it ended; raises what went wrong."""

    def __init__(
        self,
        connections: Connections,
        providers: Mapping[str, Provider],
        grants: Grants,
        ingest: Ingest,
        transition: Transition,
        clock: Clock,
        defaults: Defaults,
    ) -> None:
        self._connections = connections
        self._providers = providers
        self._grants = grants
        self._ingest = ingest
        self._transition = transition
        self._clock = clock
        self._defaults = defaults

    async def at_new(self, connection: Connection, grant: Grant, epoch: int) -> Looked:
        """Ask for what is new. After a silence longer than one window, the older part joins the backfill."""
        now, longest = self._clock.now(), self._longest(connection)
        window = live_window(connection.watermark or now, now, overlap=self._defaults.overlap)
        after = msgspec.structs.replace(connection, epoch=epoch)
        if now - (connection.watermark or now) > longest:
            # a day further than need be: a sensor long silent costs one more call a day, not at each look
            reached = window.newest(longest).start + timedelta(days=1)
            backfill = window.before(reached, joining=connection.backfill)
            after = msgspec.structs.replace(after, backfill=backfill, watermark=reached)
            # before anything is read: the commits of a long page move the watermark one by one
            await self._connections.note(connection, after)
            connection = after
        return await self._ask(connection, after, grant, window.newest(longest), Origin.LIVE)

    async def at_past(self, connection: Connection, grant: Grant, epoch: int, past: Window) -> Looked:
        """Ask for the newest window of the past that is left to read."""
        window = past.newest(self._longest(connection))
        after = msgspec.structs.replace(connection, epoch=epoch, backfill=past.before(window.start))
        return await self._ask(connection, after, grant, window, Origin.BACKFILL)

    async def again(self, connection: Connection, grant: Grant, epoch: int, known: Window) -> Looked:
        """Ask once more for what was read before: a sweep."""
        after = msgspec.structs.replace(connection, epoch=epoch, swept_at=self._clock.now())
        return await self._ask(connection, after, grant, known.newest(self._longest(connection)), Origin.SWEEP)

    async def at_missing(
        self, connection: Connection, grant: Grant, epoch: int, missing: Window | None, next_at: datetime | None
    ) -> Looked:
        """Ask once more for what is missing, if anything still is, and note when to do so again."""
        after = msgspec.structs.replace(connection, epoch=epoch, repair_at=next_at)
        if missing is None:
            await self._connections.note(connection, after)
            return Looked(Outcome(Ending.NOTHING_NEW), after)
        return await self._ask(connection, after, grant, missing.newest(self._longest(connection)), Origin.SWEEP)

    async def note(self, stored: Connection, target: Connection, ending: Ending) -> Connection:
        """Write what the look's commits did not: one that brought nothing new mostly writes nothing."""
        now = self._clock.now()
        same = msgspec.structs.replace(target, last_outcome=stored.last_outcome, outcome_at=stored.outcome_at)
        due = stored.last_outcome != ending or stored.outcome_at is None or now - stored.outcome_at >= NOTED_EVERY
        if msgspec.structs.replace(same, epoch=stored.epoch) == stored and not due:
            return stored
        target = _ended(target, ending, now) if due else same
        await self._connections.note(stored, target)
        return target

    async def _ask(
        self, connection: Connection, after: Connection, grant: Grant, window: Window, origin: Origin
    ) -> Looked:
        provider = self._providers[after.id.provider]
        first = connection.newest_reading_at is None  # who has just connected waits for it
        priority = Priority.LIVE if first else PRIORITIES[origin]

        async def ask(credentials: Credentials) -> Page:
            return await provider.readings(after.region, credentials, window, priority)

        page = await self._grants.use(after, grant, ask)
        if page.provider_account != connection.provider_account:
            raise ProviderMisbehaved("the answer is about another person")
        if connection.state is State.PROVIDER_FORBIDDEN:
            connection = await self._transition.enter(connection, State.ACTIVE, None)
            after = msgspec.structs.replace(after, state=State.ACTIVE, reason=None)
        if cadence := learned_cadence([each.measured_at for each in page.readings[-50:]]):
            after = msgspec.structs.replace(after, cadence_seconds=int(cadence.total_seconds()))
        after = msgspec.structs.replace(after, lacks_until=connection.lacks_until or self._lacks_until(after, page))
        outcome, stored = await self._ingest.keep(
            connection, page, origin=origin, after=_ended(after, Ending.READ, self._clock.now())
        )
        noted = await self.note(stored, risen(after, page.readings, self._clock.now()), outcome.ending)
        return Looked(outcome, noted)

    def _lacks_until(self, connection: Connection, page: Page) -> datetime | None:
        """The first look at a reading shows also what was before it; later ones may begin between the two."""
        usual = self._providers[connection.id.provider].capabilities.cadence
        cadence = connection.cadence_seconds or int(usual.total_seconds())
        return lacks_until(page.readings, cadence, since=connection.newest_reading_at)

    def _longest(self, connection: Connection) -> timedelta:
        return self._providers[connection.id.provider].capabilities.longest_window


def _ended(connection: Connection, ending: Ending, at: datetime) -> Connection:
    return msgspec.structs.replace(connection, last_outcome=ending, outcome_at=at)
