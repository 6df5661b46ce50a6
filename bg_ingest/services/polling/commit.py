"""Transactions that write changes."""

from collections.abc import Sequence

import anyio

from bg_ingest.domain.changes import Change
from bg_ingest.domain.commits import Commit, Erasure, ErasureCounts
from bg_ingest.errors import StoreError, StoreUnavailable, TransactionConflict
from bg_ingest.ports import Observer, Wakeups
from bg_ingest.services.retries import retrying
from bg_ingest.store import Store
from bg_ingest.store.changes import is_in_directory

MAX_RETRY_SECONDS = 5.0
"""Seconds after which the same commit is not repeated. Its ``recorded_at`` must not be much older than the instant at
which the commit becomes visible, see ``domain/reading_filter.py``."""

COMMIT_TIMEOUT = 10.0
"""Seconds for which a commit is shielded from cancellation, enough for three attempts of DynamoDB's client. The result
of a longer commit is unknown."""


class Committer:
    """Writes all transactions with changes. After each success the observer and the relay receive the changes."""

    def __init__(self, store: Store, observer: Observer, wakeups: Wakeups) -> None:
        self._store = store
        self._observer = observer
        self._wakeups = wakeups

    async def commit(self, commit: Commit) -> None:
        """Commit, and repeat after TransactionConflict. StaleRead and Fenced are raised at once.

        A cancelled commit is completed. The cancellation is raised at the caller's next await.
        """
        try:
            with anyio.move_on_after(COMMIT_TIMEOUT, shield=True):
                await self._write(commit)
                return self._announce(commit.changes, in_directory=is_in_directory(commit))
            raise StoreUnavailable("the store did not answer in time")
        except StoreError:
            # the commit may be stored: if the answer to a try is lost, the conditions of the next try fail
            self._wakeups.check_relay(commit.user)
            raise

    async def begin_erasure(self, erasure: Erasure) -> ErasureCounts:
        """Write the tombstone. Raises the errors of ``ErasureStore.begin``."""
        removed = await self._store.erasures.begin(erasure)
        self._announce([erasure.change], in_directory=False)
        return removed

    @retrying(
        TransactionConflict,
        deadline=MAX_RETRY_SECONDS,
        first_wait=0.01,
        error=lambda: StoreUnavailable("too many transactions at once"),
    )
    async def _write(self, commit: Commit) -> None:
        await self._store.commits.write(commit)

    def _announce(self, changes: Sequence[Change], *, in_directory: bool) -> None:
        """Announce committed changes. ``in_directory``: the commit leaves a connection of the user in the directory.

        Otherwise, and for an erasure, the changes have outbox rows. The relay then reads them from the store and
        deletes the rows.
        """
        if changes:
            self._observer.committed(changes)
            if in_directory:
                self._wakeups.wake_relay(changes)
            else:
                self._wakeups.check_relay(changes[0].user)
