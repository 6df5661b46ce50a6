"""State of the shared call limit, read at each scrape."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bg_ingest.services.budget.demand import Demand


class CallBudgetCollector(Collector):
    """Slowdown of polls, demand of all replicas, and the calls granted here."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand

    def collect(self) -> Iterable[Metric]:
        labels = ["provider", "region"]
        slowdown = GaugeMetricFamily(
            "bg_ingest_poll_slowdown", "Factor on poll intervals; 1 while the call limit suffices.", labels=labels
        )
        demand_rate = GaugeMetricFamily(
            "bg_ingest_budget_wanted_per_second", "Call demand of all replicas, without slowdown.", labels=labels
        )
        calls = CounterMetricFamily("bg_ingest_budget_calls", "Calls granted by this replica.", labels=labels)
        waiting = GaugeMetricFamily(
            "bg_ingest_budget_waiting", "Callers of this replica that wait for a call.", labels=labels
        )
        paused = GaugeMetricFamily("bg_ingest_budget_paused", "1 while all calls are paused.", labels=labels)
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
