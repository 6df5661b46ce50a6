"""The shared budget of calls, as it stands when somebody looks."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bg_ingest.services.demand import Demands


class BudgetStanding(Collector):
    """By what polls stretch, and the calls given out here."""

    def __init__(self, demands: Demands) -> None:
        self._demands = demands

    def collect(self) -> Iterable[Metric]:
        labels = ["provider", "region"]
        stretch = GaugeMetricFamily(
            "bg_ingest_budget_stretch",
            "By what polls are rarer than asked for; 1: not at all.",
            labels=labels,
        )
        wanted = GaugeMetricFamily(
            "bg_ingest_budget_wanted_per_second", "Calls that all processes want, unstretched.", labels=labels
        )
        calls = CounterMetricFamily("bg_ingest_budget_calls", "Calls given out here.", labels=labels)
        waiting = GaugeMetricFamily("bg_ingest_budget_waiting", "Callers here who wait for a call.", labels=labels)
        paused = GaugeMetricFamily("bg_ingest_budget_paused", "1 while nobody may call.", labels=labels)
        for state in self._demands.states():
            names = [state.provider, state.region]
            for family, value in (
                (stretch, state.stretch),
                (wanted, state.wanted_per_second),
                (calls, state.calls),
                (waiting, state.waiting),
                (paused, state.paused),
            ):
                family.add_metric(names, value)
        yield from (stretch, wanted, calls, waiting, paused)
