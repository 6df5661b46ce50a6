"""Tell again what a consumer lost: changes that are still kept go back into the outbox, under the ids they had."""

from bg_ingest.domain.ids import UserId
from bg_ingest.errors import NotFound
from bg_ingest.store import Store

BATCH_SIZE = 100
"""Changes looked for in one read."""


async def replay(store: Store, user: UserId, first: int, last: int | None = None) -> int:
    """Put those from ``first`` to ``last`` back; return how many there were. Unknown when there is no such user.

    Whoever tells the user's shard finds them within a minute. First deliveries keep their order; these are repeats.
    """
    head = await store.readings.head(user)
    if head is None:
        raise NotFound(f"There is no user {user}.")
    count, end = 0, min(last or head.last_change, head.last_change)
    for start in range(first, end + 1, BATCH_SIZE):
        changes = await store.changes.read(user, start, min(start + BATCH_SIZE - 1, end))
        await store.outbox.restore(changes)
        count += len(changes)
    return count
