"""What we need to share users with other processes: rows that say who serves what, and durable hints.

Part of the store; every method may raise ``StoreUnavailable``, after which a write may or may not have happened.
"""

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.leases import Board, Lease, Owner


class Ownership(Protocol):
    """Who serves which shard."""

    async def enter(self, owner: Owner) -> None:
        """Write the row of a process that has none yet."""

    async def beat(self, owner: Owner) -> None:
        """Replace our row; Outdated when it is gone: somebody took us for dead."""

    async def bury(self, seen: Owner) -> None:
        """Delete the row of a process that is dead; Outdated when its beat has moved since."""

    async def leave(self, owner: str) -> None:
        """Delete our own row, whatever became of the last beat."""

    async def board(self) -> Board:
        """Read all shards, then all owners."""

    async def take(self, seen: Sequence[Lease], owner: str) -> list[Lease]:
        """Take shards that are as seen, each under its next epoch; return those that were."""

    async def give_back(self, leases: Collection[Lease]) -> None:
        """Release shards that are ours under these epochs; who is not the owner changes nothing."""


class Wish(StrEnum):
    """What a ring asks for."""

    LOOK = "look"
    """The connection is new, changed, or to be looked at now."""
    TELL = "tell"
    """A change of the user was committed by a process that does not tell it."""


class Ring(msgspec.Struct, frozen=True):
    """A durable hint that waits to be heard, under the address it was sent to."""

    address: str
    at: int
    """Epoch milliseconds by the sender's clock; it only makes rings distinct."""
    connection: ConnectionId
    """Where something is to be told, only its user counts; it may name no provider."""
    wish: Wish


class Rings(Protocol):
    """Hints for the process that serves a connection, whichever it is."""

    async def ring(self, connection: ConnectionId) -> None:
        """Ask that the connection be looked at now."""

    async def waiting(self, address: str) -> list[Ring]:
        """Return the rings that were sent to a process."""

    async def heard(self, rings: Collection[Ring]) -> None:
        """Forget rings that were heeded."""

    async def send_on(self, rings: Collection[Ring]) -> None:
        """Send rings on to whoever serves their shard by now."""
