"""Stored bytes of the golden pages: packed segments, and grants sealed with a fixed key and fixed nonces."""

import json
import os
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest

from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.domain.grants import Grant, Secret
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.readings import StoredReading
from bg_ingest.domain.segment_codec import pack
from bg_ingest.domain.segments import segment_start
from bg_ingest.providers.dexcom.oauth import Tokens
from bg_ingest.services.connections.grant_storage import GrantSealer
from bg_ingest.services.polling.quarantine import hash_record, record_seal_data
from tests.harness.dexcom_answers import GOLDEN, decode_page
from tests.harness.reading_strategies import glucose_curve

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def segments() -> dict[str, Any]:
    """Return the packed readings of each golden page, and of a simulated week."""
    found: dict[str, Any] = {}
    for path in sorted(GOLDEN.glob("egvs-*.json")):
        readings = decode_page(path.read_bytes(), NOW).readings
        unique = {reading.identity: reading for reading in readings}
        stored = [
            StoredReading(reading, NOW + timedelta(milliseconds=number // 3), 1 + number // 3)
            for number, reading in enumerate(sorted(unique.values(), key=lambda reading: reading.measured_at))
        ]
        revised = [StoredReading(one.reading, NOW + timedelta(hours=1), 99, (one.version,)) for one in stored[:2]]
        found[path.name] = {"first": pack(stored).hex(), "revised": pack([*revised, *stored[2:]]).hex()}
    week = [StoredReading(reading, NOW, 1) for reading in glucose_curve(1, 5, 7)]
    starts = sorted({segment_start(one.reading.measured_at) for one in week})
    for start in starts:
        packed = pack([one for one in week if segment_start(one.reading.measured_at) == start])
        found[f"simulated {start.isoformat()}"] = {"bytes": len(packed), "sha256": sha256(packed).hexdigest()}
    return found


def sealed(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return a sealed grant of the golden token answer and a sealed record, and what they are bound to."""
    monkeypatch.setattr(os, "urandom", lambda size: bytes(range(size)))
    answer = json.loads((GOLDEN / "token.json").read_bytes())
    pair = Tokens(
        Secret(answer["access_token"]), Secret(answer["refresh_token"]), NOW + timedelta(seconds=answer["expires_in"])
    ).to_credentials()
    keys = AesGcmSealer([bytes(range(32)), bytes(32)])
    grant = Grant(id=ConnectionId(UserId("ada"), "dexcom"), generation="first", version=1, sealed=b"", refreshed_at=NOW)
    table = GrantSealer(keys, "test")
    held = table.seal(grant, pair)
    assert table.open(held) == pair.content
    digest = hash_record(b"a record")
    bound = record_seal_data("test", UserId("ada"), digest)
    return {
        "grant": held.sealed.hex(),
        "grant is bound to": grant.associated_data("test").decode(),
        "record": keys.seal(b"a record", bound).hex(),
        "record is bound to": bound.hex(),
        "digest of the record": digest.hex(),
    }
