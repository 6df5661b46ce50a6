"""An action is repeated at its interval; audit, key uses and unfinished erasures are such actions."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import pytest

from bg_ingest.domain.access import Scope
from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.windows import Window
from tests.conftest import on
from tests.harness.service import ServiceHarness, open_service
from workers.periodic import Periodic

anyio_backend = on("asyncio", "trio")

ADA = UserId("ada")
STATUS = "GET /api/users/{user_id}/connections"


class Action:
    """Takes two seconds; ``began`` has the seconds at which it began."""

    def __init__(self) -> None:
        self.created = anyio.current_time()
        self.began: list[float] = []

    async def __call__(self) -> None:
        self.began.append(round(anyio.current_time() - self.created, 3))
        await anyio.sleep(2)


@asynccontextmanager
async def running(
    every: float, *, first_after: float | None = None, work: Callable[[], Awaitable[object]] | None = None
) -> AsyncIterator[Action]:
    action = Action()
    async with anyio.create_task_group() as group:
        await group.start(Periodic(every, action, first_after=first_after, wait_for_work=work))
        yield action
        group.cancel_scope.cancel()


async def test_an_action_runs_so_many_seconds_after_the_start_and_after_each_run() -> None:
    async with running(60) as action:
        await anyio.sleep(200)
    assert action.began == [60, 122, 184]


async def test_the_first_run_may_come_at_once() -> None:
    async with running(60, first_after=0.0) as action:
        await anyio.sleep(100)
    assert action.began == [0, 62]


async def test_without_work_nothing_runs() -> None:
    work = anyio.Event()
    async with running(1.0, work=work.wait) as action:
        await anyio.sleep(1000)
        assert not action.began
        work.set()
        await anyio.sleep(2)
        assert action.began == [1001]


async def test_an_error_of_the_action_is_a_crash_of_the_actor() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Periodic(1.0, fail)()


async def audit_routes(service: ServiceHarness) -> list[str]:
    """Return the routes by which Ada's data were read or changed, as another process reads them."""
    now = service.clock.now()
    services, _ = service.new_process()
    window = Window(now - timedelta(days=1), now + timedelta(days=1))
    return [record.route async for batch in services.audit_log.records(ADA, window) for record in batch]


@pytest.mark.slow
async def test_a_request_is_on_record_within_seconds() -> None:
    async with open_service(defaults=PollDefaults(backfill_days=0)) as service, service.running():
        await service.connect(ADA)
        await service.api.get(f"/api/users/{ADA}/connections")
        await anyio.sleep(3)
        assert STATUS in await audit_routes(service)


async def test_a_request_right_before_a_drain_is_on_record_after_it() -> None:
    async with open_service(defaults=PollDefaults(backfill_days=0)) as service:
        async with service.running():
            await service.connect(ADA)
            await anyio.sleep(3)
            await service.api.get(f"/api/users/{ADA}/connections")
            assert STATUS not in await audit_routes(service)
        assert STATUS in await audit_routes(service)


async def test_a_key_use_is_written_within_two_minutes() -> None:
    async with open_service() as service, service.running():
        created = await service.services.api_keys.create("dashboard", {Scope.READINGS_READ})
        await anyio.sleep(30)
        service.api.headers["Authorization"] = f"Bearer {created.text.reveal()}"
        assert (await service.api.get("/api/bg/ada/latest")).status_code == 404
        used = service.clock.now()
        await anyio.sleep(120)
        (stored,) = await service.services.api_keys.list()
        assert stored.used_at is not None
        assert abs(stored.used_at - used) < timedelta(seconds=1)
