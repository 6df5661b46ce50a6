"""What we need to share users with other processes: rows that say who serves what, and durable hints.

Part of the store; every method may raise ``StoreUnavailable``, after which a write may or may not have happened.
"""

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.ownership import Lease, Owner, OwnershipSnapshot


class Ownership(Protocol):
    """Who serves which shard."""

    async def register(self, owner: Owner) -> None:
        """Write the row of a process that has none yet."""

    async def heartbeat(self, owner: Owner) -> None:
        """Replace our row; Outdated when it is gone: somebody took us for dead."""

    async def remove_dead(self, seen: Owner) -> None:
        """Delete the row of a process that is dead; Outdated when its beat has moved since."""

    async def unregister(self, owner: str) -> None:
        """Delete our own row, whatever became of the last beat."""

    async def snapshot(self) -> OwnershipSnapshot:
        """Read all shards, then all owners."""

    async def take(self, seen: Sequence[Lease], owner: str) -> list[Lease]:
        """Take shards that are as seen, each under its next epoch; return those that were."""

    async def release(self, leases: Collection[Lease]) -> None:
        """Release shards that are ours under these epochs; who is not the owner changes nothing."""


class RequestKind(StrEnum):
    """What a ring asks for."""

    POLL = "look"
    """The connection is new, changed, or to be looked at now."""
    PUBLISH = "tell"
    """A change of the user was committed by a process that does not tell it."""


class OwnerRequest(msgspec.Struct, frozen=True):
    """A durable hint that waits to be heard, under the address it was sent to."""

    address: str
    at: int
    """Epoch milliseconds by the sender's clock; it only makes rings distinct."""
    connection: ConnectionId
    """Where something is to be told, only its user counts; it may name no provider."""
    kind: RequestKind


class Requests(Protocol):
    """Hints for the process that serves a connection, whichever it is."""

    async def request_poll(self, connection: ConnectionId) -> None:
        """Ask that the connection be looked at now."""

    async def list_requests(self, address: str) -> list[OwnerRequest]:
        """Return the rings that were sent to a process."""

    async def delete(self, requests: Collection[OwnerRequest]) -> None:
        """Forget rings that were heeded."""

    async def forward(self, requests: Collection[OwnerRequest]) -> None:
        """Send rings on to whoever serves their shard by now."""
