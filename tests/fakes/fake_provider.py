"""The port Provider without a network: readings and failures are set by the test."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import anyio
import msgspec

from bg_ingest.domain.grants import Credentials, Renewal, SecretBytes
from bg_ingest.domain.readings import Reading, Unreadable
from bg_ingest.domain.windows import Window
from bg_ingest.errors import GrantRejected, ProviderMisbehaved
from bg_ingest.ports import AccountData, Answers, Capabilities, Clock, ConnectStep, Done, Page, Priority, Redirect
from tests.fakes.clock import NOON, SetClock

LIFETIME = timedelta(hours=2)


class FakeCall(NamedTuple):
    """Call that was made, with its window and priority where it has them."""

    name: str
    region: str
    window: Window | None = None
    priority: Priority | None = None


class FakeContent(msgspec.Struct, frozen=True):
    """Content of the credentials: the number of the renewal that returned them, and their end."""

    number: int
    expires_at: datetime | None


class FakeProvider:
    """One person's readings in two regions. Credentials live two hours; those without a renewal live for ever."""

    name = "acme"

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        renewal: Renewal = Renewal.SINGLE_USE,
        shown: Sequence[Reading] = (),
        **capabilities: Any,
    ) -> None:
        usual: dict[str, Any] = {
            "regions": ("us", "ou"),
            "default_region": "us",
            "initial_delays": {"us": timedelta(), "ou": timedelta()},
            "cadence": timedelta(minutes=5),
            "longest_window": timedelta(days=30),
            "app": "our-app",
        }
        self.capabilities = Capabilities(**usual | capabilities)
        self.account = AccountData("account-1", Window(NOON - timedelta(days=100), NOON))
        self.shown = list(shown)
        self.calls: list[FakeCall] = []
        self.failure: Exception | None = None
        """Raised by every call."""
        self.failures: dict[str, list[Exception]] = {}
        """Raised by the next calls of a name, in this order."""
        self.delays: dict[str, float] = {}
        """Seconds until a call of a name has its effect."""
        self.steps: list[ConnectStep] = []
        """Steps that the next connects return, in this order; then a redirect or permission."""
        self.exchanged: list[str] = []
        """Region of each exchanged code."""
        self.renewals = 0
        self._clock = clock or SetClock()
        self._renewal = renewal

    def now(self, region: str) -> datetime:
        return self._clock.now()

    async def connect(self, region: str, answers: Answers) -> ConnectStep:
        if self.steps:
            return self.steps.pop(0)
        if not answers.values:
            return Redirect(f"https://{region}.acme.test/login?state={answers.state}")
        await self._call(FakeCall("connect", region))
        self.exchanged.append(region)
        return Done(self.credentials())

    def credentials(self) -> Credentials:
        """Return the newest credentials, as if given now."""
        ends = None if self._renewal is Renewal.NONE else self._clock.now() + LIFETIME
        return self.parse_credentials(SecretBytes(msgspec.json.encode(FakeContent(self.renewals, ends))))

    def parse_credentials(self, content: SecretBytes) -> Credentials:
        return Credentials(content, self._parse(content).expires_at, self._renewal)

    async def renew(self, region: str, credentials: Credentials) -> Credentials:
        """Return the next credentials; spent ones are refused where they are single-use."""
        await self._call(FakeCall("renew", region))
        if self._renewal is Renewal.SINGLE_USE and self._parse(credentials.content).number != self.renewals:
            raise GrantRejected
        self.renewals += 1
        return self.credentials()

    async def available(self, region: str, credentials: Credentials, priority: Priority) -> AccountData:
        await self._call(FakeCall("available", region, None, priority), credentials)
        return self.account

    async def readings(self, region: str, credentials: Credentials, window: Window, priority: Priority) -> Page:
        await self._call(FakeCall("readings", region, window, priority), credentials)
        shown = [reading for reading in self.shown if window.start <= reading.measured_at <= window.end]
        return Page(self.account.provider_account, tuple(sorted(shown, key=lambda reading: reading.measured_at)))

    def translate_record(self, provider_account: str, raw: bytes, received_at: datetime) -> Reading | Unreadable:
        return Unreadable("no_time", raw)

    async def _call(self, call: FakeCall, credentials: Credentials | None = None) -> None:
        self.calls.append(call)
        await anyio.sleep(self.delays.get(call.name, 0))
        if self.failure is not None:
            raise self.failure
        if failures := self.failures.get(call.name):
            raise failures.pop(0)
        ends = self._parse(credentials.content).expires_at if credentials else None
        if ends is not None and self._clock.now() >= ends:
            raise GrantRejected

    def _parse(self, content: SecretBytes) -> FakeContent:
        return msgspec.json.decode(content.reveal(), type=FakeContent)


class FakePushProvider(FakeProvider):
    """Pushes too: the body ``push`` brings all readings that are shown, the body ``poll`` none."""

    async def parse_push(self, content: bytes) -> Page:
        if content not in {b"push", b"poll"}:
            raise ProviderMisbehaved
        return Page(self.account.provider_account, tuple(self.shown) if content == b"push" else ())
