"""Service without actors and with a connected user; tests run the polls themselves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
import pytest

from bg_ingest.domain.changes import ChangeData
from bg_ingest.domain.connections import Connection, PollDefaults
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId, UserId, shard_of
from bg_ingest.domain.polling import PollReport, PollState
from tests.harness.service import PROVIDER, ServiceHarness, open_service

ADA = ConnectionId(UserId("ada"), PROVIDER)


class ConnectedUser:
    """Ada's connection, and polls of it."""

    def __init__(self, ada: ServiceHarness) -> None:
        self.service = ada
        self.services = ada.services
        self.state = PollState()

    async def connect(self) -> None:
        answer = await self.service.connect(ADA.user)
        assert answer.status_code == 200, answer.text
        await self.read_backfill()

    async def read_backfill(self) -> None:
        while (await self.connection()).backfill is not None:
            await self.poll()

    async def poll(self, *, requested: bool = False) -> PollReport:
        report = await self.services.poller.poll(ADA, 1, self.state, requested=requested)
        self.state = report.state
        return report

    async def poll_when_due(self, report: PollReport) -> PollReport:
        """Sleep until the next poll is due, and run it."""
        assert report.due is not None
        await anyio.sleep(max(0.0, (report.due - self.service.clock.now()).total_seconds()))
        return await self.poll()

    async def poll_until_idle(self, report: PollReport) -> PollReport:
        """Run all polls that are due at once, gap checks and backfill windows included."""
        while report.due is not None and report.due <= self.service.clock.now():
            report = await self.poll()
        return report

    async def poll_until_done(self, report: PollReport) -> PollReport:
        """Run polls until none follows."""
        for _ in range(100):
            if report.due is None:
                return report
            report = await self.poll_when_due(report)
        pytest.fail("the polls do not end")

    async def connection(self) -> Connection:
        return await self.service.connection(ADA.user)

    async def grant(self) -> Grant:
        _, grant = await self.services.store.connections.get_with_grant(ADA)
        assert grant is not None
        return grant

    async def sleep_until_expired(self) -> None:
        await anyio.sleep(timedelta(hours=2).total_seconds())

    def shard_of(self, user: str) -> int:
        return shard_of(UserId(user))

    @property
    def rotations(self) -> int:
        return len(self.service.simulator.grants.rotations)

    async def published_data(self) -> list[ChangeData]:
        """Return the data of all changes of Ada, by number."""
        head = await self.services.store.readings.head(ADA.user)
        assert head is not None
        changes = await self.services.store.changes.read(ADA.user, 1, head.last_change)
        assert len(changes) == head.last_change
        return [change.data for change in changes]

    async def measured_values(self) -> list[tuple[object, int]]:
        return [
            (each.reading.measured_at, each.reading.glucose_mg_dl)
            for each in await self.service.stored_readings(ADA.user)
        ]


@asynccontextmanager
async def open_connected_user(**options: Any) -> AsyncIterator[ConnectedUser]:
    """Connect Ada and read her last day; ``options`` are those of ``open_service``."""
    async with open_service(defaults=PollDefaults(backfill_days=1), **options) as service:
        ada = ConnectedUser(service)
        await ada.connect()
        yield ada
