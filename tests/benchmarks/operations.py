"""Each operation once, through the whole service, on whatever table: what it uses, and what the server says of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TypeAlias

import msgspec

from bg_ingest.adapters.table.protocol import Table
from bg_ingest.domain.events import Change
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.domain.outcomes import Ending
from bg_ingest.domain.turns import Plan, Turn
from bg_ingest.ports import Pending
from bg_ingest.simulator import REPLAY_USER, SimulatorOptions
from tests.benchmarks.capacity import Asking, Metered, Units
from tests.benchmarks.wearer import CADENCE
from tests.house import PROVIDER, House, house
from tests.sender import envelope, record

ADA = ConnectionId(UserId("ada"), PROVIDER)
SHARD = shard_of(ADA.user)
DAYS_ASKED = (1, 14, 90)

POLLS_BEFORE = 20
"""The next fills a segment further and falls due between two refreshes of the grant, which come every eight polls."""

AtHand: TypeAlias = dict[Pending, Change]


class Row(msgspec.Struct, frozen=True):
    """An operation's units."""

    name: str
    used: Units
    """Computed."""
    told: float
    """Write units, as the server says; 0 in memory."""


class Bench:
    """A house in which nothing goes on but what is asked for here."""

    def __init__(self, home: House, asking: Asking | None = None) -> None:
        self.home = home
        self.rows: list[Row] = []
        self._asking = asking
        self._plan = Plan()

    @property
    def metered(self) -> Metered:
        assert isinstance(self.home.table, Metered)
        return self.home.table

    @asynccontextmanager
    async def row(self, name: str) -> AsyncIterator[None]:
        """Measure what the body does."""
        used, told = self.metered.used, self._told
        yield
        self.rows.append(Row(name, self.metered.used - used, self._told - told))

    @property
    def _told(self) -> float:
        return self._asking.told if self._asking else 0.0

    async def turn(self, *, asked: bool = False) -> Turn:
        turn = await self.home.services.polling.turn(ADA, 1, self._plan, asked=asked)
        self._plan = turn.plan
        return turn

    async def next_poll(self) -> Turn:
        """Skip to the next slot and poll."""
        due = self._plan.look_at
        assert due is not None
        self.home.clock.skip(max(timedelta(0), due - self.home.clock.now()))
        return await self.turn()

    async def backfill(self) -> int:
        """Read all of the past; return how many readings that was."""
        stored = 0
        while (turn := await self.turn()).due is not None and turn.due <= self.home.clock.now():
            stored += turn.outcome.recorded
        return stored + turn.outcome.recorded

    async def tell(self, at_hand: AtHand | None = None) -> int:
        told = await self.home.services.relay.tell(SHARD, at_hand or {})
        return told.settled

    async def at_hand(self) -> AtHand:
        """Return what a commit hands to the relay of its own process."""
        outbox = self.home.services.store.outbox
        return await outbox.changes([each async for page in outbox.pending(SHARD) for each in page])

    async def ask(self, days: int) -> int:
        """Ask for a range up to now; return how many readings it has."""
        now = self.home.clock.now()
        start = now - timedelta(days=days)
        answer = await self.home.api.get(f"/api/bg/{ADA.user}", params={"from": f"{start:%Y-%m-%dT%H:%M:%SZ}"})
        assert answer.status_code == 200
        return len(answer.json())


async def operations(wearer: SimulatorOptions, table: Table | None = None, asking: Asking | None = None) -> list[Row]:
    """Measure on a table, else in memory; ``asking`` is the client below that table."""
    async with house(simulated=wearer, table=table, around=Metered) as home:
        bench = Bench(home, asking)
        await _connect_and_backfill(bench)
        await _poll(bench)
        await _push(bench)
        async with bench.row("worker settings changed"):
            path = f"/api/users/{ADA.user}/connections/{PROVIDER}/worker"
            answer = await home.api.patch(path, json={"poll_interval_seconds": 600})
            assert answer.status_code == 200
        await _read(bench)
        return bench.rows


async def _connect_and_backfill(bench: Bench) -> None:
    async with bench.row("connect, up to the callback's page"):
        await bench.home.connect(ADA.user, REPLAY_USER)
    await bench.tell()
    async with bench.row("90 days of backfill: 25,920 readings in 90 commits"):
        before = bench.metered.transactions
        stored = await bench.backfill()
        assert stored == 25_920, stored
        commits = bench.metered.transactions - before  # with those that note how far gaps are judged
        assert 90 <= commits <= 100, commits
    whole, share = bench.rows[-1], 1 / 90
    bench.rows.append(Row("of which a commit of 288 readings", whole.used.times(share), whole.told * share))
    async with bench.row("telling these 90 changes, read back"):
        told = await bench.tell()
        assert told == 90, told


async def _poll(bench: Bench) -> None:
    for _ in range(POLLS_BEFORE):
        await bench.next_poll()
    await bench.tell()
    async with bench.row("poll that brings 3 readings"):
        turn = await bench.next_poll()
        assert turn.outcome.recorded == 3, turn
    at_hand = await bench.at_hand()
    async with bench.row("telling that change"):
        assert await bench.tell(at_hand) == 1
    async with bench.row("poll that brings nothing, the first"):
        turn = await bench.turn(asked=True)
        assert turn.outcome.ending is Ending.NOTHING_NEW
    async with bench.row("poll that brings nothing, any other within the hour"):
        await bench.turn(asked=True)
    connection, grant = await bench.home.services.store.connections.with_grant(ADA)
    assert connection is not None
    assert grant is not None
    async with bench.row("refresh of the grant"):
        await bench.home.services.grants.renewed(connection, grant)


async def _push(bench: Bench) -> None:
    connection = await bench.home.connection(ADA.user)
    pushed = envelope(connection.provider_account, [record(bench.home.clock.now() - CADENCE / 2)])
    async with bench.row("webhook with one reading"):
        answer = await bench.home.push(ADA.user, pushed)
        assert answer.json()["stored"] == 1, answer.text
    async with bench.row("the same webhook again"):
        await bench.home.push(ADA.user, pushed)


async def _read(bench: Bench) -> None:
    async with bench.row("latest"):
        answer = await bench.home.api.get(f"/api/bg/{ADA.user}/latest")
        assert answer.status_code == 200
    for days in DAYS_ASKED:
        async with bench.row(f"range of {days} day{'s' * (days > 1)}"):
            found = await bench.ask(days)
            assert found >= days * 287, found
