from datetime import timedelta

import anyio

from bg_ingest.ports import Priority
from tests.harness.scrape import scrape
from tests.harness.service import ServiceHarness


async def test_calls_of_the_budget_are_reported_with_the_callers_that_wait_for_one(service: ServiceHarness) -> None:
    budget, us = service.services.budget, {"provider": "dexcom", "region": "us"}
    for _ in range(3):
        await budget.acquire("dexcom", "us", Priority.LIVE)
    metrics = await scrape(service)
    assert (metrics("budget_calls_total", **us), metrics("budget_waiting", **us)) == (3, 0)
    assert (metrics("budget_paused", **us), metrics("poll_slowdown", **us)) == (0, 1)
    await budget.pause("dexcom", "us", sent=anyio.current_time(), wait=timedelta(seconds=3))
    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(budget.acquire, "dexcom", "us", Priority.REFRESH)
        await anyio.sleep(1)
        metrics = await scrape(service)
        assert (metrics("budget_paused", **us), metrics("budget_waiting", **us)) == (1, 2)
    metrics = await scrape(service)
    assert (metrics("budget_calls_total"), metrics("budget_waiting"), metrics("budget_paused")) == (5, 0, 0)
