"""Metrics with their labels and buckets, label values of the scripted life, outcomes of errors, log lines."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from bg_ingest.domain.connections import PollDefaults
from bg_ingest.errors import IngestError
from bg_ingest.observability.timing import outcome_label
from bg_ingest.simulator import SimulatorOptions
from tests.harness.service import open_service

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}


def metrics(registry: CollectorRegistry) -> dict[str, Any]:
    """Return every metric of the service: type, label names, label values, buckets."""
    found: dict[str, Any] = {}
    for family in registry.collect():
        if family.name.startswith("process_"):
            continue
        labels: dict[str, set[str]] = defaultdict(set)
        for sample in family.samples:
            for name, value in sample.labels.items():
                labels[name].add(value)
        labels.pop("version", None)
        buckets = sorted(labels.pop("le", ()), key=float)
        found[family.name] = {
            "type": family.type,
            "labels": {name: sorted(values) for name, values in labels.items()},
            "buckets": buckets,
        }
    for metric in set(registry._names_to_collectors.values()):
        if isinstance(metric, MetricWrapperBase) and metric._name in found:
            described = found[metric._name]
            described["labels"] = {name: described["labels"].get(name, []) for name in metric._labelnames}
            if metric._type == "histogram":
                described["buckets"] = [str(float(bound)) for bound in metric._kwargs["buckets"]]
    return found


async def of_running_replica() -> dict[str, Any]:
    """Return type, label names and buckets of every metric while the actors run."""
    options = SimulatorOptions(cadence_minutes=15)
    async with (
        open_service(over_http=True, simulated=options, defaults=PollDefaults(backfill_days=1)) as home,
        home.running(),
    ):
        await home.connect("ada")
        await anyio.sleep(30)
        shown = metrics(home.metrics.registry)
    return {name: {**metric, "labels": sorted(metric["labels"])} for name, metric in shown.items()}


def error_outcomes() -> list[str]:
    """Return the outcomes that errors have as a label value."""
    return sorted({outcome_label(kind) for kind in (*_below(IngestError), ValueError, KeyboardInterrupt)})


def _below(kind: type[IngestError]) -> Iterator[type[IngestError]]:
    yield kind
    for one in kind.__subclasses__():
        if one.__module__ == IngestError.__module__:
            yield from _below(one)


def log_lines() -> dict[str, Any]:
    """Return every log action of the source with its levels and the keys beside it."""
    found: dict[str, dict[str, set[str]]] = {}
    for folder in ("bg_ingest", "workers"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call):
                    _note(node, found)
    return {action: {kind: sorted(values) for kind, values in line.items()} for action, line in sorted(found.items())}


def _note(call: ast.Call, found: dict[str, dict[str, set[str]]]) -> None:
    given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg is not None}
    action = given.pop("action", None)
    if isinstance(action, ast.Constant) and isinstance(action.value, str):
        line = found.setdefault(action.value, {"levels": set(), "keys": set()})
        level = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        line["levels"].add(level if level in LEVELS else "computed")
        line["keys"].update(given.keys() - {"exc_info"})
