"""How many calls per second all connections want, here and in other processes: by that everybody's polls stretch."""

from collections.abc import Collection, Mapping

import anyio

from bg_ingest.domain.call_budget import BudgetKey, CallDemand, slowdown
from bg_ingest.domain.connections import Connection, DirectoryRow, PollDefaults
from bg_ingest.domain.replica_status import BudgetState
from bg_ingest.ports import Priority
from bg_ingest.services.budget.limiter import CallLimiter
from bg_ingest.services.budget.provider import SharedBudget

# 2026-11-28: during a hand-over two processes publish the demand of the same shards. Close to the limit (3,000 users
# every minute, 200,000 calls an hour) intervals slowed down by that sum and skipped a slot: polls 65 s late after a
# SIGTERM (limit 3). Intervals follow the minimum of 20 to 40 s; a joining process starts with the demand of the
# others. A demand that is really too high slows intervals down that much later, and the budget delays the calls
# meanwhile. The metric shows the present demand.
SUSTAINED_SECONDS = 20.0
"""A demand that two processes publish during a hand-over does not last so long; see ``SustainedMinimum``."""


class SustainedMinimum:
    """What a demand has been at the least for so long, and for twice as long at most.

    While shards change hands, who had them and who has them both count them for some seconds. Intervals that stretched
    by that would leave a slot out for nothing.
    """

    def __init__(self) -> None:
        self._previous = self._minimum = float("inf")
        self._window_end = float("-inf")

    def update(self, demand: float, now: float) -> float:
        if now >= self._window_end:
            self._previous, self._minimum = self._minimum, demand
            self._window_end = now + SUSTAINED_SECONDS
        self._minimum = min(self._minimum, demand)
        return min(self._previous, self._minimum)


class Demand:
    """The sum of what connections polled here want, kept as they come and go."""

    def __init__(self, budget: SharedBudget, defaults: PollDefaults) -> None:
        self._others: Collection[Mapping[str, float]] = ()
        self._loaded_fraction = 1.0
        self._budget = budget
        self._defaults = defaults
        self._own: dict[BudgetKey, float] = {}
        self._interned: dict[CallDemand, CallDemand] = {}
        self._minimums: dict[str, SustainedMinimum] = {}

    def for_connection(self, connection: Connection, step: float) -> CallDemand:
        """Return what a connection wants that is looked at every so many seconds."""
        return self._intern(CallDemand(self._budget.budget_key(connection.id.provider, connection.region), 1 / step))

    def for_directory_row(self, row: DirectoryRow) -> CallDemand | None:
        """Return what a connection wants that has not been read yet, as far as its directory tells."""
        default = self._defaults.poll_interval.total_seconds()
        key = self._budget.default_budget_key(row.id.provider)
        return self._intern(CallDemand(key, 1 / (row.poll_interval_seconds or default))) if key else None

    def change(self, before: CallDemand | None, after: CallDemand | None) -> None:
        """Take note that a connection wants something else now; None is one that is not polled here."""
        if before is after:
            return
        for demand, sign in ((before, -1), (after, 1)):
            if demand is not None:
                self._own[demand.key] = self._own.get(demand.key, 0.0) + sign * demand.per_second

    def update_others(self, others: Collection[Mapping[str, float]]) -> None:
        """Take note of what the other processes published, as last read."""
        self._others = others

    def update_loaded_fraction(self, fraction: float) -> None:
        """Take note of what part of our connections is known: right after a start it is not yet all of them."""
        self._loaded_fraction = fraction

    def prime(self) -> None:
        """Take note of what all want before we take the first shards: whose they were counts them for a while, too."""
        for key in {key for other in self._others for key in other} - self._minimums.keys():
            self._sustained(key, self._other_total(key))

    def to_publish(self) -> dict[str, float]:
        """Return what we want, by app, in calls per second."""
        return {str(key): self._own_total(key) for key in self._used_keys()}

    def total(self, key: BudgetKey) -> float:
        """Return what all processes want of an app."""
        return self._own_total(key) + self._other_total(str(key))

    def slowdown(self, key: BudgetKey) -> float:
        """Return by what the intervals of an app's connections are multiplied, so that all polls fit: 1 or more."""
        return slowdown(self.total(key), self._budget.limit, Priority.LIVE)

    def states(self) -> list[BudgetState]:
        """Return how each app that is wanted or called here stands; may be asked from any thread."""
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

    def slowdown_of(self, connection: Connection) -> float:
        """Return what a connection's interval is multiplied by: what the demand has come to for a while."""
        key = self._budget.budget_key(connection.id.provider, connection.region)
        return slowdown(self._sustained(str(key), self.total(key)), self._budget.limit, Priority.LIVE)

    def _sustained(self, key: str, demand: float) -> float:
        return self._minimums.setdefault(key, SustainedMinimum()).update(demand, anyio.current_time())

    def _other_total(self, key: str) -> float:
        return sum(other.get(key, 0.0) for other in self._others)

    def _own_total(self, key: BudgetKey) -> float:
        own = max(0.0, self._own.get(key, 0.0))
        return own / self._loaded_fraction * self._budget.calls_per_poll(key)

    def _intern(self, demand: CallDemand) -> CallDemand:
        """Return one object for all that are equal: there are as many connections as users, and few intervals."""
        return self._interned.setdefault(demand, demand)
