"""Replay for a consumer: stored changes go back into the outbox, under their former ids."""

from bg_ingest.domain.ids import UserId
from bg_ingest.errors import NotFound
from bg_ingest.store import Store

BATCH_SIZE = 100
"""Changes requested by one read."""


async def replay(store: Store, user: UserId, first: int, last: int | None = None) -> int:
    """Put the changes ``first`` to ``last`` back into the outbox; return their number. NotFound for an unknown user.

    The relay of the user's shard finds them within a minute. Only first deliveries are in order; these are repeats.
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
