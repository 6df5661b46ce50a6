"""A page with broken records: the others are stored, the broken ones are quarantined once, the watermark passes."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from bg_ingest.domain.polling import Outcome
from bg_ingest.providers.dexcom.wire import decode_envelope
from tests.fakes import simulated_provider
from tests.harness.connected_user import ADA, ConnectedUser
from tests.harness.service import START
from tests.harness.webhook_sender import envelope, record
from tests.unit.providers.test_json_records import BROKEN


@pytest.fixture
def break_pages(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[bytes], bytes]], None]:
    """Return a function that sets a change of every page that the provider answers."""

    def set_change(change: Callable[[bytes], bytes]) -> None:
        monkeypatch.setattr(simulated_provider, "decode_envelope", lambda content: decode_envelope(change(content)))

    return set_change


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_f4_a_poll_passes_a_broken_record(
    broken: bytes, ada: ConnectedUser, break_pages: Callable[[Callable[[bytes], bytes]], None]
) -> None:
    def add_broken(content: bytes) -> bytes:
        return content.replace(b'"records":[', b'"records":[' + broken + b",", 1)

    break_pages(add_broken)
    report = await ada.poll_when_due(await ada.poll_until_idle(await ada.poll()))
    assert (report.result.outcome, report.result.quarantined) == (Outcome.READ, 1)
    connection = await ada.connection()
    assert connection.watermark == connection.newest_reading_at
    report = await ada.poll_when_due(await ada.poll_until_idle(report))
    assert (report.result.outcome, report.result.quarantined) == (Outcome.READ, 0)
    later = (await ada.connection()).watermark
    assert later is not None
    assert connection.watermark is not None
    assert later > connection.watermark


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_f4_a_webhook_stores_the_other_records(broken: bytes, ada: ConnectedUser) -> None:
    account = (await ada.connection()).provider_account
    times = [START - timedelta(seconds=seconds) for seconds in (7, 11)]
    content = envelope(account, [record(times[0]), "HERE", record(times[1])]).replace(b'"HERE"', broken)
    answer = await ada.service.push(ADA.user, content, "msg_1")
    assert (answer.status_code, answer.json()) == (
        202,
        {"stored": 2, "duplicates": 0, "revised": 0, "quarantined": 1},
    )
