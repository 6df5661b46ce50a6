"""How calls to a provider are had, where all processes together may make only so many."""

from datetime import timedelta
from typing import Protocol

from bg_ingest.domain.call_budget import BudgetKey, BudgetRow
from bg_ingest.ports.provider import Priority


class Budgets(Protocol):
    """The rows that all processes share, one for each app and region. Methods may raise ``StoreUnavailable``."""

    async def get(self, key: BudgetKey) -> BudgetRow | None: ...

    async def replace(self, key: BudgetKey, before: BudgetRow | None, after: BudgetRow) -> None:
        """Replace the row, on condition that it is as read; else Outdated."""


class CallBudget(Protocol):
    """Calls to providers, given out to whoever is first: by priority, then by arrival."""

    async def acquire(self, provider: str, region: str, priority: Priority, *, once: bool = False) -> None:
        """Return once one call may be made, at once; BudgetSpent, with when to come back, if that takes too long.

        ``once``: it is no part of what connections want all the time, as looks and refreshes are.
        """

    async def pause(self, provider: str, region: str, *, sent: float, wait: timedelta | None) -> timedelta:
        """Pause everybody, since a call was refused; return for how long.

        ``sent`` is when, by the event loop's clock; ``wait`` what the provider asked for, if it did.
        """
