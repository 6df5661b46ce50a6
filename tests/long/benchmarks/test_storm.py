from bg_ingest.domain.call_budget import ProviderLimit
from tests.conftest import on
from tests.long.benchmarks.storm import run_storm

anyio_backend = on("asyncio")


async def test_case_37_after_an_outage_all_are_polled_within_the_limit_and_metrics_show_staleness() -> None:
    found = await run_storm(people=120, processes=2, calls_per_hour=1_200)
    assert found.failures(ProviderLimit(1_200)) == []
