"""A commit as the writes of one transaction, each with the condition that a lost race breaks."""

from collections.abc import Iterator

from bg_ingest.domain.commits import Commit
from bg_ingest.errors import Fenced
from bg_ingest.ports.table import Table
from bg_ingest.store import changes, connections, directory, gaps, grants, head, outbox, quarantine, segments
from bg_ingest.store.conditional import ConditionalWrite, write_all
from bg_ingest.store.inbox import InboxStore


class CommitStore:
    """The one transaction that changes a user's readings, gaps, quarantine and the state of connections."""

    def __init__(self, table: Table, inbox: InboxStore) -> None:
        self._table = table
        self._inbox = inbox

    async def write(self, commit: Commit) -> None:
        """Write everything or nothing.

        StaleRead: the head, a segment or a shelf is not as read. Fenced: the connection is not. TransactionConflict:
        another transaction was under way. StoreUnavailable: it may have happened; repeating it is then StaleRead.
        """
        writes = list(_commit_writes(commit))
        if request := await self._inbox.request_for(commit):
            writes.append(ConditionalWrite(request, Fenced))
        await write_all(self._table, writes)


def _commit_writes(commit: Commit) -> Iterator[ConditionalWrite]:
    """Yield all writes of a commit; the connection's own mean Fenced, the others StaleRead."""
    for kind in (head, segments, quarantine, gaps, changes, outbox, connections, directory, grants):
        yield from kind.writes(commit)
