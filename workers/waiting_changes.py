"""Unpublished changes, between their commit and the pass of the relay that publishes them."""

from collections.abc import Collection, KeysView, Sequence

import anyio

from bg_ingest.domain.changes import Change
from bg_ingest.domain.ids import UserId
from bg_ingest.services.publishing.relay import CommittedChange

MAX_CACHED_CHANGES = 500
"""Changes kept in memory between commit and publication, of at most 80 KB each; others are read from the store."""


class WaitingChanges:
    """Users with unpublished changes, by shard. The changes of a user are all in memory, or all to be read."""

    def __init__(self) -> None:
        self._by_shard: dict[int, dict[UserId, list[CommittedChange]]] = {}
        """An empty list marks a user whose changes are to be read."""
        self._cached_count = 0

    @property
    def shards(self) -> KeysView[int]:
        return self._by_shard.keys()

    def add(self, shard: int, changes: Sequence[Change]) -> None:
        """Add the changes of one user's commit, in memory where there is room."""
        user, users = changes[0].user, self._by_shard.setdefault(shard, {})
        if users.get(user) == [] or self._cached_count >= MAX_CACHED_CHANGES:
            self.add_users(shard, [user])
        else:
            now = anyio.current_time()
            users.setdefault(user, []).extend(CommittedChange(change, now) for change in changes)
            self._cached_count += len(changes)

    def add_users(self, shard: int, users: Collection[UserId]) -> None:
        """Let users wait until their changes are read. Changes in memory are dropped, because earlier ones may lack."""
        for user in users:
            waiting = self._by_shard.setdefault(shard, {})
            self._cached_count -= len(waiting.get(user, ()))
            waiting[user] = []

    def take(self, shard: int) -> dict[UserId, list[CommittedChange]]:
        """Remove and return the changes of a shard, by user; an empty list if they are to be read."""
        waiting = self._by_shard.pop(shard, {})
        self._cached_count -= sum(map(len, waiting.values()))
        return waiting
