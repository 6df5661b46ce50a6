"""TODO."""

from datetime import UTC, datetime

from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.segment_codec import to_epoch_ms
from bg_ingest.ports.table import Item
from bg_ingest.store.items import StoredItem, build_item, optional_epoch_ms, optional_instant


def encode_grant(grant: Grant) -> Item:
    return build_item(
        generation=grant.generation,
        version=grant.version,
        sealed=grant.sealed,
        refreshed_at=to_epoch_ms(grant.refreshed_at),
        claim=grant.claim,
        refusals=grant.refusals,
        retry_at=optional_epoch_ms(grant.retry_at),
    )


def decode_grant(identity: ConnectionId, found: StoredItem) -> Grant:
    return Grant(
        id=identity,
        generation=found["generation"],
        version=found["version"],
        sealed=found["sealed"],
        refreshed_at=datetime.fromtimestamp(found["refreshed_at"] / 1000, UTC),
        claim=found.get("claim"),
        refusals=found["refusals"],
        retry_at=optional_instant(found.get("retry_at")),
    )
