"""Gaps as stored: a month of them packed in one item, and single ones in changes. Arrays only grow at their end."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from bg_ingest.domain.columns import milliseconds, seconds
from bg_ingest.domain.gaps import Cause, Gap

_encode = msgspec.msgpack.encode
_decode = msgspec.msgpack.decode


def packed_gaps(gaps: tuple[Gap, ...]) -> bytes:
    return _encode([packed_gap(each) for each in gaps])


def gaps_of(packed: bytes) -> tuple[Gap, ...]:
    return tuple(gap_of(each) for each in _decode(packed))


def packed_gap(gap: Gap) -> list[Any]:
    """Return after, before (epoch seconds), cadence, cause, opened and healed (epoch milliseconds)."""
    before = None if gap.before is None else seconds(gap.before)
    healed_at = None if gap.healed_at is None else milliseconds(gap.healed_at)
    return [seconds(gap.after), before, gap.cadence_seconds, gap.cause, milliseconds(gap.opened_at), healed_at]


def gap_of(packed: list[Any]) -> Gap:
    after, before, cadence, cause, opened_at, healed_at, *_ = packed
    return Gap(
        after=datetime.fromtimestamp(after, UTC),
        before=None if before is None else datetime.fromtimestamp(before, UTC),
        cadence_seconds=cadence,
        cause=Cause(cause),
        opened_at=datetime.fromtimestamp(opened_at / 1000, UTC),
        healed_at=None if healed_at is None else datetime.fromtimestamp(healed_at / 1000, UTC),
    )
