"""Provider that answers anything: no crash, no invented reading, and no unambiguous record is skipped."""

import json
from datetime import UTC, datetime
from random import Random

import pytest

from tests.fuzz.decoder import decode_record
from tests.fuzz.mutations import mutate
from tests.fuzz.provider import fuzz
from tests.harness.dexcom_answers import GOLDEN

PAGES_IN_THE_SUITE = 2_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_two_thousand_mutated_pages_do_no_harm() -> None:
    verdict = await fuzz(range(PAGES_IN_THE_SUITE))
    assert verdict.findings[:3] == []
    assert verdict.pages == PAGES_IN_THE_SUITE
    assert min(verdict.outcomes[each] for each in ("read", "nothing_new", "misbehaved")) > 100, "pages are too alike"
    assert min(verdict.stored, verdict.revised, verdict.quarantined) > 300, "pages are too good or too broken"


def test_the_same_seed_makes_the_same_page() -> None:
    assert [mutate(Random(seed)) for seed in range(50)] == [mutate(Random(seed)) for seed in range(50)]


def test_the_decoder_reads_the_golden_pages_as_they_are_meant() -> None:
    expected = json.loads((GOLDEN / "expected.json").read_text())
    for path, golden in expected.items():
        found = [decode_record(each) for each in json.loads((GOLDEN / path).read_text())["records"]]
        stored = {(each["measured_at"], each["glucose_mg_dl"], each["flag"]) for each in golden["stored"]}
        assert stored <= {
            (f"{datetime.fromtimestamp(each.second, UTC):%Y-%m-%dT%H:%M:%SZ}", each.mg_dl, each.flag)
            for each in found
            if each
        }
