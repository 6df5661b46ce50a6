"""Speed and cost of assigning shards to owners: 50 processes, 256 shards, 100,000 users, in virtual time.

    python -m tests.long.benchmarks.balance [--processes 50] [--users 100000]

The code is the service's own (ownership, its rows and conditions, over the table in memory). Only the work on owned
shards is left out. The results do not depend on the machine.
"""

import argparse
import random
from collections import Counter
from collections.abc import Sequence

import anyio
import msgspec
from rich.table import Table

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.call_budget import BudgetKey, ProviderLimit
from bg_ingest.domain.ids import SHARDS, UserId, shard_of
from bg_ingest.domain.ownership import SHARED_TIMINGS
from bg_ingest.ports import Priority
from bg_ingest.services.budget.limiter import CallLimiter
from bg_ingest.services.budget.waiting import DEFAULT_POLL_INTERVAL
from bg_ingest.store import Store
from tests.conftest import VirtualTimeLoop
from tests.harness.owners import OwnerGroup, OwnerProcess, open_owners
from tests.harness.service import LoopClock
from tests.long.benchmarks.capacity import MeteredTable, Units
from tests.long.chaos.report import console

MEASURED_SECONDS = 150.0
"""Idle seconds that are measured and scaled to an hour. They contain full cycles of heartbeats and row reads."""

HOUR = 3600.0

BUYING_SECONDS = 600.0
"""Seconds of reserving calls that are measured and scaled to an hour."""

BUDGET_KEY, LIMIT = BudgetKey("acme", "our-app", "us"), ProviderLimit(60_000)


class BalanceResult(msgspec.Struct, frozen=True):
    """Seconds from an event until all shards are served again, and until they are shared evenly."""

    event: str
    served_after: float
    balanced_after: float
    moved: int
    """Shards that changed hands."""
    write_units: float
    users: tuple[int, int]
    """Of the process with the fewest and of the one with the most."""


async def measure_balance(
    event: str, all_owners: OwnerGroup, processes: Sequence[OwnerProcess], users: Counter[int]
) -> BalanceResult:
    before, began = owners(processes), anyio.current_time()
    writes, served_after = write_units_used(all_owners).writes, 0.0
    while not all_owners.is_balanced(*processes):
        if len(owners(processes)) < SHARDS:
            served_after = anyio.current_time() - began + 0.1
        await anyio.sleep(0.1)
    took, after = anyio.current_time() - began, owners(processes)
    loads = [sum(users[shard] for shard in each.shards) for each in processes]
    moved = sum(before.get(shard) != now for shard, now in after.items())
    spent = write_units_used(all_owners).writes - writes
    return BalanceResult(event, round(served_after, 1), round(took, 1), moved, spent, (min(loads), max(loads)))


def owners(processes: Sequence[OwnerProcess]) -> dict[int, OwnerProcess]:
    return {shard: each for each in processes for shard in each.shards}


def write_units_used(all_owners: OwnerGroup) -> Units:
    units: Units = all_owners.table.used
    return units


async def simulate(count: int, users: int) -> tuple[list[BalanceResult], Units]:
    """Return the effect of each event, and the units of an idle hour."""
    by_shard = Counter(shard_of(UserId(f"user-{number}")) for number in range(users))
    async with open_owners(counted=MeteredTable) as all_owners:
        processes = [await all_owners.start() for _ in range(count)]
        found = [await measure_balance(f"{count} start together", all_owners, processes, by_shard)]
        before = write_units_used(all_owners)
        await anyio.sleep(MEASURED_SECONDS)
        times, after = HOUR / MEASURED_SECONDS, write_units_used(all_owners)
        hour = Units(times * (after.reads - before.reads), times * (after.writes - before.writes))
        processes.append(await all_owners.start())
        found.append(await measure_balance("one joins", all_owners, processes, by_shard))
        leaving = processes.pop(1)
        async with anyio.create_task_group() as group:
            group.start_soon(leaving.stop)
            await anyio.sleep(0.01)
            found.append(await measure_balance("one stops", all_owners, processes, by_shard))
        await anyio.sleep(3)
        many = count // 5
        for _ in range(many):
            lost = processes.pop(3)
            lost.kill()
            lost.served.shards.clear()
        found.append(await measure_balance(f"{many} are killed", all_owners, processes, by_shard))
        processes += [await all_owners.start() for _ in range(many)]
        found.append(await measure_balance(f"{many} join", all_owners, processes, by_shard))
        return found, hour


async def measure_reservations(count: int) -> tuple[Units, float]:
    """Return an hour's units of reserving nearly all available calls, each when needed, and their number."""
    clock, dice = LoopClock(), random.Random(1)
    async with open_table(None, clock) as memory:
        metered = MeteredTable(memory)
        budgets = Store(metered, clock).budgets
        limiters = [CallLimiter(BUDGET_KEY, LIMIT, budgets, clock, DEFAULT_POLL_INTERVAL) for _ in range(count)]
        async with anyio.create_task_group() as group:
            while anyio.current_time() < BUYING_SECONDS:
                await anyio.sleep(dice.expovariate(LIMIT.rate * 0.94))
                group.start_soon(dice.choice(limiters).acquire, Priority.LIVE)
        times = HOUR / BUYING_SECONDS
        units = Units(times * metered.used.reads, times * metered.used.writes)
        return units, times * sum(each.granted for each in limiters)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=50)
    parser.add_argument("--users", type=int, default=100_000)
    given = parser.parse_args()
    options = {"loop_factory": VirtualTimeLoop}
    found, hour = anyio.run(simulate, given.processes, given.users, backend_options=options)
    shown = Table("", "all served after", "shared evenly after", "shards moved", "write units", "users each")
    for each in found:
        rounds = each.balanced_after / SHARED_TIMINGS.snapshot_every
        least, most = each.users
        shown.add_row(
            each.event,
            f"{each.served_after:g} s",
            f"{each.balanced_after:g} s ({rounds:.0f} rounds)",
            str(each.moved),
            f"{each.write_units:g}",
            f"{least:,}-{most:,}",
        )
    console.print(shown, width=140)
    per = Units(hour.reads / given.processes, hour.writes / given.processes)
    console.print(f"an idle hour: {hour.writes:,.0f} write units, {hour.reads:,.0f} read units")
    console.print(f"of each process: {per.writes:,.0f} and {per.reads:,.0f}")
    bought, calls = anyio.run(measure_reservations, 10, backend_options=options)
    console.print(
        f"an hour of 10 reserving {calls:,.0f} calls: {bought.writes:,.0f} write units, {bought.reads:,.0f} read units"
    )


if __name__ == "__main__":
    main()
