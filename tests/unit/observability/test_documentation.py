"""docs/operating names exactly the existing metrics."""

import json
import re
from pathlib import Path

import yaml  # type: ignore[import-untyped]  # ships no types
from prometheus_client import Metric

from tests.harness.service import ServiceHarness

OPERATING = Path(__file__).parents[3] / "docs" / "operating"


def metrics(service: ServiceHarness) -> list[Metric]:
    return [*service.metrics.registry.collect()]


async def test_every_metric_is_explained_and_no_other(service: ServiceHarness) -> None:
    explained = re.findall(r"^\| `(\w+)` \|", (OPERATING / "metrics.md").read_text("utf-8"), re.MULTILINE)
    there = {sample_name(each) for each in metrics(service) if not each.name.startswith("process_")}
    assert sorted(explained) == sorted(there)


def sample_name(metric: Metric) -> str:
    return metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "")


async def test_every_label_is_explained(service: ServiceHarness) -> None:
    text = (OPERATING / "metrics.md").read_text("utf-8")
    async with service.running():
        await service.connect("ada")
    for metric in metrics(service):
        if not metric.name.startswith("process_"):
            (row,) = re.findall(rf"^\| `{sample_name(metric)}` \|.*$", text, re.MULTILINE)
            labels = {label for sample in metric.samples for label in sample.labels} - {"le"}
            assert labels <= set(re.findall(r"`(\w+)`", row.split("|")[2])), metric.name


OWN = re.compile(r"\b(?:bg_ingest|process)_\w+")


def samples(service: ServiceHarness) -> set[str]:
    """Return every name that Prometheus would know."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "info": ("_info",)}
    suffixes["gaugehistogram"] = ("_bucket", "_gcount")
    return {each.name + suffix for each in metrics(service) for suffix in suffixes.get(each.type, ("",))}


async def test_the_dashboard_names_only_metrics_that_exist_and_shows_every_one(service: ServiceHarness) -> None:
    dashboard = json.loads((OPERATING / "dashboard.json").read_text("utf-8"))
    named = {name for panel in dashboard["panels"] for each in panel["targets"] for name in OWN.findall(each["expr"])}
    assert named <= samples(service)
    shown = {each.name for each in metrics(service) if any(name.startswith(each.name) for name in named)}
    assert {each.name for each in metrics(service) if not each.name.startswith("process_")} <= shown


async def test_the_alerts_name_only_metrics_that_exist_and_say_what_to_do(service: ServiceHarness) -> None:
    alerts = yaml.safe_load((OPERATING / "alerts.yaml").read_text("utf-8"))
    rules = [rule for group in alerts["groups"] for rule in group["rules"]]
    assert {"ReadingsStale", "OutboxOld", "ReauthorizationsRising", "BudgetExhausted"} <= {
        each["alert"] for each in rules
    }
    for rule in rules:
        assert OWN.findall(rule["expr"]), rule["alert"]
        assert set(OWN.findall(rule["expr"])) <= samples(service), rule["alert"]
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


async def test_alerts_and_dashboard_ask_for_labels_that_metrics_have(service: ServiceHarness) -> None:
    text = (OPERATING / "alerts.yaml").read_text("utf-8") + (OPERATING / "dashboard.json").read_text("utf-8")
    explained = (OPERATING / "metrics.md").read_text("utf-8")
    asked = re.findall(r"(bg_ingest_\w+?)(?:_bucket|_count|_sum)?\{(\w+)[=!]", text.replace("\\", ""))
    assert asked
    for name, label in asked:
        (row,) = re.findall(rf"^\| `{name}` \|.*$", explained, re.MULTILINE)
        assert f"`{label}`" in row, (name, label)
