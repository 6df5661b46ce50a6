"""A small group of processes shares the shards in the rounds that docs/scaling.md states for a large one."""

from bg_ingest.domain.ownership import SHARED_TIMINGS
from tests.conftest import on
from tests.long.benchmarks.balance import simulate

anyio_backend = on("asyncio")


async def test_five_processes_share_out_in_two_rounds_and_take_over_within_a_ttl() -> None:
    found, hour = await simulate(5, 1_000)
    together, joins, stops, killed, another_joins = found
    assert together.balanced_after <= 3 * SHARED_TIMINGS.snapshot_every
    assert all(each.balanced_after <= 2 * SHARED_TIMINGS.snapshot_every for each in (joins, stops, another_joins))
    assert killed.served_after <= SHARED_TIMINGS.ttl + SHARED_TIMINGS.snapshot_every
    assert hour.writes == 5 * 600, "only heartbeats are expected"
