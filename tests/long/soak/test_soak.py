"""Three days of ten users; ``make soak`` is a month of fifty."""

from datetime import timedelta
from typing import get_args

from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.schedule import SweepDepth
from bg_ingest.simulator.faults import Fault
from tests.conftest import on
from tests.long.soak.life import run_life

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SEED = 5
KINDS = len(get_args(Fault))


anyio_backend = on("asyncio")
"""Backend with the same days for a seed; trio randomizes the order of its tasks."""


async def test_after_three_days_of_trouble_nothing_differs_and_every_gap_is_true() -> None:
    """Daily sweep of six days in place of the weekly one; the calm lasts until the end of both."""
    defaults = PollDefaults(HOUR, backfill_days=2, sweep_depth=SweepDepth(6 * DAY, timedelta(0)))
    async with run_life(
        seed=SEED, people=10, troubled=3 * DAY, calm=50 * HOUR, latest=DAY, defaults=defaults
    ) as figures:
        assert figures.compared > 10 * 5 * 200
        assert figures.differences == 0
        assert (figures.not_the_simulators, figures.not_known) == (0, 0)
        assert figures.open_gaps > 50
        assert figures.healed_gaps > 10
        assert min(figures.restarts, figures.kills, figures.faults, figures.revocations, figures.reconnects) > 1
        assert len(figures.met) > KINDS / 2, "three days meet half of the kinds of faults or fewer"
