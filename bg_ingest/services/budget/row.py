"""Shared row of the call budget of one provider app: reads, replacements and pauses."""

from contextlib import suppress

import anyio
import structlog

from bg_ingest.domain.call_budget import MICROS_PER_SECOND, BudgetKey, BudgetRow, RowClock, pause_after
from bg_ingest.errors import StaleRead, StoreError, TransactionConflict
from bg_ingest.ports import Clock
from bg_ingest.services.retrying import retrying
from bg_ingest.store.call_budget import CallBudgetStore

log: structlog.stdlib.BoundLogger = structlog.get_logger()

RECHECK_SECONDS = 2.0
"""Age of the row, in seconds, from which it is read again before a reserved call is used. Another process may have
paused all callers."""


class SharedRow:
    """Last known state of the row, with its clock and its pause."""

    def __init__(self, key: BudgetKey, store: CallBudgetStore, clock: Clock) -> None:
        self._key = key
        self._store = store
        self._clock = clock
        self._row_clock = RowClock()
        self._row: BudgetRow | None = None
        self._read_at = float("-inf")
        self._pause_logged = False

    @property
    def is_paused(self) -> bool:
        """True while calls are paused, by the process's own clock of instants. Thread-safe."""
        return bool(self._row and self._row.paused_until > self._clock.now().timestamp() * MICROS_PER_SECOND)

    @property
    def pause_seconds(self) -> float:
        """Seconds until calls are allowed."""
        return max(0.0, (self._row.paused_until - self.now()) / MICROS_PER_SECOND) if self._row else 0.0

    @property
    def is_fresh(self) -> bool:
        """True if the row was read within ``RECHECK_SECONDS``, so that a pause unknown here is at most that old."""
        return anyio.current_time() - self._read_at <= RECHECK_SECONDS

    def now(self) -> int:
        """Return the time of the row; the clock of this process counts only while it is ahead."""
        now = anyio.current_time()
        self._row_clock = self._row_clock.advance(round(self._clock.now().timestamp() * MICROS_PER_SECOND), now)
        return self._row_clock.at(now)

    async def read(self) -> BudgetRow | None:
        row = await self._store.get(self._key)
        self._update(row or BudgetRow())
        return row

    async def replace(self, before: BudgetRow | None, after: BudgetRow) -> None:
        await self._store.replace(self._key, before, after)
        self._update(after)

    async def pause(self, sent: float, wait: float | None) -> None:
        """Pause all callers, because a call sent at that time was refused."""
        self._update(self._with_pause(self._row, sent, wait))  # holds in this process even if the row cannot be written
        with suppress(StoreError):
            await self._write_pause(sent, wait)

    @retrying(StaleRead, TransactionConflict)
    async def _write_pause(self, sent: float, wait: float | None) -> None:
        row = await self._store.get(self._key)
        after = self._with_pause(row, sent, wait)
        if after != row:
            await self._store.replace(self._key, row, after)
        self._update(after)

    def _with_pause(self, row: BudgetRow | None, sent: float, wait: float | None) -> BudgetRow:
        row = row or BudgetRow()
        self._row_clock = self._row_clock.advance(row.at, anyio.current_time())
        return pause_after(row, self.now(), self._row_clock.at(sent), wait)

    def _update(self, row: BudgetRow) -> None:
        self._read_at = anyio.current_time()
        self._row = row
        self._row_clock = self._row_clock.advance(row.at, self._read_at)
        pause, app = self.pause_seconds, f"{self._key.provider}/{self._key.region}"
        if pause and not self._pause_logged:
            log.warning("the provider asks us to call less", action="budget_paused", app=app, seconds=round(pause))
            self._pause_logged = True
        elif self._pause_logged and not pause:
            log.info("calling again", action="budget_resumed", app=app)
            self._pause_logged = False
