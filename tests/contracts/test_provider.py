"""Contract of the port ``Provider``, for every entry of ``REGISTRY`` with the sample answers of its golden folder.

``tests/golden/<provider>/contract.json`` holds the settings, the answers of the person who connects, the secrets in
them, the samples of each call, the field of a page that lists its records, and refusals with their errors.
"""

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from bg_ingest import errors
from bg_ingest.domain.grants import Credentials, Renewal
from bg_ingest.domain.readings import Flag, Reading, Unreadable
from bg_ingest.domain.windows import Window
from bg_ingest.errors import ProviderError
from bg_ingest.ports import Answers, Done, OAuthCode, Page, Priority, Provider, PushProvider, Redirect
from bg_ingest.providers import REGISTRY
from bg_ingest.providers.http_client import http_client
from tests.fakes.clock import NOON, SetClock
from tests.fakes.fake_provider import FakeProvider, FakePushProvider

GOLDEN = Path(__file__).parents[1] / "golden"
NETWORK_FAILURES = (httpx.ConnectError(""), httpx.ReadTimeout(""), httpx.RemoteProtocolError(""))
BAD_RECORDS: list[Any] = [None, True, 7, "text", [], {}, {"value": {}}, [[[[]]]], {"systemTime": "2025-99-99"}]


class Refusal(msgspec.Struct, frozen=True):
    status: int
    body: Any
    error: str


class Contract(msgspec.Struct, frozen=True):
    """Content of ``contract.json``; samples are glob patterns of its folder."""

    settings: dict[str, Any]
    answers: dict[str, str]
    secrets: list[str]
    samples: dict[str, list[str]]
    records: str
    refusals: dict[str, list[Refusal]]


