"""Changes of a connection's state, each with its numbered event."""

from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from bg_ingest.domain.changes import connection_changed
from bg_ingest.domain.commits import Commit, ConnectionSummary, ConnectionUpdate, Head, with_summary
from bg_ingest.domain.connections import Connection, ConnectionState
from bg_ingest.domain.grants import Grant
from bg_ingest.errors import Fenced, StaleRead
from bg_ingest.ports import Clock
from bg_ingest.services.polling.commit import Committer
from bg_ingest.services.retries import retrying
from bg_ingest.store.segments import ReadingStore


@dataclass(frozen=True)
class ConnectionStates:
    """Commits changes of state, together with the grant that is added or removed."""

    readings: ReadingStore
    committer: Committer
    clock: Clock
    summarize: Callable[[Connection], ConnectionSummary]

    async def change(
        self,
        connection: Connection,
        state: ConnectionState,
        reason: str | None,
        *,
        refused_grant: Grant | None = None,
        request_poll: bool = False,
    ) -> Connection:
        """Change the state of a connection; Fenced if the connection changed since it was read."""
        after = replace(connection, state=state, reason=reason)
        update = ConnectionUpdate(connection, after, request_poll=request_poll)
        await self.commit(update, refused_grant=refused_grant, drop_grant=state is ConnectionState.DISCONNECTED)
        return after

    @retrying(StaleRead)
    async def commit(
        self,
        update: ConnectionUpdate,
        *,
        grant: Grant | None = None,
        refused_grant: Grant | None = None,
        drop_grant: bool = False,
        known_change: int = -1,
    ) -> None:
        """Write an update together with its event.

        For an erased user, only a connect that began after the erasure is written: ``known_change`` is the last change
        number at the start of the connect, and the number of the erasure must not be greater. Fenced if the connection,
        grant or account changed, or the user was erased.
        """
        head = await self.readings.head(update.after.id.user)
        if head is not None and head.erased and head.last_change > known_change:
            raise Fenced
        commit = self._with_event(head, update)
        commit = replace(
            commit, connection_update=update, grant=grant, refused_grant=refused_grant, drop_grant=drop_grant
        )
        await self.committer.commit(commit)

    def _with_event(self, head: Head | None, update: ConnectionUpdate) -> Commit:
        user = update.after.id.user
        at = (head or Head(user)).next_recorded_at(self.clock.now())
        commit = Commit.of_changes(head, [connection_changed(update.after)], at, user=user)
        after = with_summary(commit.head, update.after.id.provider, self.summarize(update.after))
        # for an erased user only a connect reaches this line, and it replaces the tombstone
        return replace(commit, head=replace(after, erased=False))
