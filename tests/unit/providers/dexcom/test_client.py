"""Data calls: requests, and the handling of answers and of missing answers."""

import logging
from contextlib import suppress
from datetime import timedelta
from email.utils import format_datetime

import anyio
import httpx
import msgspec
import pytest

from bg_ingest.domain.windows import Window
from bg_ingest.errors import (
    GrantRejected,
    ProviderBlocked,
    ProviderError,
    ProviderForbidden,
    ProviderMisbehaved,
    ProviderThrottled,
    ProviderUnavailable,
)
from bg_ingest.ports import Page, Priority
from bg_ingest.providers.dexcom import DexcomOptions
from tests.fakes.clock import NOON
from tests.harness.dexcom_answers import (
    ACCESS,
    CREDENTIALS,
    EARLY,
    GOLDEN,
    OPTIONS,
    ScriptedDexcom,
    egvs,
    exchange,
    login_url,
    record,
    scripted_answer,
    token_pair,
)

DAY = timedelta(days=1)
PAST = Window(NOON - 2 * DAY, NOON - DAY)
NO_DELAY = msgspec.structs.replace(OPTIONS, delay=timedelta(0))


async def read(given: ScriptedDexcom, window: Window = PAST, region: str = "us") -> Page:
    return await given.provider.readings(region, CREDENTIALS, window, Priority.LIVE)


def dates(given: ScriptedDexcom) -> tuple[str, str]:
    params = given.requests[-1].url.params
    return params["startDate"], params["endDate"]


async def test_a_window_is_asked_in_bare_utc_with_the_access_token() -> None:
    given = scripted_answer(200, egvs())
    await read(given, Window(NOON - 2 * DAY + timedelta(microseconds=1), NOON - DAY + timedelta(microseconds=999_999)))
    request = given.requests[-1]
    assert request.method == "GET"
    assert request.url.copy_with(query=None) == "https://api.dexcom.com/v3/users/self/egvs"
    assert dates(given) == ("2026-02-28T12:00:00", "2026-03-01T12:00:00")
    assert request.headers["authorization"] == f"Bearer {ACCESS}"


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("us", "api.dexcom.com"),
        ("ou", "api.dexcom.eu"),
        ("jp", "api.dexcom.jp"),
        ("sandbox", "sandbox-api.dexcom.com"),
    ],
)
async def test_a_region_is_a_host(region: str, host: str) -> None:
    given = scripted_answer(200, egvs())
    await read(given, region=region)
    assert given.requests[-1].url.host == host


@pytest.mark.parametrize("region", ["us", "ou", "jp", "sandbox"])
async def test_a_base_url_replaces_every_host_and_may_have_a_path(region: str) -> None:
    options = msgspec.structs.replace(OPTIONS, base_url="http://localhost:5001/simulator/")
    given = ScriptedDexcom(lambda _: httpx.Response(200, content=egvs()), options)
    await read(given, region=region)
    assert given.requests[-1].url.copy_with(query=None) == "http://localhost:5001/simulator/v3/users/self/egvs"


def test_each_region_has_its_delay_unless_one_is_set() -> None:
    hours = {
        name: delay / timedelta(hours=1)
        for name, delay in scripted_answer(200).provider.capabilities.initial_delays.items()
    }
    assert hours == {"us": 1, "ou": 3, "jp": 3, "sandbox": 1}
    assert set(ScriptedDexcom(lambda _: None, NO_DELAY).provider.capabilities.initial_delays.values()) == {timedelta(0)}


def test_a_region_that_is_none_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="us, ou, jp, sandbox"):
        DexcomOptions(
            client_id="a", client_secret=OPTIONS.client_secret, redirect_uri="https://a.test", default_region="eu"
        )


async def test_case_14_a_second_more_than_30_days_is_never_sent() -> None:
    given = scripted_answer(200, egvs())
    window = Window(NOON - 40 * DAY, NOON - 10 * DAY + timedelta(seconds=1))
    with pytest.raises(ValueError, match="30 days"):
        await read(given, window)
    assert not given.requests
    newest = window.newest(given.provider.capabilities.longest_window)
    await read(given, newest)
    await read(given, Window(window.start, newest.start))
    assert len(given.requests) == 2


