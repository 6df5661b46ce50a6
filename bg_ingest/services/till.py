"""Where the calls of one app are had in this process: who waits, what is at hand, and what the row gives.

A slice is a few calls taken from the row with one write, for those who wait and those who will soon. One of the
waiting asks the row for all of them, so that nobody else has to.
"""

from bisect import insort
from contextlib import suppress
from datetime import timedelta
from itertools import count
from math import ceil
from random import uniform

import anyio
import structlog

from bg_ingest.domain.budget import LIFETIME, SECOND, App, Limit, RowTime, Spending, paused
from bg_ingest.errors import BudgetSpent, Conflicted, Outdated, StoreError
from bg_ingest.ports import Budgets, Clock, Priority
from bg_ingest.services.mix import USUAL, Mix
from bg_ingest.services.places import Place, Slice
from bg_ingest.services.tickets import Tickets

log: structlog.stdlib.BoundLogger = structlog.get_logger()

PATIENCE = {Priority.BACKFILL: 2.0, Priority.REPAIR: 2.0, Priority.LIVE: 30.0, Priority.REFRESH: 30.0}
"""Seconds to wait for a call: less than an access token is refreshed ahead of its end."""

MOST_WAITING, MOST_OF_THE_PAST = 256, 12
"""Callers up to LIVE, and below it, who may wait at a time: they hold places of turns that may need no call."""

LOOK_AGAIN = 2.0
"""Seconds after which the row is read before a call at hand is used: somebody may have paused us all."""

SHORTEST_WAIT, LONGEST_WAIT = 0.01, 0.02
"""Seconds after there is enough until we look, by chance."""

STAND_BACK, ROUND = 0.2, 0.4
"""Seconds more for whoever has just had a slice: half as many after ``ROUND``, a third after twice that. So whoever
has waited longest comes first, also where the store takes longer to answer."""

STARVING = 3.0
"""Seconds without any call after which one is enough, where otherwise half a slice is waited for."""

TRIES = 10


