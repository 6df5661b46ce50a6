"""How many calls per second all connections want, here and in other processes: by that everybody's polls stretch."""

from collections.abc import Callable, Iterable, Mapping

import anyio

from bg_ingest.domain.budget import App, Want, stretch
from bg_ingest.domain.connections import Connection, Defaults, Listed
from bg_ingest.domain.vitals import BudgetState
from bg_ingest.ports import Priority
from bg_ingest.services.budget import SharedBudget
from bg_ingest.services.till import Till

LASTING = 20.0
"""Seconds: a demand that does not last is one that two processes publish while they hand over; see ``Lasting``."""


class Lasting:
    """What a demand has been at the least for so long, and for twice as long at most.

    While shards change hands, who had them and who has them both count them for some seconds. Intervals that stretched
    by that would leave a slot out for nothing.
    """

    def __init__(self) -> None:
        self._before = self._least = float("inf")
        self._until = float("-inf")

    def following(self, demand: float, moment: float) -> float:
        if moment >= self._until:
            self._before, self._least = self._least, demand
            self._until = moment + LASTING
        self._least = min(self._least, demand)
        return min(self._before, self._least)


class Demands:
    """The sum of what connections polled here want, kept as they come and go."""

    def __init__(self, budget: SharedBudget, defaults: Defaults) -> None:
        self.others: Callable[[], Iterable[Mapping[str, float]]] = tuple
        """What the other processes published, as last read."""
        self.seated: Callable[[], float] = lambda: 1.0
        """What part of our connections is known: right after a start it is not yet all of them."""
        self._budget = budget
        self._defaults = defaults
        self._own: dict[App, float] = {}
        self._wants: dict[Want, Want] = {}
        self._lasting: dict[str, Lasting] = {}

    def of(self, connection: Connection, step: float) -> Want:
        """Return what a connection wants that is looked at every so many seconds."""
        return self._same(Want(self._budget.app(connection.id.provider, connection.region), 1 / step))

    def listed(self, listed: Listed) -> Want | None:
        """Return what a connection wants that has not been read yet, as far as its directory tells."""
        default = self._defaults.poll_interval.total_seconds()
        app = self._budget.default_app(listed.id.provider)
        return self._same(Want(app, 1 / (listed.poll_interval_seconds or default))) if app else None

    def change(self, before: Want | None, after: Want | None) -> None:
        """Take note that a connection wants something else now; None is one that is not polled here."""
        if before is after:
            return
        for want, sign in ((before, -1), (after, 1)):
            if want is not None:
                self._own[want.app] = self._own.get(want.app, 0.0) + sign * want.per_second

    def joining(self) -> None:
        """Take note of what all want before we take the first shards: whose they were counts them for a while, too."""
        for app in {app for other in self.others() for app in other} - self._lasting.keys():
            self._following(app, self._elsewhere(app))

    def published(self) -> dict[str, float]:
        """Return what we want, by app, in calls per second."""
        return {str(app): self._calls(app) for app in self._wanted()}

    def total(self, app: App) -> float:
        """Return what all processes want of an app."""
        return self._calls(app) + self._elsewhere(str(app))

    def stretch(self, app: App) -> float:
        """Return by what the intervals of an app's connections are multiplied, so that all polls fit: 1 or more."""
        return stretch(self.total(app), self._budget.limit, Priority.LIVE)

    def states(self) -> list[BudgetState]:
        """Return how each app that is wanted or called here stands; may be asked from any thread."""
        tills = dict(self._budget.tills)
        return [self._state(app, tills.get(app)) for app in sorted({*self._wanted(), *tills}, key=str)]

    def _wanted(self) -> list[App]:
        return [app for app, own in list(self._own.items()) if own > 0]

    def _state(self, app: App, till: Till | None) -> BudgetState:
        return BudgetState(
            provider=app.provider,
            region=app.region,
            stretch=self.stretch(app),
            wanted_per_second=self.total(app),
            calls=till.given if till else 0,
            waiting=till.waiting if till else 0,
            paused=bool(till and till.paused),
        )

    def stretch_of(self, connection: Connection) -> float:
        """Return what a connection's interval is multiplied by: what the demand has come to for a while."""
        app = self._budget.app(connection.id.provider, connection.region)
        return stretch(self._following(str(app), self.total(app)), self._budget.limit, Priority.LIVE)

    def _following(self, app: str, demand: float) -> float:
        return self._lasting.setdefault(app, Lasting()).following(demand, anyio.current_time())

    def _elsewhere(self, app: str) -> float:
        return sum(other.get(app, 0.0) for other in self.others())

    def _calls(self, app: App) -> float:
        known = max(0.0, self._own.get(app, 0.0))
        return known / self.seated() * self._budget.calls_per_look(app)

    def _same(self, want: Want) -> Want:
        """Return one object for all that are equal: there are as many connections as users, and few intervals."""
        return self._wants.setdefault(want, want)
