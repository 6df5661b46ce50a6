"""What we need of where everything is kept.

Every method may raise ``StoreUnavailable``; reads are consistent unless they say otherwise.
"""

from collections.abc import AsyncGenerator, Collection, Sequence
from datetime import datetime
from typing import Protocol

import msgspec

from bg_ingest.domain.changes import Change
from bg_ingest.domain.commits import Commit, Head
from bg_ingest.domain.connections import Connection, DirectoryRow
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.quarantine import QuarantineKey, QuarantinePage
from bg_ingest.domain.segments import KnownSegments
from bg_ingest.domain.windows import Window
from bg_ingest.ports.audit import Trail
from bg_ingest.ports.budget import Budgets
from bg_ingest.ports.credentials import Keys
from bg_ingest.ports.erasure import Erasures
from bg_ingest.ports.gaps import Gaps
from bg_ingest.ports.ownership import Ownership, Requests
from bg_ingest.ports.sealed import SealedItems


class Readings(Protocol):
    """A user's time series, its head, and the one transaction that changes either."""

    async def head(self, user: UserId) -> Head | None:
        """Return the head (also an erased one): one read."""

    async def read(self, user: UserId, segments: Collection[datetime]) -> tuple[Head | None, KnownSegments]:
        """Return the head and those segments that exist, by start: one read for all."""

    async def read_pages(self, user: UserId, keys: Collection[QuarantineKey]) -> dict[QuarantineKey, QuarantinePage]:
        """Return those shelves of set-aside records that exist."""

    def iter_pages(self, user: UserId) -> AsyncGenerator[QuarantinePage]:
        """Yield every shelf of a user, the one without a time last."""

    async def commit(self, commit: Commit) -> None:
        """Write everything or nothing.

        Outdated: the head, a segment or a shelf is not as read. Fenced: the connection is not. Conflicted: another
        transaction was under way. StoreUnavailable: it may have happened; repeating it is then Outdated.
        """

    def iter_packed(self, user: UserId, window: Window, *, consistent: bool = False) -> AsyncGenerator[bytes]:
        """Yield the packed segments that the window touches, ascending; may lag a second unless ``consistent``."""


class Connections(Protocol):
    """Connections, their grants, and the directory that lists them by shard."""

    async def get(self, connection: ConnectionId) -> Connection | None: ...

    async def get_with_grant(self, connection: ConnectionId) -> tuple[Connection | None, Grant | None]:
        """Return both in one read."""

    async def list_for_user(self, user: UserId) -> list[Connection]: ...

    async def get_many(self, connections: Collection[ConnectionId]) -> list[Connection]:
        """Return those that exist, in as few reads as can be."""

    def iter_directory(self, shard: int) -> AsyncGenerator[DirectoryRow]:
        """Yield a shard's directory: every connection that has a grant."""

    async def add_connecting(self, connection: Connection) -> None:
        """Keep a connecting connection until it expires; an existing one stays as it is."""

    async def update(self, before: Connection, after: Connection, *, request_poll: bool = False) -> None:
        """Write what is neither reading nor state: settings, outcome, cursor. Fenced as a commit's step is.

        With ``look``, whoever polls the connection is told to look at once.
        """

    async def find_user(self, provider: str, region: str, provider_account: str) -> UserId | None:
        """Return who is connected to a provider account."""

    async def claim(self, seen: Grant, claim: str) -> None:
        """Write the claim, on condition that version, generation and claim are as seen; else Outdated."""

    async def store(self, grant: Grant) -> None:
        """Replace the version before this one in the same generation, whoever claims it; else Outdated.

        With the same version and tokens as the stored one it writes refusals and retry_at, and ends the grant's claim.
        """


class States(Protocol):
    """OAuth states: random, single-use, short-lived."""

    async def add(self, user: UserId, state: str, content: bytes, expires_at: datetime) -> None:
        """Keep what a state stands for, until it is taken, expires, or the user is erased."""

    async def consume(self, state: str, now: datetime) -> bytes | None:
        """Return the content once; None when unknown, used or expired."""


class Webhooks(Protocol):
    """The ids of webhooks whose data is stored, each known to one connect of a connection."""

    async def contains(self, connection: Connection, webhook_id: str, now: datetime) -> bool: ...

    async def add(self, connection: Connection, webhook_id: str, expires_at: datetime) -> None:
        """Remember one, after its data was committed."""


class OutboxEntry(msgspec.Struct, frozen=True, order=True):
    """An outbox row: this change waits to be told."""

    shard: int
    user: UserId
    number: int


class Outbox(Protocol):
    """What waits to be told, by shard."""

    async def non_empty_shards(self, shards: Collection[int]) -> set[int]:
        """Return those of these shards in which anything waits."""

    def iter_entries(self, shard: int) -> AsyncGenerator[Sequence[OutboxEntry]]:
        """Yield all that waits, in pages, per user by ascending number."""

    async def changes(self, pending: Collection[OutboxEntry]) -> dict[OutboxEntry, Change]:
        """Return what is to be told; a change that expired untold is absent."""

    async def exists(self, pending: OutboxEntry) -> bool:
        """Tell whether a row is still there: an erasure takes a user's rows away before their changes."""

    async def settle(self, pending: Collection[OutboxEntry]) -> None:
        """Forget rows whose events were confirmed."""

    async def settle_last(self, pending: OutboxEntry) -> None:
        """Forget a row and its change: the last of an erased user."""

    async def restore(self, pending: Collection[OutboxEntry]) -> None:
        """Have these told again, whether they wait already or not."""


class Store(Protocol):
    """All that is stored, by subject; opened and closed by wiring."""

    readings: Readings
    gaps: Gaps
    connections: Connections
    states: States
    webhooks: Webhooks
    outbox: Outbox
    ownership: Ownership
    inbox: Requests
    keys: Keys
    erasures: Erasures
    audit: Trail
    sealed: SealedItems
    budgets: Budgets
