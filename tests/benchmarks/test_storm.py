from bg_ingest.domain.budget import Limit
from tests.benchmarks.storm import storm
from tests.conftest import on

anyio_backend = on("asyncio")


async def test_case_37_after_an_outage_all_are_looked_at_in_turn_within_the_limit_and_metrics_say_how_stale() -> None:
    found = await storm(people=120, processes=2, calls_per_hour=1_200)
    assert found.failures(Limit(1_200)) == []
