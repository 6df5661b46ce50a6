"""Pages written by hand from the facts, with the readings that a correct ingest stores."""

import json
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from bg_ingest.domain.readings import Reading
from bg_ingest.ports import Page
from tests.harness.dexcom_answers import GOLDEN, USER, decode_page

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EXPECTED: dict[str, dict[str, Any]] = json.loads((GOLDEN / "expected.json").read_text())


def to_expected(reading: Reading) -> dict[str, Any]:
    return {
        "measured_at": f"{reading.measured_at:%Y-%m-%dT%H:%M:%SZ}",
        "glucose_mg_dl": reading.glucose_mg_dl,
        "flag": reading.flag,
        "utc_offset_seconds": reading.utc_offset_seconds,
    }


def translate_page(content: bytes) -> tuple[Page, dict[str, Any]]:
    found = decode_page(content, NOW)
    quarantined = sorted(json.loads(each.raw)["recordId"] for each in found.unreadable)
    return found, {"stored": [to_expected(each) for each in found.readings], "quarantined": quarantined}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_page_becomes_what_is_expected(name: str) -> None:
    found, ours = translate_page((GOLDEN / name).read_bytes())
    expected = EXPECTED[name]
    assert ours == {"stored": expected["stored"], "quarantined": sorted(expected["quarantined"])}
    assert found.provider_account == USER


@pytest.mark.parametrize("name", EXPECTED)
def test_case_20_the_order_of_a_page_does_not_matter(name: str) -> None:
    content = json.loads((GOLDEN / name).read_text())
    usual, _ = translate_page(json.dumps(content).encode())
    for seed in range(10):
        random.Random(seed).shuffle(content["records"])
        shuffled, _ = translate_page(json.dumps(content).encode())
        assert shuffled.readings == usual.readings
        assert set(shuffled.unreadable) == set(usual.unreadable)


def test_every_page_has_its_expectation() -> None:
    assert {path.name for path in GOLDEN.glob("egvs-*.json")} == set(EXPECTED)
