"""Shared parts of items: schema version, instants and packed gaps."""

from datetime import timedelta

import pytest

from bg_ingest.adapters.sqlite import open_table
from bg_ingest.domain.gaps import Cause, Gap
from bg_ingest.domain.segment_codec import to_epoch_ms
from bg_ingest.ports.table import Put
from bg_ingest.store.items import (
    VERSION,
    build_item,
    decode_gap,
    encode_gap,
    from_epoch_ms,
    is_newer,
    optional_epoch_ms,
    optional_instant,
    read_range,
)
from tests.fakes.clock import NOON, SetClock
from tests.harness.sample_values import replaced_fields

OPEN = Gap(after=NOON, before=None, cadence_seconds=300, cause=Cause.THROTTLED, opened_at=NOON + timedelta(hours=2))
HEALED = replaced_fields(OPEN, before=NOON + timedelta(hours=1), healed_at=NOON + timedelta(milliseconds=1_234))


def test_an_item_has_the_version_and_the_attributes_with_a_value() -> None:
    assert build_item(a="text", b=None, c=0, d=False) == {"v": VERSION, "a": "text", "c": 0, "d": False}


def test_only_a_greater_version_is_newer() -> None:
    assert is_newer({"v": VERSION + 1})
    assert not is_newer({"v": VERSION})
    assert not is_newer(None)


def test_instants_are_read_back_to_the_millisecond() -> None:
    instant = NOON + timedelta(milliseconds=1)
    assert from_epoch_ms(to_epoch_ms(instant)) == instant
    assert optional_instant(optional_epoch_ms(instant)) == instant
    assert optional_instant(optional_epoch_ms(None)) is None


@pytest.mark.parametrize("gap", [OPEN, HEALED])
def test_a_gap_is_read_back_also_from_a_longer_array(gap: Gap) -> None:
    assert decode_gap(encode_gap(gap)) == gap
    assert decode_gap([*encode_gap(gap), "later element"]) == gap


async def test_a_range_is_read_over_several_pages() -> None:
    async with open_table(None, SetClock()) as table:
        for number in range(5):
            await table.write(Put(("pk", str(number)), build_item(n=number)))
        rows = await read_range(table, "pk", "1", "3", page=2)
    assert [(key, item["n"]) for key, item in rows] == [(("pk", str(number)), number) for number in (1, 2, 3)]
