"""Everything this service needs from outside, on one page: adapters and providers implement it, services know only it.

Every store method may raise ``StoreUnavailable``; reads are consistent unless they say otherwise.
"""

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Protocol

import msgspec
from anyio.abc import TaskStatus

from bg_ingest.domain.commits import Commit, Head, Shelf
from bg_ingest.domain.connections import Connection, Listed
from bg_ingest.domain.events import Change
from bg_ingest.domain.grants import Credentials, Grant
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.readings import Reading, Unreadable
from bg_ingest.domain.segments import Known
from bg_ingest.domain.windows import Window


class Clock(Protocol):
    """Instants that are stored or compared with stored ones. Durations come from ``anyio.current_time()``."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""


class Priority(IntEnum):
    """Who goes first where a provider's calls are scarce."""

    BACKFILL = 60
    REPAIR = 75
    LIVE = 95
    REFRESH = 100


class Capabilities(msgspec.Struct, frozen=True):
    """What a provider can do; code branches on these, never on its name."""

    regions: Mapping[str, timedelta]
    """Its regions, each with the delay from a measurement until it is shown."""
    default_region: str
    cadence: timedelta
    """Of its usual sensor, until a connection's own is learned."""
    longest_window: timedelta
    app: str
    """Our client id."""
    pushes: bool = False
    """Whether readings may also be pushed to us; ``pushed`` is only called then."""


class Page(msgspec.Struct, frozen=True):
    """A provider's answer, translated. Readings ascend, and one identity is there once."""

    provider_account: str
    readings: tuple[Reading, ...]
    unreadable: tuple[Unreadable, ...] = ()


class Available(msgspec.Struct, frozen=True):
    """What a provider says it has of a user; ``past`` is None when that is nothing."""

    provider_account: str
    past: Window | None


class Provider(Protocol):
    """A source of readings. Calls raise ``ProviderError``s and nothing else."""

    name: str
    capabilities: Capabilities

    def authorize_url(self, region: str, state: str) -> str:
        """Return where to send the person."""

    async def exchange(self, region: str, code: str) -> Credentials:
        """Trade the callback's code; GrantRejected when it is spent, expired or not ours."""

    async def refresh(self, region: str, credentials: Credentials) -> Credentials:
        """Trade the single-use refresh token. After ProviderUnavailable it may or may not be spent."""

    async def available(self, region: str, credentials: Credentials, priority: Priority) -> Available:
        """Ask from when to when there are readings."""

    async def readings(self, region: str, credentials: Credentials, window: Window, priority: Priority) -> Page:
        """Ask for a window no longer than ``longest_window``; both its ends may be in the answer."""

    async def pushed(self, content: bytes) -> Page:
        """Read what was pushed to us, whoever did; ProviderMisbehaved when it is no push of this provider's.

        A page without any record asks us to look now.
        """


class Readings(Protocol):
    """A user's time series, its head, and the one transaction that changes either."""

    async def head(self, user: UserId) -> Head | None:
        """Return the head (also an erased one): one read."""

    async def known(self, user: UserId, segments: Collection[datetime]) -> tuple[Head | None, Known]:
        """Return the head and those segments that exist, by start: one read for all."""

    async def shelves(self, user: UserId, starts: Collection[datetime | None]) -> dict[datetime | None, Shelf]:
        """Return those shelves of set-aside records that exist."""

    async def commit(self, commit: Commit) -> None:
        """Write everything or nothing.

        Outdated: the head, a segment or a shelf is not as read. Fenced: the connection is not. Conflicted: another
        transaction was under way. StoreUnavailable: it may have happened; repeating it is then Outdated.
        """

    def packed(self, user: UserId, window: Window) -> AsyncGenerator[bytes]:
        """Yield the packed segments that the window touches, ascending; may lag a second behind a commit."""


