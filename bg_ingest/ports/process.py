"""What we need of the machine, the broker, and the rest of this process."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from anyio.abc import TaskStatus

from bg_ingest.domain.access import TokenClaims
from bg_ingest.domain.changes import Change
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.replica_status import ReplicaStatus
from bg_ingest.domain.timeline import NextPoll


class Clock(Protocol):
    """Instants that are stored or compared with stored ones. Durations come from ``anyio.current_time()``."""

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""


class Publisher(Protocol):
    """The broker."""

    async def publish(self, change: Change) -> bool:
        """Tell one change and return once it is confirmed: False when nobody was there to receive it.

        BrokerUnavailable when it could not be told, EventRefused when the broker would not have it.
        """


class Broker(Protocol):
    """An actor whose run is the connection to a broker."""

    @property
    def connected(self) -> bool: ...

    async def __call__(self, *, task_status: TaskStatus[None]) -> None: ...


class Sealer(Protocol):
    """Authenticated encryption at rest."""

    def seal(self, secret: bytes, associated: bytes) -> bytes: ...

    def is_current(self, sealed: bytes) -> bool:
        """Tell whether it was sealed by the key that ``seal`` uses; it need not open."""

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """Return what was sealed with the same associated data; else Unsealable."""


class Wakeups(Protocol):
    """Wake-ups inside this process. Losing one costs time, never data: what it hints at stands in the store."""

    def wake_poller(self, connection: ConnectionId) -> None:
        """This connection is worth a look: new, changed, or asked for."""

    def wake_relay(self, changes: Sequence[Change]) -> None:
        """These changes were committed and wait in the outbox."""


class ProcessHealth(Protocol):
    """How this process is, for health checks."""

    def unready_reasons(self) -> Sequence[str]:
        """Return the reasons, by name, why no traffic should come here; empty when it should."""

    def degraded_parts(self) -> Sequence[str]:
        """Return what is broken outside of us, by name, while we still serve."""

    def status(self) -> ReplicaStatus | None:
        """Return what this process does; None before its actors were started."""

    def next_poll(self, connection: ConnectionId) -> NextPoll | None:
        """Return when a connection's next turn is, and why then; None where it is not polled here."""


class TokenVerifier(Protocol):
    """The JWTs of one issuer."""

    async def verify(self, token: str) -> TokenClaims | None:
        """Return what a token says, if the issuer has signed it, for us, and it holds now; else None.

        IssuerUnavailable when the issuer's keys cannot be had.
        """
