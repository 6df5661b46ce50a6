"""Storage of pages: each reading once, revisions with their earlier value, faults of the store."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import anyio
import pytest

from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.domain.changes import ReadingsRecorded, ReadingsRevised
from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.grants import Credentials
from bg_ingest.domain.polling import Outcome
from bg_ingest.domain.readings import Origin
from bg_ingest.domain.segments import split_batch
from bg_ingest.domain.windows import Window
from bg_ingest.errors import ItemTooLarge
from bg_ingest.ports import Page, Priority
from bg_ingest.ports.table import Put, Write
from bg_ingest.services.pauses import pacing
from bg_ingest.simulator.faults import (
    Duplicated,
    Late,
    Revised,
    Shuffled,
)
from tests.fakes.faults import CallWrapper, FaultyCalls, every
from tests.fakes.faults import Fault as StoreFault
from tests.harness.connected_user import ConnectedUser
from tests.harness.polling_parts import build_ingester
from tests.harness.service import START, open_service

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


async def test_case_15_a_reading_on_the_boundary_of_two_windows_is_stored_and_published_once(
    ada: ConnectedUser,
) -> None:
    boundary, _ = ada.service.true_values("SandboxUser1", START - 4 * DAY, START - 3 * DAY)[100]
    connection, grant = await ada.connection(), await ada.grant()
    provider = ada.service.provider
    ingester = build_ingester(ada.services, AesGcmSealer([bytes(32)]), connection, provider.capabilities)
    for window in (Window(boundary, boundary + HOUR), Window(boundary - HOUR, boundary)):

        async def ask(credentials: Credentials, asked: Window = window) -> Page:
            return await provider.readings(connection.region, credentials, asked, Priority.BACKFILL)

        page = await ada.services.grants.use(connection, grant, ask)
        assert boundary in [reading.measured_at for reading in page.readings], "both windows contain it"
        await ingester.ingest(connection, page, origin=Origin.BACKFILL)
    assert [at for at, _ in await ada.measured_values()].count(boundary) == 1
    published = [
        stored for data in await ada.published_data() if isinstance(data, ReadingsRecorded) for stored in data.readings
    ]
    assert [stored.reading.measured_at for stored in published].count(boundary) == 1
    assert not [data for data in await ada.published_data() if isinstance(data, ReadingsRevised)]


async def test_a_long_page_is_split_and_stored_with_pauses_for_other_work(ada: ConnectedUser) -> None:
    connection, grant = await ada.connection(), await ada.grant()
    provider = ada.service.provider
    pauses = 0

    async def count() -> None:
        nonlocal pauses
        pauses += 1

    async def ask(credentials: Credentials) -> Page:
        return await provider.readings(
            connection.region, credentials, Window(START - 4 * DAY, START - DAY), Priority.BACKFILL
        )

    page = await ada.services.grants.use(connection, grant, ask)
    commits = len(list(split_batch(page.readings)))
    ingester = build_ingester(ada.services, AesGcmSealer([bytes(32)]), connection, provider.capabilities)
    token = pacing.set(count)
    await ingester.ingest(connection, page, origin=Origin.BACKFILL)
    pacing.reset(token)
    assert commits > 2
    assert pauses == 2 * commits - 1, "one in each commit, and one between two batches"


async def test_late_readings_alone_are_published_with_the_overlap_as_origin() -> None:
    async with open_service(defaults=PollDefaults(backfill_days=1)) as other:
        late = ConnectedUser(other)
        other.simulator.add_fault(Late(start=START - HOUR, end=START - HOUR / 2, shown_at=START + MINUTE))
        await late.connect()
        await anyio.sleep(61)
        assert (await late.poll(requested=True)).result.recorded == 6
        published = (await late.published_data())[-1]
        assert isinstance(published, ReadingsRecorded)
        assert published.origin is Origin.OVERLAP


async def test_case_18_the_same_readings_again_write_and_publish_nothing(ada: ConnectedUser) -> None:
    before = await ada.published_data()
    ada.service.simulator.add_fault(Duplicated())
    ada.service.simulator.add_fault(Shuffled())
    assert (await ada.poll(requested=True)).result.recorded == 0
    assert await ada.published_data() == before


async def test_case_18_another_value_is_a_revision_that_keeps_the_earlier_one(ada: ConnectedUser) -> None:
    now = ada.service.clock.now()
    old = dict(await ada.measured_values())
    ada.service.simulator.add_fault(Revised(start=now - HOUR, end=now - HOUR / 2, revised_at=now, by=7))
    report = await ada.poll(requested=True)
    assert report.result.revised == 6
    published = (await ada.published_data())[-1]
    assert isinstance(published, ReadingsRevised)
    assert [each.reading.glucose_mg_dl - each.earlier[-1].glucose_mg_dl for each in published.readings] == [7] * 6
    assert [each.earlier[-1].glucose_mg_dl for each in published.readings] == [
        old[each.reading.measured_at] for each in published.readings
    ]
    assert (await ada.poll(requested=True)).result.revised == 0


@pytest.mark.slow
@pytest.mark.parametrize("when", [StoreFault.BEFORE, StoreFault.AFTER])
@pytest.mark.parametrize("number", [3, 4, 5, 7])
async def test_a_store_that_fails_at_every_nth_call_loses_and_doubles_nothing(when: StoreFault, number: int) -> None:
    broken: list[FaultyCalls] = []

    def breaking(table: object) -> FaultyCalls:
        broken.append(FaultyCalls(table, lambda _: None))
        return broken[0]

    async with open_service(defaults=PollDefaults(backfill_days=3), around=breaking) as service:
        ada = ConnectedUser(service)
        await service.connect("ada")
        broken[0].plan = every(number, when)
        for _ in range(40):
            await ada.poll()
            await anyio.sleep(120)
        broken[0].plan = lambda _: None
        await ada.read_backfill()
        await ada.poll(requested=True)
        stored = await ada.measured_values()
        assert stored == service.true_values("SandboxUser1", stored[0][0], service.clock.now())  # type: ignore[arg-type]
        assert stored[0][0] <= START - 3 * DAY + HOUR  # type: ignore[operator]
        published = [
            stored
            for data in await ada.published_data()
            if isinstance(data, ReadingsRecorded)
            for stored in data.readings
        ]
        assert sorted(each.reading.measured_at for each in published) == [at for at, _ in stored]


class SmallItems(CallWrapper):
    """Table that refuses long segments for their size, as DynamoDB does from 400 KB on."""

    max_bytes = 1_000_000

    async def transact(self, writes: Sequence[Write]) -> None:
        sizes = [len(write.item.get("readings", b"")) for write in writes if isinstance(write, Put)]  # type: ignore[arg-type]
        if max(sizes, default=0) > self.max_bytes:
            raise ItemTooLarge
        await self._inner.transact(writes)

    async def _around(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        return await call()


async def test_f20_an_item_refused_for_its_size_stops_no_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_service(defaults=PollDefaults(backfill_days=1), around=SmallItems) as service:
        ada = ConnectedUser(service)
        await ada.connect()
        stored = len(await ada.measured_values())
        monkeypatch.setattr(SmallItems, "max_bytes", 300)
        await anyio.sleep((6 * HOUR).total_seconds())
        report = await ada.poll(requested=True)
        assert report.result.recorded > 10
        assert report.result.quarantined + report.result.recorded == 72
        assert len(await ada.measured_values()) == stored + report.result.recorded
        connection = await ada.connection()
        assert (connection.watermark, connection.last_outcome) == (connection.newest_reading_at, Outcome.READ)
        report = await ada.poll(requested=True)
        assert report.result.outcome is Outcome.NOTHING_NEW
