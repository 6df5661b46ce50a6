"""An API over a real store in memory whose calls are counted, without providers and actors."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import httpx

from bg_ingest.adapters.local.publisher import LocalPublisher
from bg_ingest.adapters.sealing import KeyRing
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.adapters.table.store import TableStore
from bg_ingest.api.app import create_api
from bg_ingest.api.auth import Access
from bg_ingest.domain.budget import Limit
from bg_ingest.domain.commits import Commit, Head, Standing, readings_commit, with_standing
from bg_ingest.domain.connections import Defaults, State
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.readings import Device, Flag, Origin, Reading
from bg_ingest.domain.segments import decide, parts, segment_start
from bg_ingest.domain.timeline import Next
from bg_ingest.domain.vitals import Report
from bg_ingest.ports import Provider, Store
from bg_ingest.wiring import Services
from tests.fakes.clock import NOON, SetClock
from tests.fakes.counting import Counting
from tests.hygiene import check_answer
from workers.build import Workers

ADA = UserId("ada")
DEVICE = Device("acme", "account-1", "ab" * 32, "iOS", "g7")
FIVE_MINUTES = timedelta(minutes=5)


class Unwell:
    """Vitals as a test wants them."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.broken: list[str] = []
        self.told: Report | None = None

    def unready(self) -> Sequence[str]:
        return self.reasons

    def degraded(self) -> Sequence[str]:
        return self.broken

    def report(self) -> Report | None:
        return self.told

    def ahead(self, connection: ConnectionId) -> Next | None:
        return None


class Desk:
    """What tests see: the API as a client does, the store, how often that was asked, the clock."""

    def __init__(self, table: Counting, clock: SetClock, access: Access, providers: dict[str, Provider]) -> None:
        self.table = table
        self.clock = clock
        self.vitals = Unwell()
        self.store: Store = TableStore(table, clock)
        self.services = Services()
        self.services.join(
            self.store,
            LocalPublisher("/bg-ingest"),
            providers,
            sealer=KeyRing([bytes(32)]),
            clock=clock,
            hints=Workers(),
            defaults=Defaults(),
            limit=Limit(60_000),
            table="test",
        )

        async def exposition() -> bytes:
            return self.services.measures.text()  # on the loop: its clock is not another thread's

        self.app = create_api(
            self.services, access=access, vitals=self.vitals, own_names=["ingest.test"], exposition=exposition
        )
        # A real server answers what the application raises; here the answer it began is what counts.
        transport = httpx.ASGITransport(app=cast("Any", self.app), raise_app_exceptions=False)
        hooks = {"response": [check_answer]}
        self.http = httpx.AsyncClient(transport=transport, base_url="http://ingest.test", event_hooks=hooks)

    async def stand(self, state: State = State.ACTIVE, provider: str = "acme") -> None:
        """Make Ada known, with a sensor of 5 minutes that is polled as often."""
        before = await self.store.readings.head(ADA)
        head = with_standing(before or Head(ADA), provider, Standing(state, 300, 0, 300))
        await self.store.readings.commit(Commit(before=before, head=head))

    async def keep(self, *readings: Reading) -> None:
        """Store readings of Ada as a poll does; an active connection is made where she has none."""
        if await self.store.readings.head(ADA) is None:
            await self.stand()
        for part in parts(readings):
            head, known = await self.store.readings.known(ADA, {segment_start(each.measured_at) for each in part})
            assert head is not None
            at = head.next_instant(self.clock.now())
            decision = decide(known, part, at=at, last_change=head.last_change)
            commit = readings_commit(head, known, decision, provider="acme", origin=Origin.LIVE, at=at)
            await self.store.readings.commit(commit)


def reading(number: int, value: int = 110, **others: Any) -> Reading:
    """Return the reading of so many five minutes after noon."""
    return Reading(NOON + number * FIVE_MINUTES, value, Flag.OK, DEVICE, **others)


@asynccontextmanager
async def open_desk(access: Access = Access.OPEN, **providers: Provider) -> AsyncIterator[Desk]:
    clock = SetClock()
    async with open_table(None, clock) as plain:
        desk = Desk(Counting(plain), clock, access, providers)
        await desk.services.admission.asks_nobody()  # which knows it for a while
        desk.table.reads = 0
        async with desk.http:
            yield desk