class Till:
    """Gives out the calls of one app: higher priorities first, and within one whoever came first."""

    def __init__(self, app: App, limit: Limit, budgets: Budgets, clock: Clock, interval: timedelta = USUAL) -> None:
        self.app = app
        self.given = 0
        """Calls given out here since the start."""
        self.mix = Mix(limit, interval)
        self._limit = limit
        self._budgets = budgets
        self._clock = clock
        self._time = RowTime()
        self._row: Spending | None = None
        self._looked_at = self._had_at = float("-inf")
        self._slices: dict[Priority, Slice] = {}
        self._queue: list[Place] = []
        self._asking: Place | None = None
        self._order = count()
        self._tickets = Tickets(limit)
        self._told_pause = self._closed = False

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def paused(self) -> bool:
        """Whether nobody may call, by our own clock of instants; may be asked from any thread."""
        return bool(self._row and self._row.paused_until > self._clock.now().timestamp() * SECOND)

    @property
    def paused_for(self) -> float:
        """Seconds until anybody may call."""
        return max(0.0, (self._row.paused_until - self._now()) / SECOND) if self._row else 0.0

    async def take(self, priority: Priority, *, once: bool = False) -> None:
        """Return once a call may be made; else BudgetSpent. ``once``: nobody would ask for it again."""
        if self._is_hopeless(priority):
            raise BudgetSpent(self._tickets.next(priority, self.paused_for))
        if self._is_known() and not self.paused_for and not self._before(priority) and self._use(priority):
            return
        place = Place(priority, next(self._order))
        insort(self._queue, place, key=lambda each: (-each.priority, each.order))
        if self._asking and self._queue[0] is place:
            self._asking.called.set()
        try:
            with anyio.move_on_after(PATIENCE[priority]) as patience:
                await self._wait(place, patience, once=once)
        finally:
            self._leave(place)
        if not place.served:
            raise BudgetSpent(self._tickets.next(priority, self.paused_for))

    def close(self) -> None:
        """Let those go who wait, and nobody wait any more, but for what is asked once: the rest is had elsewhere."""
        self._closed = True
        for place in self._queue:
            place.called.set()

    async def pause(self, sent: float, wait: float | None) -> float:
        """Pause everybody, since a call sent at such a moment was refused; return for how many seconds."""
        self._see(self._paused(self._row, sent, wait))  # whatever becomes of the row, we stop here
        with suppress(StoreError):
            for _ in range(TRIES):
                row = await self._budgets.spending(self.app)
                after = self._paused(row, sent, wait)
                with suppress(Outdated, Conflicted):
                    if after != row:
                        await self._budgets.spend(self.app, row, after)
                    self._see(after)
                    break
        return self.paused_for

    def _paused(self, row: Spending | None, sent: float, wait: float | None) -> Spending:
        row = row or Spending()
        self._time = self._time.following(row.at, anyio.current_time())
        return paused(row, self._now(), self._time.at(sent), wait)

    def _now(self) -> int:
        """Return the row's time; what this process's clock says counts only while it is ahead."""
        moment = anyio.current_time()
        self._time = self._time.following(round(self._clock.now().timestamp() * SECOND), moment)
        return self._time.at(moment)

    def _is_hopeless(self, priority: Priority) -> bool:
        if self.paused_for > PATIENCE[priority]:
            return True
        if priority < Priority.LIVE:
            return sum(each.priority < Priority.LIVE for each in self._queue) >= MOST_OF_THE_PAST
        return priority == Priority.LIVE and len(self._queue) >= MOST_WAITING

    def _before(self, priority: Priority) -> bool:
        return bool(self._queue) and self._queue[0].priority >= priority

    def _is_known(self) -> bool:
        """Whether the row was read so lately that nobody can have paused us for long."""
        return anyio.current_time() - self._looked_at <= LOOK_AGAIN

    async def _wait(self, place: Place, patience: anyio.CancelScope, *, once: bool) -> None:
        """Wait to be served; whoever of the waiting comes first asks the row for all."""
        while not place.served and (once or not self._closed):
            wait = float("inf")
            if self._asking in (None, place):
                self._asking = place
                place.called = anyio.Event()
                wait = await self._serve()
                if self.paused_for > patience.deadline - anyio.current_time():
                    return
            if not place.served:
                with anyio.move_on_after(wait):
                    await place.called.wait()
                place.called = anyio.Event()

    def _leave(self, place: Place) -> None:
        """Go; if it was us who asked the row, the first of those left does."""
        if not place.served:
            self._queue.remove(place)
        if self._asking is place:
            self._asking = None
            if self._queue:
                self._queue[0].called.set()

    async def _serve(self) -> float:
        """Give calls to those who wait; return in how many seconds there may be more."""
        row = await self._budgets.spending(self.app)
        self._see(row or Spending())
        if self.paused_for:
            return self.paused_for
        self._hand_out()
        if not self._queue:
            return 0.0
        priority, asked_at = self._queue[0].priority, anyio.current_time()
        most, least = self._wanted(priority)
        sale = self._limit.sale(row or Spending(), self._now(), priority, most=most, least=least)
        if not sale.calls:
            return sale.wait + self._standing_back()
        try:
            await self._budgets.spend(self.app, row, sale.after)
        except (Outdated, Conflicted):
            return self._standing_back()
        self._see(sale.after)
        self._slices[priority] = Slice(sale.calls, asked_at + LIFETIME)
        self._had_at = asked_at
        self._hand_out()
        return 0.0

    def _standing_back(self) -> float:
        return uniform(SHORTEST_WAIT, LONGEST_WAIT) + STAND_BACK / (1 + (anyio.current_time() - self._had_at) / ROUND)

    def _wanted(self, priority: Priority) -> tuple[int, int]:
        """Return how many calls to take at most, and with how few to be content: each taking is a write."""
        waiting = sum(each.priority >= priority for each in self._queue)
        last = self._slices.get(priority)
        soon = last.next_size if last and priority < Priority.REFRESH else 1
        most = min(self._limit.most, max(waiting, soon))
        starving = anyio.current_time() - self._had_at > STARVING
        return most, 1 if starving else ceil(most / 2)

    def _hand_out(self) -> None:
        while self._queue and self._use(self._queue[0].priority):
            place = self._queue.pop(0)
            place.served = True
            place.called.set()

    def _use(self, priority: Priority) -> bool:
        """Use up a call at hand, one taken for the lowest priority first."""
        for bought, at_hand in sorted(self._slices.items()):
            if bought <= priority and at_hand.left and anyio.current_time() < at_hand.good_until:
                at_hand.left -= 1
                self.given += 1
                return True
        return False

    def _see(self, row: Spending) -> None:
        self._looked_at = anyio.current_time()
        self._row = row
        self._time = self._time.following(row.at, self._looked_at)
        pause = self.paused_for
        if pause and not self._told_pause:
            log.warning(
                "the provider asks us to call less", action="budget_paused", app=self._name, seconds=round(pause)
            )
            self._told_pause = True
        elif self._told_pause and not pause:
            log.info("calling again", action="budget_resumed", app=self._name)
            self._told_pause = False

    @property
    def _name(self) -> str:
        return f"{self.app.provider}/{self.app.region}"
