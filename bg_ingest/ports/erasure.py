"""What we need of the store to erase a user."""

from collections.abc import AsyncGenerator
from typing import Protocol

from bg_ingest.domain.erasure import Erasure, ErasureCounts, PendingErasure
from bg_ingest.domain.ids import UserId


class Erasures(Protocol):
    """Users who are erased. From ``begin`` on nothing can be written of them; the rest of the rows goes in pieces."""

    async def begin(self, erasure: Erasure) -> ErasureCounts:
        """Write it whole or not at all: the tombstone, its event, what is left to do; connections and grants go.

        Outdated: the head is not as read. Conflicted: another transaction was under way.
        """

    async def pending_for(self, user: UserId) -> PendingErasure | None:
        """Return the user's erasure if it is not through; while it is not, the user cannot connect."""

    def iter_pending(self) -> AsyncGenerator[PendingErasure]:
        """Yield every erasure that is not through, of all users."""

    async def delete_next(self, erased: PendingErasure) -> ErasureCounts | None:
        """Delete some of what is left; None when that was all, be it that another process did it.

        Deletes nothing of a user who has connected again. May raise Conflicted: another does the same, try again.
        """
