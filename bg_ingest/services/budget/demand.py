"""Demand of all connections for provider calls, in all processes; it determines the slowdown of polls."""

from collections.abc import Collection, Mapping

import anyio

from bg_ingest.domain.call_budget import BudgetKey, CallDemand, slowdown
from bg_ingest.domain.connections import Connection, DirectoryRow, PollDefaults
from bg_ingest.domain.replica_status import BudgetState
from bg_ingest.ports import Priority
from bg_ingest.services.budget.limiter import CallLimiter
from bg_ingest.services.budget.provider import SharedBudget

# 2026-11-28: during a hand-over two processes publish the demand of the same shards, so that the total counts it twice.
# Close to the limit (3,000 users every minute, 200,000 calls an hour) this total lengthened intervals. Polls skipped a
# slot and were 65 s late after a SIGTERM (at most 3 s are allowed). Therefore intervals follow the minimum of the last
# 20 to 40 s; a joining process starts with the demand of the others. A demand that stays too high lengthens intervals
# only after that time. Until then, the budget delays the calls. The metric shows the present demand.
SUSTAINED_SECONDS = 20.0
"""Longer than the time for which two processes publish the same demand during a hand-over; see ``SustainedMinimum``."""


class SustainedMinimum:
    """Minimum of a demand over the last 20 to 40 seconds (once to twice ``SUSTAINED_SECONDS``).

    During a hand-over, the previous and the new owner of a shard both count its demand for some seconds. A slowdown by
    that sum would skip a slot without need.
    """

    def __init__(self, first: float) -> None:
        self._previous = self._minimum = first
        self._window_end = float("-inf")

    def update(self, demand: float, now: float) -> float:
        if now >= self._window_end:
            self._previous, self._minimum = self._minimum, demand
            self._window_end = now + SUSTAINED_SECONDS
        self._minimum = min(self._minimum, demand)
        return min(self._previous, self._minimum)


class Demand:
    """Sum of the demands of all connections.

    The demand of a connection that this process polls is updated when the connection is scheduled or unscheduled.
    """

    def __init__(self, budget: SharedBudget, defaults: PollDefaults) -> None:
        self._others: Collection[Mapping[str, float]] = ()
        self._loaded_fraction = 1.0
        self._budget = budget
        self._defaults = defaults
        self._own: dict[BudgetKey, float] = {}
        self._interned: dict[CallDemand, CallDemand] = {}
        self._minimums: dict[BudgetKey, SustainedMinimum] = {}

    def for_connection(self, connection: Connection, step: float) -> CallDemand:
        """Return the demand of a connection that is polled every ``step`` seconds."""
        return self._intern(CallDemand(self._budget.budget_key(connection.id.provider, connection.region), 1 / step))

    def for_directory_row(self, row: DirectoryRow) -> CallDemand | None:
        """Return the demand of a connection that has not been read yet, estimated from its directory row."""
        default = self._defaults.poll_interval.total_seconds()
        key = self._budget.default_budget_key(row.id.provider)
        return self._intern(CallDemand(key, 1 / (row.poll_interval_seconds or default))) if key else None

    def change(self, before: CallDemand | None, after: CallDemand | None) -> None:
        """Replace the demand of a connection; None stands for a connection that is not polled here."""
        if before is after:
            return
        for demand, sign in ((before, -1), (after, 1)):
            if demand is not None:
                self._own[demand.key] = self._own.get(demand.key, 0.0) + sign * demand.per_second

    def update_others(self, others: Collection[Mapping[str, float]]) -> None:
        """Replace the demands that the other processes published."""
        self._others = others

    def update_loaded_fraction(self, fraction: float) -> None:
        """Set the fraction of owned shards whose connections are known; after a start it is below 1."""
        self._loaded_fraction = fraction

    def to_publish(self) -> dict[str, float]:
        """Return the demand of this process per app, in calls per second."""
        return {str(key): self._own_total(key) for key in self._used_keys()}

    def total(self, key: BudgetKey) -> float:
        """Return the demand of all processes for an app, in calls per second."""
        return self._own_total(key) + self._other_total(str(key))

    def slowdown(self, key: BudgetKey) -> float:
        """Return the factor (1 or more) on the intervals of an app that reduces the present demand to the limit."""
        return slowdown(self.total(key), self._budget.limit, Priority.LIVE)

    def states(self) -> list[BudgetState]:
        """Return the state of each app with a demand or calls in this process. Thread-safe."""
        limiters = dict(self._budget.limiters)
        return [self._build_state(key, limiters.get(key)) for key in sorted({*self._used_keys(), *limiters}, key=str)]

    def _used_keys(self) -> list[BudgetKey]:
        return [key for key, own in list(self._own.items()) if own > 0]

    def _build_state(self, key: BudgetKey, limiter: CallLimiter | None) -> BudgetState:
        return BudgetState(
            provider=key.provider,
            region=key.region,
            slowdown=self.slowdown(key),
            wanted_per_second=self.total(key),
            calls=limiter.granted if limiter else 0,
            waiting=limiter.waiting if limiter else 0,
            paused=bool(limiter and limiter.is_paused),
        )

    def sustained_slowdown(self, connection: Connection) -> float:
        """Return the factor on a connection's interval, from the minimum of the demand over the last 20 to 40 s."""
        key = self._budget.budget_key(connection.id.provider, connection.region)
        if key not in self._minimums:
            # the published demand of the other processes still includes the shards that this process has just taken
            self._minimums[key] = SustainedMinimum(self._other_total(str(key)) or self.total(key))
        demand = self._minimums[key].update(self.total(key), anyio.current_time())
        return slowdown(demand, self._budget.limit, Priority.LIVE)

    def _other_total(self, key: str) -> float:
        return sum(other.get(key, 0.0) for other in self._others)

    def _own_total(self, key: BudgetKey) -> float:
        own = max(0.0, self._own.get(key, 0.0))
        return own / self._loaded_fraction * self._budget.calls_per_poll(key)

    def _intern(self, demand: CallDemand) -> CallDemand:
        """Return one object for equal demands, because there are many connections and few distinct intervals."""
        return self._interned.setdefault(demand, demand)
