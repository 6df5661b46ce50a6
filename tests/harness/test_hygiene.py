"""Leaks of secrets and glucose values are found."""

import pickle
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest
from pydantic import SecretStr

from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.api.webhook_auth import SignatureVerifier
from bg_ingest.settings import Settings
from bg_ingest.simulator import SimulatorOptions
from bg_ingest.simulator.faults import Failed, Html
from tests.harness.connected_user import ADA, ConnectedUser, open_connected_user
from tests.harness.hygiene import MARKED_GLUCOSE, assert_clean, exception_chain, find_leaks, strip_counts
from tests.harness.webhook_sender import SECRET, envelope, record

TEXT = "a-very-secret-token"

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    "text",
    [
        f"secret={SECRET}",
        SimulatorOptions().client_secret,
        "access.1.2.3." + "0f" * 32,
        "GET /api/oauth/dexcom/callback?code=code.1.0.0.ab&state=" + "x" * 43,
        "bgi_abc_" + "x" * 43,
        "TOKEN_ENCRYPTION_KEYS=kms:" + "AQID" * 40,
        '{"CiphertextBlob": "AQID"}',
        """{'Plaintext': b'xyz'}""",
        "Reading(glucose_mg_dl=110)",
        '{"glucose_mg_dl": 110}',
        f"value {MARKED_GLUCOSE}",
        f"newest {MARKED_GLUCOSE}.0",
    ],
)
def test_a_leak_is_found(text: str) -> None:
    assert find_leaks(text)
    with pytest.raises(AssertionError):
        assert_clean(text, "this")


def test_ordinary_output_is_no_leak() -> None:
    assert not find_leaks(
        '{"action": "poll_failed", "connection": "ada/dexcom", "outcome": "unavailable", "level": "warning"}'
        '{"frames": [{"filename": "any.py", "lineno": 377, "name": "call"}], "seconds": 0.377}'
        'File "any.py", line 377, in call'
    )


def test_a_test_that_logs_or_prints_a_secret_fails(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pytester.makepyfile("""
        import logging, pytest, structlog
        @pytest.mark.parametrize("say", [structlog.get_logger().debug, logging.getLogger('any').debug, print])
        def test_it(say): say("bgi_abc_" + "x" * 43)
        def test_other(): structlog.get_logger().info("nothing")
    """)
    options = ("-p", "tests.harness.hygiene", "-p", "no:randomly", "-p", "no:cacheprovider", "-o", "log_level=DEBUG")
    outcome = pytester.runpytest_subprocess(*options)
    capsys.readouterr()  # output of the inner run is no leak of this test
    outcome.assert_outcomes(failed=3, passed=1)


def test_counters_may_have_any_value() -> None:
    counted = 'polls_total{outcome="read"} 377.0\nseconds_bucket{le="1.0"} 377.0\nseconds_sum 0.377\n'
    assert not find_leaks(strip_counts(counted))
    assert find_leaks(strip_counts(counted + "newest 377.0\n"))
    assert find_leaks(strip_counts('polls_total{value="377"} 1.0\n'))


@pytest.mark.parametrize("holder", [Settings.model_construct(), SignatureVerifier([SECRET])])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_objects_with_secrets_are_not_pickled(holder: object, protocol: int) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(holder, protocol)


def test_keys_and_settings_do_not_show_their_secrets() -> None:
    assert TEXT not in repr(SecretStr(TEXT)) + str(SecretStr(TEXT))
    key = b"0123456789abcdef0123456789abcdef"
    key_ring = AesGcmSealer([key])
    assert key.decode() not in repr(key_ring) + str(key_ring)


@pytest.mark.parametrize("endpoint", ["token", "dataRange", "egvs"])
async def test_the_errors_of_a_provider_are_not_quoted(endpoint: Literal["token", "dataRange", "egvs"]) -> None:
    """The harness searches every exception, log line, answer and metric of this test."""
    async with open_connected_user(over_http=True) as ada:
        for fault in (Failed(endpoint=endpoint), Html(endpoint=endpoint)):
            ada.service.simulator.add_fault(fault)
            await ada.sleep_until_expired()
            report = await ada.poll(requested=True)
            assert report.result.outcome
            assert (await ada.service.connect("ben", "SandboxUser2")).status_code in (200, 502, 503)


async def test_a_marked_value_is_stored_and_shown_nowhere() -> None:
    async with open_connected_user(over_http=True) as ada:
        await push_marked(ada)
        stored = await ada.service.stored_readings(ADA.user)
        assert MARKED_GLUCOSE in [each.reading.glucose_mg_dl for each in stored]


async def push_marked(ada: ConnectedUser) -> None:
    now = ada.service.clock.now()
    account = (await ada.connection()).provider_account
    good = record(now - timedelta(minutes=1), MARKED_GLUCOSE)
    odd = record(now - timedelta(minutes=6), f"{MARKED_GLUCOSE} odd")
    bodies = [envelope(account, [good, odd]), envelope("somebody", [good]), b'{"value":377', b"377"]
    for number, body in enumerate(bodies):
        await ada.service.push(ADA.user, body, f"marked_{number}")


def test_the_whole_chain_of_an_exception_is_searched() -> None:
    outer = RuntimeError("nothing")
    outer.__cause__ = ValueError(SECRET)
    assert [type(each) for each in exception_chain(outer)] == [RuntimeError, ValueError]
