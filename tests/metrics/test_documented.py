"""docs/operating names the metrics there are, and no other."""

import re
from pathlib import Path

from prometheus_client import Metric

from tests.house import House

OPERATING = Path(__file__).parents[2] / "docs" / "operating"


def metrics(opened: House) -> list[Metric]:
    return [*opened.services.measures.registry.collect()]


async def test_every_metric_is_explained_and_no_other(opened: House) -> None:
    explained = re.findall(r"^\| `(\w+)` \|", (OPERATING / "metrics.md").read_text("utf-8"), re.MULTILINE)
    there = {sample_name(each) for each in metrics(opened) if not each.name.startswith("process_")}
    assert sorted(explained) == sorted(there)


def sample_name(metric: Metric) -> str:
    return metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "")


async def test_every_label_is_explained(opened: House) -> None:
    text = (OPERATING / "metrics.md").read_text("utf-8")
    async with opened.running():
        await opened.connect("ada")
    for metric in metrics(opened):
        if not metric.name.startswith("process_"):
            (row,) = re.findall(rf"^\| `{sample_name(metric)}` \|.*$", text, re.MULTILINE)
            labels = {label for sample in metric.samples for label in sample.labels} - {"le"}
            assert labels <= set(re.findall(r"`(\w+)`", row.split("|")[2])), metric.name
