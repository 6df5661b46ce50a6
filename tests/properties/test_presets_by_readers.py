"""Presets are read by the programs for which they are made, unmodified, and their means are those of the statistics."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest

from tests.conftest import on
from tests.harness.api import ApiHarness, open_api, reading

anyio_backend = on("asyncio")

SPAN = {"from": "2026-02-20", "to": "2026-03-03", "zone": "UTC"}
READINGS = 600


def read_by_iglu(file: Path) -> Any:
    import iglu_python as iglu  # noqa: PLC0415  # it imports matplotlib, over a second at collection

    table = pd.read_csv(file, parse_dates=["time"])
    assert iglu.mean_glu(table)["mean"].item() == table["gl"].mean()
    return table["gl"]


def read_by_glupredkit(file: Path) -> Any:
    """Read as ``read_data_from_csv`` of GluPredKit 1.0.32, whose other parts need gigabytes."""
    table = pd.read_csv(file, index_col="date", parse_dates=True, low_memory=False)
    assert table.index.is_monotonic_increasing
    return table["CGM"]


def read_by_cgm_format(file: Path) -> Any:
    from cgm_format import FormatParser  # noqa: PLC0415  # as above

    assert FormatParser.format_supported(file.read_bytes())
    return FormatParser.parse_file(file)["glucose"]


def read_by_glucose360(file: Path) -> Any:
    from glucose360.preprocessing import import_data  # noqa: PLC0415  # it writes a file where it is imported

    table = import_data(str(file), output=lambda _: None)
    assert {name.strip() for name in table.index} == {"ada"}
    return table["Glucose"]


async def add_series(api: ApiHarness) -> None:
    """Add a random walk of a 5-minute sensor without gaps and without LOW and HIGH, which each program reads alike."""
    random, value = Random(5), 150
    drawn = []
    for number in range(-READINGS, 0):
        value = min(300, max(50, value + random.randint(-9, 9)))
        drawn.append(reading(number, value))
    await api.add_readings(*drawn)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
async def test_each_program_reads_its_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    readers: list[tuple[str, Callable[[Path], Any]]] = [
        ("iglu", read_by_iglu),
        ("glupredkit", read_by_glupredkit),
        ("clarity", read_by_cgm_format),
        ("clarity", read_by_glucose360),
    ]
    async with open_api() as api:
        await add_series(api)
        statistics = (await api.http.get("/api/bg/ada/statistics", params=SPAN)).json()
        for preset, read in readers:
            file = tmp_path / f"{preset}.csv"
            file.write_text((await api.http.get("/api/bg/ada", params=SPAN | {"preset": preset})).text)
            values = read(file)
            assert len(values) == statistics["readings"] == READINGS
            assert values.mean() == pytest.approx(statistics["mean_mg_dl"], abs=0.01), preset
