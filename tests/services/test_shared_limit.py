"""Two services on one table, more users than the provider's limit can serve: it never has to refuse us."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio

from bg_ingest.domain.connections import Defaults
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.outcomes import Ending
from bg_ingest.domain.turns import Plan
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.wiring import Services
from tests.house import PROVIDER, START, House, house

LIMIT = 400
"""Calls an hour: 16 users whose sensors measure each minute want 960."""

USERS = [f"user-{number}" for number in range(16)]
SIMULATED = SimulatorOptions(users=len(USERS), cadence_minutes=1, calls_per_hour=LIMIT, days_back=1)
EAGER = Defaults(poll_interval=timedelta(minutes=1), backfill_days=1, overlap=timedelta(minutes=5))


def person_of(user: str) -> str:
    return f"SandboxUser{int(user.removeprefix('user-')) + 1}"


@asynccontextmanager
async def two_services() -> AsyncIterator[tuple[House, list[Services]]]:
    async with house(simulated=SIMULATED, defaults=EAGER) as home:
        yield home, [home.services, home.twin()[0]]


async def polled(services: Services, home: House, user: str, endings: list[Ending]) -> None:
    """Take a connection's turns as they fall due."""
    plan = Plan()
    while True:
        turn = await services.polling.turn(ConnectionId(UserId(user), PROVIDER), 1, plan)
        plan = turn.plan
        endings.append(turn.outcome.ending)
        assert turn.due is not None
        await anyio.sleep(max(0.0, (turn.due - home.clock.now()).total_seconds()))


async def test_two_services_that_want_too_much_are_never_refused_and_serve_everybody() -> None:
    endings: list[Ending] = []
    async with two_services() as (home, services):
        for user in USERS:
            assert (await home.connect(user, person_of(user))).status_code == 200
            await anyio.sleep(30)
        with anyio.move_on_after(1.5 * 3600):
            async with anyio.create_task_group() as group:
                for number, user in enumerate(USERS):
                    group.start_soon(polled, services[number % 2], home, user, endings)
        limit = home.simulator.limit
        assert limit.refused == 0
        assert limit.most_taken > 0.9 * LIMIT, "what there is has been used"
        assert Ending.THROTTLED not in endings
        late = home.clock.now() - timedelta(minutes=20)
        lately = late - timedelta(minutes=75)  # who was silent before is looked at up to an hour later
        wearing = [user for user in USERS if len(home.truth(person_of(user), lately, late)) > 70]
        assert len(wearing) > len(USERS) / 3
        for user in wearing:
            stored = [each.reading.measured_at for each in await home.stored(user)]
            assert max(stored) >= home.truth(person_of(user), START, late)[-1][0]