async def test_case_14_30_days_are_sent_as_they_are_and_a_400_is_our_bug() -> None:
    given = scripted_answer(400, b'{"fault":{"faultstring":"private"}}')
    with pytest.raises(ProviderMisbehaved, match="400") as raised:
        await read(given, Window(NOON - 40 * DAY + timedelta(seconds=0.9), NOON - 10 * DAY + timedelta(seconds=0.9)))
    assert dates(given) == ("2026-01-21T12:00:00", "2026-02-20T12:00:00")
    assert "private" not in str(raised.value)


async def test_both_ends_of_a_window_and_what_is_beyond_stay_in_the_answer() -> None:
    window = Window(EARLY - DAY, EARLY)
    given = scripted_answer(200, egvs(record(), record(systemTime="2026-03-01T06:00:00Z")))
    assert [each.measured_at for each in (await read(given, window)).readings] == [window.start, window.end]


@pytest.mark.parametrize(
    ("ahead", "end"), [(-10, "2026-03-02T11:50:00"), (0, "2026-03-02T12:00:00"), (10, "2026-03-02T12:10:00")]
)
async def test_case_29_f33_a_window_ends_at_the_present_of_dexcom(ahead: int, end: str) -> None:
    stated = format_datetime(NOON + timedelta(minutes=ahead), usegmt=True)
    given = scripted_answer(200, egvs(), date=stated)
    await read(given, Window(NOON - DAY, NOON + DAY))
    assert dates(given)[1] == "2026-03-02T12:00:00", "no answer has shown Dexcom's time yet"
    assert given.provider.now("us") == NOON + timedelta(minutes=ahead)
    assert given.provider.now("ou") == NOON
    await read(given, Window(NOON - DAY, given.provider.now("us")))
    assert dates(given)[1] == end


@pytest.mark.parametrize("status", [200, 400])
async def test_f33_the_token_endpoint_also_shows_the_time_of_dexcom(status: int) -> None:
    stated = format_datetime(NOON - timedelta(minutes=10), usegmt=True)
    given = scripted_answer(status, token_pair(), date=stated)
    with suppress(ProviderError):
        await exchange(given.provider, "us", "a-code")
    assert given.provider.now("us") == NOON - timedelta(minutes=10)


async def test_f33_a_reading_is_in_the_future_only_by_the_clock_of_dexcom() -> None:
    ahead = timedelta(minutes=10)
    measured = (NOON + ahead * 2).isoformat()
    given = scripted_answer(200, egvs(record(systemTime=measured)), date=format_datetime(NOON + ahead, usegmt=True))
    assert len((await read(given)).readings) == 1


async def test_case_29_what_is_shown_at_once_is_asked_at_once() -> None:
    given = ScriptedDexcom(lambda _: httpx.Response(200, content=egvs()), NO_DELAY)
    await read(given, Window(NOON - DAY, NOON + DAY))
    assert dates(given)[1] == "2026-03-02T12:00:00"


async def test_case_29_a_window_of_the_last_seconds_still_ends_after_it_starts() -> None:
    given = scripted_answer(200, egvs(), date=format_datetime(NOON - timedelta(minutes=5), usegmt=True))
    await read(given)
    await read(given, Window(NOON - timedelta(minutes=1), NOON))
    assert dates(given) == ("2026-03-02T11:54:59", "2026-03-02T11:55:00")


async def test_what_is_available_is_asked_without_a_last_sync_time() -> None:
    given = scripted_answer(200, (GOLDEN / "data-range.json").read_bytes())
    found = await given.provider.available("us", CREDENTIALS, Priority.LIVE)
    assert str(given.requests[-1].url) == "https://api.dexcom.com/v3/users/self/dataRange"
    assert found.data_range is not None
    assert (
        f"{found.data_range.start:%c} {found.data_range.end:%c}" == "Wed Jan  1 00:00:00 2025 Sun Jun  1 00:05:01 2025"
    )


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, GrantRejected),
        (403, ProviderBlocked),
        (429, ProviderThrottled),
        *((status, ProviderUnavailable) for status in (500, 502, 503, 504)),
        *((status, ProviderMisbehaved) for status in (302, 400, 404)),
    ],
)
async def test_case_02_38_40_a_refusal_becomes_the_error_of_its_remedy_and_is_not_repeated(
    status: int, error: type[ProviderError]
) -> None:
    given = scripted_answer(status, b"<html>private</html>")
    calls = (read(given), given.provider.available("us", CREDENTIALS, Priority.BACKFILL))
    for number, call in enumerate(calls, 1):
        with pytest.raises(ProviderError) as raised:
            await call
        assert type(raised.value) is error
        assert "private" not in str(raised.value)
        assert len(given.requests) == number


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b'{"errors":[]}', ProviderForbidden),
        (b'\r\n {"fault":{"faultstring":"App not approved"}}', ProviderForbidden),
        (b"", ProviderBlocked),
        (b"Forbidden", ProviderBlocked),
        (b"<!doctype html><title>Attention required</title>", ProviderBlocked),
        (b'"forbidden"', ProviderBlocked),
        (b'{"cut', ProviderBlocked),
        (b'{"a":' + b"[" * 10_000, ProviderBlocked),
    ],
)
async def test_f8_a_403_is_forbidden_only_by_the_providers_own_json(content: bytes, error: type[ProviderError]) -> None:
    with pytest.raises(error):
        await read(scripted_answer(403, content))