class Connections(Protocol):
    """Connections, their grants, and the directory that lists them by shard."""

    async def get(self, connection: ConnectionId) -> Connection | None: ...

    async def with_grant(self, connection: ConnectionId) -> tuple[Connection | None, Grant | None]:
        """Return both in one read."""

    async def of_user(self, user: UserId) -> list[Connection]: ...

    def listed(self, shard: int) -> AsyncGenerator[Listed]:
        """Yield a shard's directory: every connection that has a grant."""

    async def begin(self, connection: Connection) -> None:
        """Keep a connecting connection until it expires; an existing one stays as it is."""

    async def note(self, before: Connection, after: Connection) -> None:
        """Write what is neither reading nor state: settings, outcome, cursor. Fenced as a commit's step is."""

    async def user_of(self, provider: str, region: str, provider_account: str) -> UserId | None:
        """Return who is connected to a provider account."""

    async def claim_grant(self, seen: Grant, claim: str) -> None:
        """Write the claim, on condition that version, generation and claim are as seen; else Outdated."""

    async def store_grant(self, grant: Grant) -> None:
        """Replace the version before this one in the same generation, whoever claims it; else Outdated.

        With the same version and tokens as the stored one it writes refusals and retry_at, and ends the grant's claim.
        """


class States(Protocol):
    """OAuth states: random, single-use, short-lived."""

    async def put(self, state: str, content: bytes, expires_at: datetime) -> None: ...

    async def take(self, state: str, now: datetime) -> bytes | None:
        """Return the content once; None when unknown, used or expired."""


class Webhooks(Protocol):
    """The ids of webhooks whose data is stored, each known to one connect of a connection."""

    async def seen(self, connection: Connection, webhook_id: str, now: datetime) -> bool: ...

    async def note(self, connection: Connection, webhook_id: str, expires_at: datetime) -> None:
        """Remember one, after its data was committed."""


class Pending(msgspec.Struct, frozen=True, order=True):
    """An outbox row: this change waits to be told."""

    shard: int
    user: UserId
    number: int


class Outbox(Protocol):
    """What waits to be told, by shard."""

    def pending(self, shard: int) -> AsyncGenerator[Sequence[Pending]]:
        """Yield all that waits, in pages, per user by ascending number."""

    async def changes(self, pending: Collection[Pending]) -> dict[Pending, Change]:
        """Return what is to be told; a change that expired untold is absent."""

    async def settle(self, pending: Collection[Pending]) -> None:
        """Forget rows whose events were confirmed."""


class Store(Protocol):
    """All that is stored, by subject; opened and closed by wiring."""

    readings: Readings
    connections: Connections
    states: States
    webhooks: Webhooks
    outbox: Outbox


class Publisher(Protocol):
    """The broker."""

    async def publish(self, change: Change) -> bool:
        """Tell one change and return once it is confirmed: False when nobody was there to receive it.

        BrokerUnavailable when it could not be told, EventRefused when the broker would not have it.
        """


class Sealer(Protocol):
    """Authenticated encryption at rest."""

    def seal(self, secret: bytes, associated: bytes) -> bytes: ...

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """Return what was sealed with the same associated data; else Unsealable."""


class Hints(Protocol):
    """Wake-ups inside this process. Losing one costs time, never data: what it hints at stands in the store."""

    def look(self, connection: ConnectionId) -> None:
        """This connection is worth a look: new, changed, or asked for."""

    def told(self, changes: Sequence[Change]) -> None:
        """These changes were committed and wait in the outbox."""


class Vitals(Protocol):
    """How this process is, for health checks."""

    def unready(self) -> Sequence[str]:
        """Return the reasons, by name, why no traffic should come here; empty when it should."""

    def degraded(self) -> Sequence[str]:
        """Return what is broken outside of us, by name, while we still serve."""


class Broker(Protocol):
    """An actor whose run is the connection to a broker."""

    @property
    def connected(self) -> bool: ...

    async def __call__(self, *, task_status: TaskStatus[None]) -> None: ...
