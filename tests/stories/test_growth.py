"""Costs after ten years: reads of the present and a webhook need the same calls and items as after a week."""

from datetime import timedelta

import msgspec

from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.ports.table import Table
from tests.conftest import on
from tests.fakes.counting_table import CountingTable
from tests.harness.old_history import TEN_YEARS, WEEK, add_history
from tests.harness.service import PROVIDER, START, ServiceHarness, open_service
from tests.harness.webhook_sender import envelope, records
from tests.long.benchmarks.capacity import MeteredTable, Units

anyio_backend = on("asyncio")

BEGIN_OF_PUSHED = START - timedelta(hours=6)
DAY = {"from": "2026-03-01T12:00:00Z", "to": "2026-03-02T12:00:00Z"}


class Cost(msgspec.Struct, frozen=True):
    """Cost of one operation."""

    calls: tuple[int, int, int]
    units: Units
    items: int


async def costs(length: timedelta) -> dict[str, Cost]:
    """Return the cost of each operation for a user with a history of this length."""
    metered: list[MeteredTable] = []

    def around(table: Table) -> CountingTable:
        metered.append(MeteredTable(table))
        return CountingTable(metered[0])

    async with open_service(around=around, defaults=PollDefaults(backfill_days=0)) as service:
        table = service.table
        assert isinstance(table, CountingTable)
        await service.connect("ada")
        ada = ConnectionId(UserId("ada"), PROVIDER)
        # the week is complete; of the time before it one segment a week suffices
        await add_history(table, ada, BEGIN_OF_PUSHED, WEEK)
        await add_history(table, ada, BEGIN_OF_PUSHED - WEEK, length - WEEK, distance=WEEK)
        spent: dict[str, Cost] = {}
        for name, operation in OPERATIONS.items():
            calls, units, items = table.asked, metered[0].used, table.queried_items
            await operation(service)
            reads, writes, transactions = (b - a for a, b in zip(calls, table.asked, strict=True))
            spent[name] = Cost((reads, writes, transactions), metered[0].used - units, table.queried_items - items)
        return spent


async def push(service: ServiceHarness) -> None:
    account = (await service.connection("ada")).provider_account or ""
    body = envelope(account, records(BEGIN_OF_PUSHED, 3))
    assert (await service.push("ada", body)).json()["stored"] == 3


async def read_latest(service: ServiceHarness) -> None:
    assert (await service.api.get("/api/bg/ada/latest")).status_code == 200


async def read_day(service: ServiceHarness) -> None:
    assert len((await service.api.get("/api/bg/ada", params=DAY)).json()) > 200


async def read_gaps(service: ServiceHarness) -> None:
    assert (await service.api.get("/api/bg/ada/gaps", params=DAY)).status_code == 200


OPERATIONS = {"webhook": push, "latest": read_latest, "range of a day": read_day, "gaps of a day": read_gaps}


async def test_reads_of_the_present_and_a_webhook_cost_the_same_after_ten_years_as_after_a_week() -> None:
    after_a_week, after_ten_years = await costs(WEEK), await costs(TEN_YEARS)
    # a page of gap months holds one month more than the window needs
    gaps, old_gaps = after_a_week.pop("gaps of a day"), after_ten_years.pop("gaps of a day")
    assert (old_gaps.calls, old_gaps.units) == (gaps.calls, gaps.units)
    assert old_gaps.items <= gaps.items + 1
    assert after_ten_years == after_a_week