async def test_case_36_a_429_says_how_long_to_wait() -> None:
    with pytest.raises(ProviderThrottled) as raised:
        await read(scripted_answer(429, b"", **{"retry-after": "30"}))
    assert raised.value.wait == timedelta(seconds=30)


async def test_case_38_a_connection_that_breaks_is_unavailable_and_not_asked_again() -> None:
    def broken(_: httpx.Request) -> httpx.Response:
        raise httpx.RemoteProtocolError("Server disconnected without sending a response.")

    given = ScriptedDexcom(broken)
    with pytest.raises(ProviderUnavailable):
        await read(given)
    assert len(given.requests) == 1


async def test_case_22_html_and_truncated_pages_are_misbehaviour() -> None:
    for content in (b"<html>", egvs(record())[:-30], b'{"userId":"u"}', b'{"userId":"u","records":null}'):
        with pytest.raises(ProviderMisbehaved):
            await read(scripted_answer(200, content))


async def answer_after(seconds: float) -> httpx.Response:
    await anyio.sleep(seconds)
    return httpx.Response(200, content=egvs(record()))


async def test_case_39_a_slow_answer_is_waited_for() -> None:
    given = ScriptedDexcom(lambda _: answer_after(60))
    assert len((await read(given)).readings) == 1


async def test_case_39_an_answer_that_takes_more_than_two_minutes_is_given_up() -> None:
    with pytest.raises(ProviderUnavailable, match="120 seconds"):
        await read(ScriptedDexcom(lambda _: answer_after(121)))


@pytest.mark.slow
async def test_a_long_page_is_translated_in_parts_between_which_others_run() -> None:
    records = [record(systemTime=(EARLY - timedelta(minutes=5 * slot)).isoformat()) for slot in range(4000)]
    given = scripted_answer(200, egvs(*records))
    steps = 0

    async def others() -> None:
        nonlocal steps
        while True:
            steps += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        await read(scripted_answer(200, egvs()))
        tasks.start_soon(others)
        await anyio.lowlevel.checkpoint()
        await read(scripted_answer(200, egvs()))
        short, steps = steps, 0
        assert len((await read(given)).readings) == 4000
        tasks.cancel_scope.cancel()
    assert steps >= short + 5  # of 8: the order of the waiting calls is random


async def test_no_token_reaches_a_log_of_data_calls(caplog: pytest.LogCaptureFixture) -> None:
    for name in ("httpx", "httpcore"):
        caplog.set_level(logging.DEBUG, logger=name)
    for status in (200, 401, 500):
        with suppress(ProviderError):
            await read(scripted_answer(status, egvs(record())))
    assert "egvs" in caplog.text
    assert ACCESS not in caplog.text


@pytest.mark.parametrize("region", ["us", "ou", "jp", "sandbox"])
async def test_case_13_login_tokens_and_data_of_a_region_are_asked_of_one_host(region: str) -> None:
    given = ScriptedDexcom(
        lambda request: httpx.Response(200, content=token_pair() if request.url.path.endswith("/token") else egvs())
    )
    hosts = {httpx.URL(await login_url(given.provider, region, "state")).host}
    await exchange(given.provider, region, "code")
    await given.provider.renew(region, CREDENTIALS)
    await read(given, region=region)
    hosts |= {request.url.host for request in given.requests}
    assert len(given.requests) == 3
    assert len(hosts) == 1