class Case:
    """A provider of the registry whose next answer is set by the test, and the requests that it made."""

    def __init__(self, name: str) -> None:
        self.folder = GOLDEN / name
        self.contract = msgspec.json.decode((self.folder / "contract.json").read_bytes(), type=Contract)
        self.requests: list[httpx.Request] = []
        self.answer: Callable[[], httpx.Response] = lambda: httpx.Response(500)
        self.clock = SetClock()
        settings = REGISTRY[name].model_validate(self.contract.settings)
        http = http_client(httpx.MockTransport(self._take))
        provider = settings.build_provider(http, http, self.clock)
        assert provider is not None, "the settings of the contract enable the provider"
        self.provider = provider
        self.region = provider.capabilities.default_region

    def samples(self, call: str) -> list[bytes]:
        names = [path for pattern in self.contract.samples[call] for path in sorted(self.folder.glob(pattern))]
        assert names
        return [path.read_bytes() for path in names]

    def give(self, content: bytes, status: int = 200) -> None:
        self.answer = lambda: httpx.Response(status, content=content)

    async def credentials(self) -> Credentials:
        self.give(self.samples("connect")[0])
        step = await self.provider.connect(self.region, Answers("a-state", self.contract.answers))
        assert isinstance(step, Done)
        self.requests.clear()
        return step.credentials

    async def page(self, content: bytes) -> Page:
        page: Page = await self.call("readings", await self.credentials(), then=content)
        return page

    async def call(self, name: str, credentials: Credentials, *, then: bytes | None = None) -> Any:
        """Make the call of this name."""
        if then is not None:
            self.give(then)
        calls: Mapping[str, Callable[[], Any]] = {
            "connect": lambda: self.provider.connect(self.region, Answers("a-state", self.contract.answers)),
            "renew": lambda: self.provider.renew(self.region, credentials),
            "available": lambda: self.provider.available(self.region, credentials, Priority.LIVE),
            "readings": lambda: self.provider.readings(self.region, credentials, self.window(), Priority.LIVE),
        }
        return await calls[name]()

    def window(self, age: timedelta = timedelta(0)) -> Window:
        """Return a window that ended the given time ago."""
        length = min(self.provider.capabilities.longest_window, timedelta(hours=6))
        return Window(NOON - age - length, NOON - age)

    def _take(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.answer()


@pytest.fixture(params=REGISTRY)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


def calls_of(case: Case) -> list[str]:
    """Return the calls that this provider makes."""
    return [call for call in ("connect", "renew", "available", "readings") if call in case.contract.samples]


async def test_every_sample_translates(case: Case) -> None:
    low, high = case.provider.capabilities.value_range
    accounts = set()
    for content in case.samples("readings"):
        page = await case.page(content)
        assert page.readings
        accounts.add(page.provider_account)
        instants = [reading.measured_at for reading in page.readings]
        assert instants == sorted(instants)
        for reading in page.readings:
            assert low - 1 <= reading.glucose_mg_dl <= high + 1
            assert (reading.flag is Flag.OK) == (low <= reading.glucose_mg_dl <= high)
            assert reading.device.provider == case.provider.name
    for content in case.samples("available"):
        account = await case.call("available", await case.credentials(), then=content)
        assert account.provider_account in accounts


async def test_bad_records_never_stop_a_page(case: Case) -> None:
    for content in case.samples("readings"):
        page = await case.page(content)
        body = json.loads(content)
        for number, bad in enumerate(BAD_RECORDS):
            body[case.contract.records].insert(number * 2, bad)
        spoilt = await case.page(json.dumps(body).encode())
        assert spoilt.readings == page.readings
        assert len(spoilt.unreadable) == len(page.unreadable) + len(BAD_RECORDS)


async def test_a_quarantined_record_is_translated_alone_and_never_raises(case: Case) -> None:
    for raw in [b"", b"\xff", b"{", *(json.dumps(bad).encode() for bad in BAD_RECORDS)]:
        assert isinstance(case.provider.translate_record("account", raw, NOON), Unreadable)
    for content in case.samples("readings"):
        page = await case.page(content)
        records = json.loads(content)[case.contract.records]
        alone = [
            case.provider.translate_record(page.provider_account, json.dumps(record).encode(), NOON)
            for record in records
        ]
        translated = {found.identity for found in alone if isinstance(found, Reading)}
        assert translated == {reading.identity for reading in page.readings}


async def test_identities_are_unique_and_stable(case: Case) -> None:
    for content in case.samples("readings"):
        identities = [reading.identity for reading in (await case.page(content)).readings]
        assert len(set(identities)) == len(identities)
        case.clock.advance(timedelta(days=1))
        body = json.loads(content)
        body[case.contract.records].reverse()
        again = await case.page(json.dumps(body).encode())
        assert [reading.identity for reading in again.readings] == identities


async def test_a_connect_begins_without_a_call_and_carries_its_state(case: Case) -> None:
    step = await case.provider.connect(case.region, Answers("a-state"))
    assert not case.requests
    if isinstance(case.provider.capabilities.auth, OAuthCode):
        assert isinstance(step, Redirect)
        assert "a-state" in step.url


async def test_credentials_come_back_from_their_content(case: Case) -> None:
    credentials = await case.credentials()
    assert case.provider.parse_credentials(credentials.content) == credentials
    assert not case.requests
    if credentials.renewal is Renewal.NONE:
        return
    renewed = await case.call("renew", credentials, then=case.samples("renew")[0])
    assert renewed.renewal is credentials.renewal
    assert case.provider.parse_credentials(renewed.content) == renewed


async def test_a_call_is_one_request_with_any_result(case: Case) -> None:
    credentials = await case.credentials()
    for call in calls_of(case):
        for sample in case.samples(call):
            case.requests.clear()
            await case.call(call, credentials, then=sample)
            assert len(case.requests) == 1
        for refusal in case.contract.refusals[call]:
            case.requests.clear()
            case.give(encode(refusal), refusal.status)
            with pytest.raises(ProviderError):
                await case.call(call, credentials)
            assert len(case.requests) == 1


def encode(refusal: Refusal) -> bytes:
    return b"" if refusal.body is None else json.dumps(refusal.body).encode()


async def test_each_refusal_is_its_own_error(case: Case) -> None:
    credentials = await case.credentials()
    kinds = {"GrantRejected", "ProviderForbidden", "ProviderThrottled", "ProviderUnavailable", "ProviderMisbehaved"}
    for call in calls_of(case):
        assert {refusal.error for refusal in case.contract.refusals[call]} >= kinds
        for refusal in case.contract.refusals[call]:
            case.give(encode(refusal), refusal.status)
            with pytest.raises(ProviderError) as raised:
                await case.call(call, credentials)
            assert type(raised.value) is getattr(errors, refusal.error), (call, refusal)


async def test_no_answer_is_unavailable(case: Case) -> None:
    credentials = await case.credentials()
    for call in calls_of(case):
        for failure in NETWORK_FAILURES:

            def fail(failure: Exception = failure) -> httpx.Response:
                raise failure

            case.answer = fail
            with pytest.raises(errors.ProviderUnavailable):
                await case.call(call, credentials)


async def test_no_text_holds_a_secret(
    case: Case, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(0)
    credentials = await case.credentials()
    shown: list[object] = [credentials, case.provider, case.provider.capabilities, vars(case.provider)]
    for call in calls_of(case):
        shown.append(await case.call(call, credentials, then=case.samples(call)[0]))
        for refusal in case.contract.refusals[call]:
            case.give(encode(refusal), refusal.status)
            with pytest.raises(ProviderError) as raised:
                await case.call(call, credentials)
            error = raised.value
            shown += [error, error.args, error.__cause__, None if error.__suppress_context__ else error.__context__]
    output = capsys.readouterr()
    text = " ".join([*(f"{one!s} {one!r}" for one in shown), caplog.text, output.out, output.err])
    assert not [secret for secret in case.contract.secrets if secret in text]


async def test_nothing_is_requested_beyond_the_history(case: Case) -> None:
    credentials = await case.credentials()
    history = case.provider.capabilities.history
    case.give(case.samples("readings")[0])
    window = case.window(history or timedelta(days=365))
    page = await case.provider.readings(case.region, credentials, window, Priority.BACKFILL)
    assert len(case.requests) == (1 if history is None else 0)
    assert history is None or not page.readings


async def test_a_longer_window_than_the_longest_is_never_sent(case: Case) -> None:
    credentials = await case.credentials()
    if not case.provider.capabilities.windowed:
        return
    longest = case.provider.capabilities.longest_window
    window = Window(NOON - longest - timedelta(seconds=1), NOON)
    with pytest.raises(ValueError, match="split"):
        await case.provider.readings(case.region, credentials, window, Priority.BACKFILL)
    assert not case.requests


def test_capabilities_state_a_limit_and_the_name_is_that_of_the_registry(case: Case) -> None:
    assert case.provider.capabilities.limits
    assert case.provider.name in REGISTRY
    assert all(name.startswith(f"{case.provider.name}_") for name in REGISTRY[case.provider.name].model_fields)


@pytest.mark.parametrize(
    "invalid",
    [
        {"default_region": "moon"},
        {"initial_delays": {"us": timedelta(0)}},
        {"initial_delays": {"us": timedelta(0), "ou": timedelta(seconds=-1)}},
        {"cadence": timedelta(0)},
        {"longest_window": timedelta(0)},
        {"history": timedelta(0)},
        {"value_range": (400, 40)},
    ],
)
def test_capabilities_that_contradict_themselves_are_refused(invalid: dict[str, Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any text matches
        FakeProvider(**invalid)


def test_a_provider_that_pushes_is_known_by_its_method() -> None:
    fake: Provider = FakeProvider()
    assert not isinstance(fake, PushProvider)
    assert isinstance(FakePushProvider(), PushProvider)
