"""Grants: sealed credentials with their version, generation and claim."""

from collections.abc import Iterator

import msgspec

from bg_ingest.domain.commits import Commit
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.segment_codec import to_epoch_ms
from bg_ingest.errors import Fenced
from bg_ingest.ports.table import (
    Check,
    ConditionFailed,
    Conditions,
    Delete,
    Either,
    Equals,
    Exists,
    Item,
    Missing,
    Put,
    StoredItem,
    Update,
    Write,
)
from bg_ingest.store import items, keys


class GrantStore(items.ItemStore):
    async def get(self, connection: ConnectionId) -> Grant | None:
        item = await self._table.get(keys.grant(connection))
        return decode_grant(connection, item) if item else None

    async def claim(self, seen: Grant, claim: str) -> None:
        """Write the claim if version, generation and claim are unchanged since ``seen``; else StaleRead."""
        conditions = (*_version_conditions(seen, seen.version), items.value_condition("claim", seen.claim))
        await items.write_if_current(
            self._table, items.update_existing(keys.grant(seen.id), {"claim": claim}, conditions)
        )

    async def store(self, grant: Grant) -> None:
        """Replace the stored grant if its generation is the same and its version is one lower, even if it has a claim.

        If the stored grant has the same generation, version and tokens, and no claim of another process, only write
        ``refusals`` and ``retry_at`` and remove the claim. StaleRead in all other cases.
        """
        unclaimed = encode_grant(msgspec.structs.replace(grant, claim=None))
        conditions = (Exists(), items.VERSION_OK, *_version_conditions(grant, grant.version - 1))
        try:
            await self._table.write(Put(keys.grant(grant.id), unclaimed, conditions))
        except ConditionFailed:
            await items.write_if_current(self._table, _refusals_write(grant))


def encode_grant(grant: Grant) -> Item:
    return items.build_item(
        generation=grant.generation,
        version=grant.version,
        sealed=grant.sealed,
        refreshed_at=to_epoch_ms(grant.refreshed_at),
        claim=grant.claim,
        refusals=grant.refusals,
        retry_at=items.optional_epoch_ms(grant.retry_at),
    )


def decode_grant(identity: ConnectionId, item: StoredItem) -> Grant:
    return Grant(
        id=identity,
        generation=item["generation"],
        version=item["version"],
        sealed=item["sealed"],
        refreshed_at=items.from_epoch_ms(item["refreshed_at"]),
        claim=item.get("claim"),
        refusals=item["refusals"],
        retry_at=items.optional_instant(item.get("retry_at")),
    )


def commit_writes(commit: Commit) -> Iterator[items.ConditionalWrite]:
    """Yield the write of the grant. The condition on the connection in the same commit also protects a new grant."""
    if write := _commit_write(commit):
        yield items.ConditionalWrite(write, Fenced)


def _commit_write(commit: Commit) -> Write | None:
    refused: Conditions = ()
    if commit.refused_grant is not None:
        refused = _version_conditions(commit.refused_grant, commit.refused_grant.version)
    if commit.grant is not None:
        return Put(keys.grant(commit.grant.id), encode_grant(commit.grant), (items.VERSION_OK_OR_ABSENT, *refused))
    if commit.drop_grant:
        if commit.connection_update is None:
            raise ValueError("a commit that drops a grant needs an update of its connection")
        return Delete(keys.grant(commit.connection_update.after.id), refused)
    return Check(keys.grant(commit.refused_grant.id), refused) if commit.refused_grant else None


def _refusals_write(grant: Grant) -> Update:
    """Return the write of ``refusals`` and ``retry_at`` after a refused refresh. The write also removes the claim.

    ``store`` also tries this write if it cannot write new tokens. The condition on ``sealed`` then fails if another
    process has stored other tokens as this version. The condition on the claim keeps the claim of another process. A
    missing claim is accepted, because an earlier try may have removed the claim.
    """
    changed = items.build_item(refusals=grant.refusals, retry_at=items.optional_epoch_ms(grant.retry_at))
    claim = Missing("claim") if grant.claim is None else Either((Missing("claim"), Equals("claim", grant.claim)))
    conditions = (*_version_conditions(grant, grant.version), Equals("sealed", grant.sealed), claim)
    removed = ("claim",) if "retry_at" in changed else ("claim", "retry_at")
    return items.update_existing(keys.grant(grant.id), changed, conditions, removed)


def _version_conditions(grant: Grant, version: int) -> Conditions:
    return Equals("version", version), Equals("generation", grant.generation)
