"""Transactions that write changes, repeated after conflicts with other transactions."""

from collections.abc import Sequence

import anyio

from bg_ingest.domain.changes import Change
from bg_ingest.domain.commits import Commit, Erasure, ErasureCounts
from bg_ingest.errors import StoreUnavailable, TransactionConflict
from bg_ingest.ports import Observer, Wakeups
from bg_ingest.services.retrying import retrying
from bg_ingest.store import Store

MAX_RETRY_SECONDS = 5.0
"""Time after which the same commit is not repeated. Its ``recorded_at`` must not be much older than the instant at
which the commit becomes visible, see ``domain/reading_filter.py``."""


COMMIT_TIMEOUT = 10.0
"""Time for which a commit is shielded from cancellation: three attempts of DynamoDB's client. A commit that exceeds it
has an unknown result."""


class Committer:
    """Writes all transactions with changes. After each success the observer and the relay receive the changes."""

    def __init__(self, store: Store, observer: Observer, wakeups: Wakeups) -> None:
        self._store = store
        self._observer = observer
        self._wakeups = wakeups

    async def commit(self, commit: Commit) -> None:
        """Commit, and repeat after conflicts. StaleRead and Fenced are left to the caller.

        A cancelled commit is completed, and the caller continues to its next await.
        """
        with anyio.move_on_after(COMMIT_TIMEOUT, shield=True):
            await self._write(commit)
            return self._announce(commit.changes)
        raise StoreUnavailable("the store did not answer in time")

    async def begin_erasure(self, erasure: Erasure) -> ErasureCounts:
        """Write the tombstone. Raises the errors of ``ErasureStore.begin``."""
        removed = await self._store.erasures.begin(erasure)
        self._announce([erasure.change])
        return removed

    @retrying(
        TransactionConflict,
        deadline=MAX_RETRY_SECONDS,
        first_wait=0.01,
        error=lambda: StoreUnavailable("too many transactions at once"),
    )
    async def _write(self, commit: Commit) -> None:
        await self._store.commits.write(commit)

    def _announce(self, changes: Sequence[Change]) -> None:
        if changes:
            self._observer.committed(changes)
            self._wakeups.wake_relay(changes)
