"""The shared budget of calls, as it stands when somebody looks."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bg_ingest.services.budget.demand import Demand


class CallBudgetCollector(Collector):
    """By what polls stretch, and the calls given out here."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand

    def collect(self) -> Iterable[Metric]:
        labels = ["provider", "region"]
        slowdown = GaugeMetricFamily(
            "bg_ingest_poll_slowdown",
            "By what polls are rarer than asked for; 1: not at all.",
            labels=labels,
        )
        demand_rate = GaugeMetricFamily(
            "bg_ingest_budget_wanted_per_second", "Calls that all processes want, unstretched.", labels=labels
        )
        calls = CounterMetricFamily("bg_ingest_budget_calls", "Calls given out here.", labels=labels)
        waiting = GaugeMetricFamily("bg_ingest_budget_waiting", "Callers here who wait for a call.", labels=labels)
        paused = GaugeMetricFamily("bg_ingest_budget_paused", "1 while nobody may call.", labels=labels)
        for state in self._demand.states():
            names = [state.provider, state.region]
            for family, value in (
                (slowdown, state.slowdown),
                (demand_rate, state.wanted_per_second),
                (calls, state.calls),
                (waiting, state.waiting),
                (paused, state.paused),
            ):
                family.add_metric(names, value)
        yield from (slowdown, demand_rate, calls, waiting, paused)
