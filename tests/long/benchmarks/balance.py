"""How fast shards find their owners, and what that costs: 50 processes, 256 shards, 100,000 users, in virtual time.

    python -m tests.long.benchmarks.balance [--processes 50] [--users 100000]

The code is the service's own (ownership, its rows and conditions, over the table in memory); only what is done with
shards is left out. Nothing of it depends on the machine.
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
"""Seconds of nothing that are measured and told as an hour; beats and looks both come round in them."""

HOUR = 3600.0

BUYING_SECONDS = 600.0
"""Seconds of buying calls that are measured and told as an hour."""

BUDGET_KEY, LIMIT = BudgetKey("acme", "our-app", "us"), ProviderLimit(60_000)


class BalanceResult(msgspec.Struct, frozen=True):
    """After something happened: how long until all was served again, and until it was shared evenly."""

    what: str
    served_after: float
    balanced_after: float
    moved: int
    """Shards that changed hands."""
    write_units: float
    users: tuple[int, int]
    """Of the process with the fewest and of the one with the most."""


async def measure_balance(
    what: str, everybody: OwnerGroup, processes: Sequence[OwnerProcess], users: Counter[int]
) -> BalanceResult:
    before, began = owners(processes), anyio.current_time()
    writes, served_after = write_units_used(everybody).writes, 0.0
    while not everybody.is_balanced(*processes):
        if len(owners(processes)) < SHARDS:
            served_after = anyio.current_time() - began + 0.1
        await anyio.sleep(0.1)
    took, after = anyio.current_time() - began, owners(processes)
    loads = [sum(users[shard] for shard in each.shards) for each in processes]
    moved = sum(before.get(shard) != now for shard, now in after.items())
    spent = write_units_used(everybody).writes - writes
    return BalanceResult(what, round(served_after, 1), round(took, 1), moved, spent, (min(loads), max(loads)))


def owners(processes: Sequence[OwnerProcess]) -> dict[int, OwnerProcess]:
    return {shard: each for each in processes for shard in each.shards}


def write_units_used(everybody: OwnerGroup) -> Units:
    units: Units = everybody.table.used
    return units


async def simulate(count: int, users: int) -> tuple[list[BalanceResult], Units]:
    """Return what each event led to, and the units of an hour in which nothing happens."""
    by_shard = Counter(shard_of(UserId(f"user-{number}")) for number in range(users))
    async with open_owners(counted=MeteredTable) as everybody:
        processes = [await everybody.start() for _ in range(count)]
        found = [await measure_balance(f"{count} start together", everybody, processes, by_shard)]
        before = write_units_used(everybody)
        await anyio.sleep(MEASURED_SECONDS)
        times, after = HOUR / MEASURED_SECONDS, write_units_used(everybody)
        hour = Units(times * (after.reads - before.reads), times * (after.writes - before.writes))
        processes.append(await everybody.start())
        found.append(await measure_balance("one joins", everybody, processes, by_shard))
        leaving = processes.pop(1)
        async with anyio.create_task_group() as group:
            group.start_soon(leaving.stop)
            await anyio.sleep(0.01)
            found.append(await measure_balance("one stops", everybody, processes, by_shard))
        await anyio.sleep(3)
        many = count // 5
        for _ in range(many):
            lost = processes.pop(3)
            lost.kill()
            lost.served.shards.clear()
        found.append(await measure_balance(f"{many} are killed", everybody, processes, by_shard))
        processes += [await everybody.start() for _ in range(many)]
        found.append(await measure_balance(f"{many} join", everybody, processes, by_shard))
        return found, hour


async def measure_reservations(count: int) -> tuple[Units, float]:
    """Return an hour's units of buying nearly all calls there are, each when it is needed; and how many."""
    clock, dice = LoopClock(), random.Random(1)
    async with open_table(None, clock) as memory:
        metered = MeteredTable(memory)
        budgets = Store(metered, clock).budgets  # type: ignore[arg-type]  # nobody scans
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
            each.what,
            f"{each.served_after:g} s",
            f"{each.balanced_after:g} s ({rounds:.0f} rounds)",
            str(each.moved),
            f"{each.write_units:g}",
            f"{least:,}-{most:,}",
        )
    console.print(shown, width=140)
    per = Units(hour.reads / given.processes, hour.writes / given.processes)
    console.print(f"an hour of nothing: {hour.writes:,.0f} write units, {hour.reads:,.0f} read units")
    console.print(f"of each process: {per.writes:,.0f} and {per.reads:,.0f}")
    bought, calls = anyio.run(measure_reservations, 10, backend_options=options)
    console.print(
        f"an hour of 10 that buy {calls:,.0f} calls: {bought.writes:,.0f} write units, {bought.reads:,.0f} read units"
    )


if __name__ == "__main__":
    main()
