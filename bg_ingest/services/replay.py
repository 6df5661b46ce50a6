"""Tell again what a consumer lost: changes that are still kept go back into the outbox, under the ids they had."""

from bg_ingest.domain.ids import UserId, shard_of
from bg_ingest.errors import Unknown
from bg_ingest.ports import Pending, Store

AT_ONCE = 100
"""Changes looked for in one read."""


async def replay(store: Store, user: UserId, first: int, last: int | None = None) -> int:
    """Put those from ``first`` to ``last`` back; return how many there were. Unknown when there is no such user.

    Whoever tells the user's shard finds them within a minute. First deliveries keep their order; these are repeats.
    """
    head = await store.readings.head(user)
    if head is None:
        raise Unknown(f"There is no user {user}.")
    shard, found = shard_of(user), 0
    end = min(last or head.last_change, head.last_change)
    for start in range(first, end + 1, AT_ONCE):
        wanted = [Pending(shard, user, number) for number in range(start, min(start + AT_ONCE, end + 1))]
        there = await store.outbox.changes(wanted)
        await store.outbox.put_back(sorted(there))
        found += len(there)
    return found
