"""What we need of the store to seal everything anew."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol, TypeAlias

import msgspec

from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.quarantine import QuarantinePage


class SealedQuarantinePage(msgspec.Struct, frozen=True):
    """Records that were set aside, and whose."""

    user: UserId
    page: QuarantinePage


class AuditKey(msgspec.Struct, frozen=True):
    """The sealed key of the audit's hashes."""

    sealed: bytes


SealedItem: TypeAlias = Grant | SealedQuarantinePage | AuditKey


class SealedItems(Protocol):
    """Everything in the store that is sealed, whoever it belongs to."""

    def iter_items(self, part: int, parts: int) -> AsyncGenerator[Sequence[SealedItem]]:
        """Yield what is sealed in one of so many parts of the whole store; all parts together have everything.

        Reads the whole store: minutes where it is large.
        """

    async def read_grant(self, seen: Grant) -> Grant | None:
        """Return the grant as it is by now."""

    async def replace(self, seen: SealedItem, after: SealedItem) -> None:
        """Replace what is sealed; Outdated when it is not as seen.

        A grant keeps its version and its claim, which must both be as seen.
        """
