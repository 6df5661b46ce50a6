"""Tell again what a consumer lost: changes that are still kept go back into the outbox, under the ids they had."""

from bg_ingest.domain.ids import UserId, shard_of
from bg_ingest.errors import NotFound
from bg_ingest.store import Store
from bg_ingest.store.outbox import OutboxEntry

BATCH_SIZE = 100
"""Changes looked for in one read."""


async def replay(store: Store, user: UserId, first: int, last: int | None = None) -> int:
    """Put those from ``first`` to ``last`` back; return how many there were. Unknown when there is no such user.

    Whoever tells the user's shard finds them within a minute. First deliveries keep their order; these are repeats.
    """
    head = await store.readings.head(user)
    if head is None:
        raise NotFound(f"There is no user {user}.")
    shard, found = shard_of(user), 0
    end = min(last or head.last_change, head.last_change)
    for start in range(first, end + 1, BATCH_SIZE):
        entries = [OutboxEntry(shard, user, number) for number in range(start, min(start + BATCH_SIZE, end + 1))]
        stored = await store.outbox.changes(entries)
        await store.outbox.restore(sorted(stored))
        found += len(stored)
    return found
