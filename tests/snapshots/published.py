"""CloudEvents bytes of every type, message properties, and the AsyncAPI document without prose."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # ships no types

from bg_ingest.adapters.rabbitmq.publisher import _to_properties
from bg_ingest.domain.changes import (
    Change,
    ChangeData,
    ConnectionChanged,
    GapHealed,
    GapOpened,
    ReadingsRecorded,
    ReadingsRevised,
    UserErased,
)
from bg_ingest.domain.cloud_events import CONTENT_TYPE, EXCHANGE, encode_cloud_event
from bg_ingest.domain.connections import ConnectionState
from bg_ingest.domain.gaps import Cause, Gap
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.readings import AsSent, Device, Flag, Origin, Reading, StoredReading
from bg_ingest.wiring import SOURCE
from tests.snapshots.interface import plain

AT = datetime(2026, 3, 2, 12, 0, 5, 123_000, UTC)
DOCUMENT = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"


def _gap(before: datetime | None, healed_at: datetime | None, cause: Cause) -> Gap:
    return Gap(
        after=AT.replace(microsecond=0) - timedelta(hours=2),
        before=before,
        cadence_seconds=300,
        cause=cause,
        opened_at=AT,
        healed_at=healed_at,
    )


def _happenings() -> list[ChangeData]:
    device = Device("dexcom", "account-1", "ab" * 32, "iOS", "g7")
    unnamed = Device("dexcom", "account-1", None, "receiver")
    full = Reading(AT.replace(microsecond=0), 111, Flag.OK, device, "flat", 0.3, 7200, AsSent(6.2, "mmol/L"))
    bare = Reading(AT.replace(microsecond=0) - timedelta(minutes=5), 39, Flag.LOW, unnamed)
    earlier = StoredReading(full, AT - timedelta(hours=1), 3).version
    later = Reading(full.measured_at, 401, Flag.HIGH, device)
    end = AT.replace(microsecond=0)
    return [
        *(
            ReadingsRecorded("dexcom", origin, (StoredReading(bare, AT, 4), StoredReading(full, AT, 4)))
            for origin in Origin
        ),
        ReadingsRevised("dexcom", Origin.SWEEP, (StoredReading(later, AT, 5, (earlier,)),)),
        *(ConnectionChanged("dexcom", state, None) for state in ConnectionState),
        ConnectionChanged("dexcom", ConnectionState.REAUTHORIZATION_REQUIRED, "grant_rejected"),
        *(GapOpened("dexcom", _gap(None, None, cause)) for cause in Cause),
        GapOpened("dexcom", _gap(end, None, Cause.SERVICE_DOWN)),
        GapHealed("dexcom", _gap(end, AT + timedelta(hours=3), Cause.THROTTLED)),
        UserErased(),
    ]


def events() -> dict[str, Any]:
    """Return the events of sample changes as bytes and with their message properties."""
    changes = [Change(UserId("ada"), number, AT, one) for number, one in enumerate(_happenings(), start=1)]
    found = []
    for change in changes:
        message = _to_properties(change)
        found.append(
            {
                "routing_key": change.type,
                "body": encode_cloud_event(change, SOURCE).decode(),
                "content_type": message.content_type,
                "delivery_mode": message.delivery_mode,
                "message_id": message.message_id,
                "timestamp": str(message.timestamp),
                "message_type": message.message_type,
            }
        )
    return {"exchange": EXCHANGE, "content_type": CONTENT_TYPE, "source": SOURCE, "events": found}


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI document without prose."""
    return plain(yaml.safe_load(DOCUMENT.read_text("utf-8")))
