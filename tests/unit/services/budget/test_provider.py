"""Two services on one table, more users than the provider's limit can serve: no call is refused."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import pytest

from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.polling import Outcome, PollState
from bg_ingest.services import Services
from bg_ingest.simulator import SimulatorOptions
from tests.harness.service import PROVIDER, START, ServiceHarness, open_service

LIMIT = 400
"""Calls an hour; 16 users with a reading each minute need 960."""

USERS = [f"user-{number}" for number in range(16)]
SIMULATED = SimulatorOptions(users=len(USERS), cadence_minutes=1, calls_per_hour=LIMIT, days_back=1)
EVERY_MINUTE = PollDefaults(poll_interval=timedelta(minutes=1), backfill_days=1, overlap=timedelta(minutes=5))


def person_of(user: str) -> str:
    return f"SandboxUser{int(user.removeprefix('user-')) + 1}"


@asynccontextmanager
async def two_services() -> AsyncIterator[tuple[ServiceHarness, list[Services]]]:
    async with open_service(simulated=SIMULATED, defaults=EVERY_MINUTE) as service:
        yield service, [service.services, service.new_process()[0]]


async def poll_all(services: Services, service: ServiceHarness, user: str, outcomes: list[Outcome]) -> None:
    """Poll a connection at each due time."""
    plan = PollState()
    while True:
        report = await services.poller.poll(ConnectionId(UserId(user), PROVIDER), 1, plan)
        plan = report.state
        outcomes.append(report.result.outcome)
        assert report.due is not None
        await anyio.sleep(max(0.0, (report.due - service.clock.now()).total_seconds()))


@pytest.mark.slow
async def test_two_services_with_too_much_demand_are_never_refused_and_serve_all_users() -> None:
    outcomes: list[Outcome] = []
    async with two_services() as (service, services):
        for user in USERS:
            assert (await service.connect(user, person_of(user))).status_code == 200
            await anyio.sleep(30)
        with anyio.move_on_after(1.5 * 3600):
            async with anyio.create_task_group() as group:
                for number, user in enumerate(USERS):
                    group.start_soon(poll_all, services[number % 2], service, user, outcomes)
        limit = service.simulator.limit
        assert limit.refused == 0
        assert limit.max_taken > 0.9 * LIMIT, "the available calls have been used"
        assert Outcome.THROTTLED not in outcomes
        late = service.clock.now() - timedelta(minutes=20)
        lately = late - timedelta(minutes=75)  # a sensor silent before is polled up to an hour later
        wearing = [user for user in USERS if len(service.true_values(person_of(user), lately, late)) > 70]
        assert len(wearing) > len(USERS) / 3
        for user in wearing:
            stored = [each.reading.measured_at for each in await service.stored_readings(user)]
            assert max(stored) >= service.true_values(person_of(user), START, late)[-1][0]
