"""Clock, broker, encryption, and the other parts of this process."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from anyio.abc import TaskStatus

from bg_ingest.domain.access import TokenClaims
from bg_ingest.domain.changes import Change
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.replica_status import BrokerState, ReplicaStatus
from bg_ingest.domain.timeline import NextPoll


class Clock(Protocol):
    """Wall clock for instants that are stored or compared with stored ones.

    Durations come from ``anyio.current_time()``.
    """

    def now(self) -> datetime:
        """Return the time, aware, in UTC."""


class Publisher(Protocol):
    """Publisher of changes to the broker."""

    async def publish(self, change: Change) -> bool:
        """Publish one change and return after the broker's confirm: False if the event was unroutable.

        BrokerUnavailable if it could not be published, EventRefused if the broker refused it.
        """


class Broker(Protocol):
    """Actor that runs as long as its connection to the broker."""

    @property
    def state(self) -> BrokerState: ...

    async def __call__(self, *, task_status: TaskStatus[None]) -> None: ...


class Sealer(Protocol):
    """Authenticated encryption at rest."""

    def seal(self, secret: bytes, associated: bytes) -> bytes: ...

    def is_current(self, sealed: bytes) -> bool:
        """Return True if the value names the key that ``seal`` uses. The value is not verified."""

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """Return the secret that was sealed with the same associated data; else SealBroken."""


class Wakeups(Protocol):
    """Wake-ups inside this process. A lost wake-up delays work but loses no data, because its cause is in the store."""

    def wake_poller(self, connection: ConnectionId) -> None:
        """Announce a connection that is new, changed, or to be polled now."""

    def wake_relay(self, changes: Sequence[Change]) -> None:
        """Announce the changes of one user's commit. The relay may publish them from memory."""

    def check_relay(self, user: UserId) -> None:
        """Announce that a user may have unpublished changes, which the relay must read from the store."""


class ProcessHealth(Protocol):
    """State of this process, for health checks and operators."""

    def unready_reasons(self) -> Sequence[str]:
        """Return the names of the reasons against traffic to this process; empty if it is ready."""

    def degraded_parts(self) -> Sequence[str]:
        """Return the names of broken parts outside the process. They do not stop the process from serving."""

    def status(self) -> ReplicaStatus | None:
        """Return the state of this process; None before its actors were started."""

    def next_poll(self, connection: ConnectionId) -> NextPoll | None:
        """Return the due time of a connection's next poll and its reason; None if this process does not poll it."""


class TokenVerifier(Protocol):
    """Verifier of the JWTs of one issuer."""

    async def verify(self, token: str) -> TokenClaims | None:
        """Return the claims if the issuer signed the token for this service and it is valid now; else None.

        IssuerUnavailable if the issuer's keys cannot be fetched.
        """
