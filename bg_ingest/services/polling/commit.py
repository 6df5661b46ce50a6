"""Commit, however many transactions are under way on the same items."""

import anyio

from bg_ingest.domain.commits import Commit
from bg_ingest.errors import StoreUnavailable, TransactionConflict
from bg_ingest.services.retrying import retrying
from bg_ingest.store.segments import ReadingStore

MAX_RETRY_SECONDS = 5.0
"""Seconds after which the same commit is not tried again: its ``recorded_at`` must not lie far behind the moment it is
seen, see ``domain/as_of.py``."""


COMMIT_TIMEOUT = 10.0
"""Seconds in which a commit ends whatever is cancelled around it: three attempts of DynamoDB's client. What is cut off
is either stored or not, and nobody here would know or tell."""


async def commit_with_retries(readings: ReadingStore, commit: Commit) -> None:
    """Commit, trying the same again after conflicts; Outdated and Fenced are the caller's to decide on.

    Cancelled, it still ends: the caller can say what it did, up to its next await.
    """
    with anyio.move_on_after(COMMIT_TIMEOUT, shield=True):
        return await _retry(readings, commit)
    raise StoreUnavailable("the store did not answer in time")


@retrying(
    TransactionConflict,
    deadline=MAX_RETRY_SECONDS,
    first_wait=0.01,
    error=lambda: StoreUnavailable("too many transactions at once"),
)
async def _retry(readings: ReadingStore, commit: Commit) -> None:
    await readings.commit(commit)
