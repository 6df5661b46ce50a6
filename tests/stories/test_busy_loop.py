"""Requests that keep the event loop busy cost no replica its shards."""

import asyncio  # noqa: TID251 - the virtual clock is a loop of asyncio
from typing import cast

import anyio
import pytest
import structlog.testing

from tests.conftest import VirtualTimeLoop, on
from tests.harness.service import ServiceHarness
from tests.stories.test_replicas import pair, shards_of

anyio_backend = on("asyncio")

COST_SECONDS = 0.22
"""Time of the event loop that a request takes: the rendering of the OpenAPI document on 2026-11-29."""


def take_time() -> list[str]:
    cast("VirtualTimeLoop", asyncio.get_running_loop()).now += COST_SECONDS
    return []


async def repeat(service: ServiceHarness, path: str) -> None:
    while True:
        await service.api.get(path)


@pytest.mark.parametrize("connections", [8, 64])
async def test_s1_a_flood_of_expensive_open_requests_costs_no_shard(
    connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair() as (service, other):
        monkeypatch.setattr(service.workers, "unready_reasons", take_time)
        with structlog.testing.capture_logs() as logs:
            async with anyio.create_task_group() as group:
                for _ in range(connections):
                    group.start_soon(repeat, service, "/health/ready")
                await anyio.sleep(60)
                group.cancel_scope.cancel()
        assert {"shards_lost", "owner_died"}.isdisjoint(entry.get("action") for entry in logs)
        assert shards_of(service.workers) + shards_of(other.workers) == 256
