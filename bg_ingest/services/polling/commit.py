"""Commit, however many transactions are under way on the same items."""

from random import uniform

import anyio

from bg_ingest.domain.commits import Commit
from bg_ingest.errors import StoreUnavailable, TransactionConflict
from bg_ingest.store.segments import ReadingStore

MAX_TRIES = 10
"""How often a commit is tried, be it again as it is or decided anew."""


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


async def _retry(readings: ReadingStore, commit: Commit) -> None:
    give_up_at = anyio.current_time() + MAX_RETRY_SECONDS
    for attempt in range(MAX_TRIES):
        try:
            return await readings.commit(commit)
        except TransactionConflict:
            if anyio.current_time() > give_up_at:
                break
            await anyio.sleep(uniform(0, 0.01 * 2**attempt))
    raise StoreUnavailable("too many transactions at once")
