"""Statistics of series without duplicates equal those of iglu_python, which counts readings instead of seconds.

Both weights agree where all distances are one cadence. A value of LOW or HIGH is a number for iglu too.
"""

from datetime import timedelta
from random import Random
from typing import Any

import numpy as np
import pytest

from bg_ingest.domain.readings import Reading
from tests.conftest import on
from tests.harness.api import ApiHarness, open_api, reading

anyio_backend = on("asyncio")

SPAN = {"from": "2026-02-20T12:00:00Z", "to": "2026-03-02T12:00:00Z"}


def draw_series(seed: int, readings: int = 2_000) -> list[Reading]:
    """Return a random walk of a 5-minute sensor without gaps, through all ranges."""
    random, value, drawn = Random(seed), 120, []
    for number in range(-readings, 0):
        value = min(400, max(40, value + random.randint(-15, 15)))
        drawn.append(reading(number, value))
    return drawn


async def get(api: ApiHarness, path: str, **query: str) -> Any:
    answer = await api.http.get(f"/api/bg/ada{path}", params=SPAN | query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def compute_by_iglu(rows: list[dict[str, Any]]) -> dict[str, float]:
    import iglu_python as iglu  # noqa: PLC0415  # it imports matplotlib, over a second at collection

    values = np.array([float(row["glucose_mg_dl"]) for row in rows])
    below, above = iglu.below_percent(values), iglu.above_percent(values)
    inside = iglu.in_range_percent(values, target_ranges=[[70, 180], [70, 140]])
    return {
        "mean_mg_dl": iglu.mean_glu(values),
        "sd_mg_dl": iglu.sd_glu(values),
        "cv_percent": iglu.cv_glu(values),
        "gmi_percent": iglu.gmi(values),
        "lbgi": iglu.lbgi(values),
        "hbgi": iglu.hbgi(values),
        "gri": iglu.gri(values),
        "very_low": below["below_54"],
        "low": below["below_70"] - below["below_54"],
        "in_range": inside["in_range_70_180"],
        "in_tight_range": inside["in_range_70_140"],
        "high": above["above_180"] - above["above_250"],
        "very_high": above["above_250"],
    }


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
async def test_statistics_equal_those_of_iglu(seed: int) -> None:
    async with open_api() as api:
        await api.add_readings(*draw_series(seed))
        api.clock.advance(timedelta(minutes=10))
        expected = compute_by_iglu(await get(api, "", view="full"))
        statistics = await get(api, "/statistics")
    found = statistics | statistics["time_percent"] | {"gri": statistics["gri"]["value"]}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=0.01), name
