"""Pushed pages: decoded as fetched ones, and also without records."""

import json
from typing import Any

import httpx
import pytest

from bg_ingest.domain.grants import Secret
from bg_ingest.errors import ProviderMisbehaved
from bg_ingest.providers.dexcom import DexcomOptions
from bg_ingest.providers.dexcom.client import Dexcom
from tests.fakes.clock import NOON, SetClock
from tests.harness.dexcom_answers import decode_page
from tests.harness.webhook_sender import envelope, record, records


def dexcom() -> Dexcom:
    options = DexcomOptions(client_id="app", client_secret=Secret("s"), redirect_uri="https://ingest.test/callback")
    http = httpx.AsyncClient()
    return Dexcom(options, http, http, SetClock())


async def test_a_push_is_read_like_an_answer() -> None:
    content = envelope("ab" * 32, [*records(NOON.replace(hour=6), 3), record(NOON, None)])
    pushed = await dexcom().parse_push(content)
    assert pushed == decode_page(content, NOON)
    assert (len(pushed.readings), len(pushed.unreadable)) == (3, 1)


@pytest.mark.parametrize("of", [(), None])
async def test_a_push_may_be_without_records(of: Any) -> None:
    pushed = await dexcom().parse_push(envelope("ab" * 32, of))
    assert (pushed.provider_account, pushed.readings, pushed.unreadable) == ("ab" * 32, (), ())


@pytest.mark.parametrize("changed", [{"userId": None}, {"userId": ""}, {"records": None}, {"recordType": "alert"}])
async def test_what_is_no_envelope_is_misbehaviour(changed: dict[str, Any]) -> None:
    content = json.dumps({"recordType": "egv", "userId": "ab", "records": []} | changed).encode()
    with pytest.raises(ProviderMisbehaved):
        await dexcom().parse_push(content)
