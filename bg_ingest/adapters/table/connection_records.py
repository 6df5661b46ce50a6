"""Items of connections: the connection, its grant, its line in the directory.

Plain attributes, so that a write can hold on to each as it was read.
"""

from datetime import UTC, datetime

from bg_ingest.adapters.table.protocol import Item
from bg_ingest.adapters.table.records import Found, epoch_ms, instant, item
from bg_ingest.domain.columns import milliseconds, seconds
from bg_ingest.domain.connections import Connection, Listed, State, WorkerSettings
from bg_ingest.domain.grants import Grant
from bg_ingest.domain.ids import ConnectionId
from bg_ingest.domain.windows import Window

WITH_GRANT = frozenset({State.ACTIVE, State.PAUSED, State.REAUTHORIZATION_REQUIRED, State.PROVIDER_FORBIDDEN})
"""The states that are listed in the directory and hold their provider account."""


def connection_item(connection: Connection) -> Item:
    c = connection
    return item(
        state=str(c.state),
        generation=c.generation,
        region=c.region,
        app=c.app,
        connected_at=milliseconds(c.connected_at),
        reason=c.reason,
        provider_account=c.provider_account,
        poll_interval_seconds=c.worker.poll_interval_seconds,
        paused=c.worker.paused,
        backfill_days=c.worker.backfill_days,
        watermark=epoch_ms(c.watermark),
        available_from=epoch_ms(c.available.start) if c.available else None,
        available_until=epoch_ms(c.available.end) if c.available else None,
        backfill_from=epoch_ms(c.backfill.start) if c.backfill else None,
        backfill_until=epoch_ms(c.backfill.end) if c.backfill else None,
        swept_at=epoch_ms(c.swept_at),
        repair_at=epoch_ms(c.repair_at),
        lacks_until=epoch_ms(c.lacks_until),
        newest_reading_at=epoch_ms(c.newest_reading_at),
        cadence_seconds=c.cadence_seconds,
        last_outcome=c.last_outcome,
        outcome_at=epoch_ms(c.outcome_at),
        epoch=c.epoch,
        expires_at=None if c.expires_at is None else seconds(c.expires_at),
    )


def connection_of(identity: ConnectionId, found: Found) -> Connection:
    expires_at = found.get("expires_at")
    return Connection(
        id=identity,
        state=State(found["state"]),
        generation=found["generation"],
        region=found["region"],
        app=found["app"],
        connected_at=datetime.fromtimestamp(found["connected_at"] / 1000, UTC),
        reason=found.get("reason"),
        provider_account=found.get("provider_account"),
        worker=WorkerSettings(found.get("poll_interval_seconds"), found["paused"], found.get("backfill_days")),
        watermark=instant(found.get("watermark")),
        available=_window(found.get("available_from"), found.get("available_until")),
        backfill=_window(found.get("backfill_from"), found.get("backfill_until")),
        swept_at=instant(found.get("swept_at")),
        repair_at=instant(found.get("repair_at")),
        lacks_until=instant(found.get("lacks_until")),
        newest_reading_at=instant(found.get("newest_reading_at")),
        cadence_seconds=found.get("cadence_seconds"),
        last_outcome=found.get("last_outcome"),
        outcome_at=instant(found.get("outcome_at")),
        epoch=found["epoch"],
        expires_at=None if expires_at is None else datetime.fromtimestamp(expires_at, UTC),
    )


def grant_item(grant: Grant) -> Item:
    return item(
        generation=grant.generation,
        version=grant.version,
        sealed=grant.sealed,
        refreshed_at=milliseconds(grant.refreshed_at),
        claim=grant.claim,
        refusals=grant.refusals,
        retry_at=epoch_ms(grant.retry_at),
    )


def grant_of(identity: ConnectionId, found: Found) -> Grant:
    return Grant(
        id=identity,
        generation=found["generation"],
        version=found["version"],
        sealed=found["sealed"],
        refreshed_at=datetime.fromtimestamp(found["refreshed_at"] / 1000, UTC),
        claim=found.get("claim"),
        refusals=found["refusals"],
        retry_at=instant(found.get("retry_at")),
    )


def listed_item(connection: Connection | None) -> Item | None:
    """Return the connection's directory row, or None where it has none."""
    if connection is None or connection.state not in WITH_GRANT:
        return None
    paused = connection.worker.paused or connection.state == State.PAUSED
    return item(poll_interval_seconds=connection.worker.poll_interval_seconds, paused=paused)


def listed_of(identity: ConnectionId, found: Found) -> Listed:
    return Listed(identity, found.get("poll_interval_seconds"), found["paused"])


def _window(start: int | None, end: int | None) -> Window | None:
    first, last = instant(start), instant(end)
    return Window(first, last) if first and last else None
