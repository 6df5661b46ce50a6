"""Commits: the writes of one transaction, each with a condition that fails after a concurrent change."""

from msgspec.structs import replace

from bg_ingest.domain.commits import Commit
from bg_ingest.errors import Fenced
from bg_ingest.ports.table import Table
from bg_ingest.store import changes, connections, gaps, grants, head, quarantine, segments, webhooks
from bg_ingest.store.inbox import InboxStore
from bg_ingest.store.items import ConditionalWrite, write_all
from bg_ingest.store.published import PublishedNumbers

KINDS = (head, segments, quarantine, gaps, changes, connections, grants, webhooks)
"""Modules that write parts of a commit. A failed condition of the last three raises Fenced. So does a failed condition
of ``head`` on a pending erasure or on a connection. Every other failed condition raises StaleRead."""


class CommitStore:
    """Writer of commits. Readings and gaps are written only by commits."""

    def __init__(self, table: Table, inbox: InboxStore, published: PublishedNumbers) -> None:
        self._table = table
        self._inbox = inbox
        self._published = published

    async def write(self, commit: Commit) -> None:
        """Write everything or nothing. If the commit has changes, the head also gets the user's published number.

        StaleRead: the head, a segment, a gap month or a quarantine page has changed. Fenced: the connection has
        changed, or another webhook with the same id was stored. TransactionConflict: another transaction was in
        progress. StoreUnavailable: the commit may have happened; its repetition then raises StaleRead or Fenced.
        """
        if commit.changes:
            published = max(commit.head.published, self._published.get(commit.user))
            commit = replace(commit, head=replace(commit.head, published=published))
        writes = [write for kind in KINDS for write in kind.commit_writes(commit)]
        if request := await self._inbox.request_for(commit):
            writes.append(ConditionalWrite(request, Fenced))
        await write_all(self._table, writes)
        self._published.record_head(commit.user, commit.head.published)
