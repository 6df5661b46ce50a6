"""What things cost in calls to the store. Counted, not timed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import msgspec

from bg_ingest.domain.connections import Defaults
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.domain.outcomes import Ending
from bg_ingest.domain.turns import Plan, Turn
from bg_ingest.ports import Priority
from bg_ingest.simulator import SimulatorOptions
from tests.fakes.counting import Counting
from tests.house import PROVIDER, House, house
from tests.reading import EVER

ADA = ConnectionId(UserId("ada"), PROVIDER)
SHARD = shard_of(ADA.user)
FEW = Defaults(backfill_days=2)


class Cost(msgspec.Struct):
    """Reads, writes, transactions."""

    reads: int = 0
    writes: int = 0
    transactions: int = 0


@asynccontextmanager
async def cost(home: House) -> AsyncIterator[Cost]:
    """Count what the store is asked in the body."""
    table, spent = home.table, Cost()
    assert isinstance(table, Counting)
    before = table.asked
    yield spent
    after = table.asked
    spent.reads, spent.writes, spent.transactions = (b - a for a, b in zip(before, after, strict=True))


async def take_turns(home: House) -> Turn:
    """Take turns until the past has been read, and tell all."""
    plan = Plan()
    while True:
        turn = await home.services.polling.turn(ADA, 1, plan)
        plan = turn.plan
        if turn.due is not None and turn.due > home.clock.now():
            await home.services.relay.tell(SHARD, {})
            return turn


async def sleep_until_due(home: House, turn: Turn) -> None:
    assert turn.due is not None
    await anyio.sleep((turn.due - home.clock.now()).total_seconds())


async def have_calls_at_hand(home: House) -> None:
    """Let what a slice of the budget costs not count: it is for many calls, here and elsewhere."""
    for _ in range(10):
        await home.services.budget.take(ADA.provider, "us", Priority.LIVE)


async def test_latest_costs_one_read() -> None:
    async with house(around=Counting, defaults=FEW) as home:
        await home.connect("ada")
        await take_turns(home)
        async with cost(home) as spent:
            answer = await home.api.get("/api/bg/ada/latest?view=full")
        assert answer.status_code == 200
        assert spent == Cost(reads=1)


async def test_a_poll_with_news_costs_two_reads_and_a_transaction_and_telling_it_a_read_and_a_write() -> None:
    async with house(around=Counting, defaults=FEW) as home:
        await home.connect("ada")
        turn = await take_turns(home)
        await sleep_until_due(home, turn)
        await have_calls_at_hand(home)
        async with cost(home) as spent:
            turn = await home.services.polling.turn(ADA, 1, turn.plan)
        assert turn.outcome.ending is Ending.READ
        assert turn.outcome.recorded == 3
        assert spent == Cost(reads=2, transactions=1)

        outbox = home.services.store.outbox
        pending = [each async for page in outbox.pending(SHARD) for each in page]
        at_hand = await outbox.changes(pending)
        assert len(at_hand) == 1
        async with cost(home) as spent:
            told = await home.services.relay.tell(SHARD, at_hand)
        assert told.settled == 1
        assert spent == Cost(reads=1, writes=1)


async def test_a_poll_that_brings_nothing_writes_nothing() -> None:
    async with house(simulated=SimulatorOptions(delay_seconds=7200), around=Counting, defaults=FEW) as home:
        await home.connect("ada")
        plan = (await take_turns(home)).plan
        first = await home.services.polling.turn(ADA, 1, plan, asked=True)  # notes an outcome of another kind
        assert first.outcome.ending is Ending.NOTHING_NEW
        await have_calls_at_hand(home)
        async with cost(home) as spent:
            again = await home.services.polling.turn(ADA, 1, plan, asked=True)
        assert again.outcome.ending is Ending.NOTHING_NEW
        assert spent == Cost(reads=2)


async def test_ninety_days_are_kept_in_ten_bytes_a_reading() -> None:
    async with house() as home:
        await home.connect("ada")
        await take_turns(home)
        window = [packed async for packed in home.services.store.readings.packed(ADA.user, EVER)]
        readings = len(await home.stored("ada"))
        assert readings > 25_000
        assert sum(map(len, window)) / readings <= 10
