"""Dexcom as a provider. A failed call is repeated by the connection's next poll."""

from datetime import datetime, timedelta

import anyio.lowlevel
import httpx
import msgspec

from bg_ingest.domain.grants import Credentials, SecretBytes
from bg_ingest.domain.readings import Reading, Unreadable
from bg_ingest.domain.windows import Window
from bg_ingest.ports import (
    AccountData,
    Answers,
    CallLimit,
    Capabilities,
    Clock,
    ConnectStep,
    Done,
    LimitScope,
    Page,
    Priority,
    Redirect,
)
from bg_ingest.providers.dexcom import REGION_URLS, SANDBOX, DexcomOptions, translate
from bg_ingest.providers.dexcom.oauth import OAuth, parse_tokens
from bg_ingest.providers.dexcom.page import PageBuilder
from bg_ingest.providers.dexcom.wire import Envelope, Push, decode_envelope, read_body
from bg_ingest.providers.http import DataClient, ProviderClock, translate_transport_errors

MAX_WINDOW = timedelta(days=30)
"""Longest window of the v3 API, which answers a longer one with status 400."""

CALLS_PER_HOUR = 60_000
"""Calls of one app that Dexcom answers."""

DATA_DEADLINE = timedelta(minutes=2)
"""Limit of one data call as a whole. Half a minute is normal (Tidepool also gives up after two minutes)."""

WARM_UPS = {
    **dict.fromkeys(("g5", "g6", "g6+", "g6 pro", "dexcomPro"), timedelta(hours=2)),
    **dict.fromkeys(("g7", "g715day"), timedelta(minutes=30)),
}
"""Warm-up times by transmitterGeneration, from the sensors' manuals."""

RECORDS_PER_YIELD = 250
"""Records translated without yielding to other tasks, about 3 ms, and 13 ms on a busy machine."""


class Dexcom:
    """Client of the API v3. GrantRejected from a data call means that Dexcom refuses the access token.

    ``http`` comes from ``http_client()`` and sends token requests. ``data`` comes from ``open_data_client()``. The
    caller closes both.
    """

    name = "dexcom"

    def __init__(self, options: DexcomOptions, http: httpx.AsyncClient, data: DataClient, clock: Clock) -> None:
        self.capabilities = Capabilities(
            regions=tuple(REGION_URLS),
            default_region=options.default_region,
            initial_delays=options.initial_delays,
            fixed_delay=options.fixed_delay,
            cadence=timedelta(minutes=5),
            longest_window=MAX_WINDOW,
            app=options.client_id,
            closed_regions=frozenset() if options.sandbox_allowed else frozenset({SANDBOX}) - {options.default_region},
            single_host=options.base_url is not None,
            limits=(CallLimit(LimitScope.APP, CALLS_PER_HOUR),),
            warm_ups=WARM_UPS,
        )
        self._options = options
        self._data = data
        self._clock = clock
        self._provider_clock = ProviderClock(clock)
        self._oauth = OAuth(options, http, clock, self._provider_clock)

    def now(self, region: str) -> datetime:
        return self._provider_clock.now(region)

    async def connect(self, region: str, answers: Answers) -> ConnectStep:
        code = answers.values.get("code")
        if code is None:
            return Redirect(self._oauth.authorize_url(region, answers.state))
        return Done((await self._oauth.exchange(region, code)).to_credentials())

    def parse_credentials(self, content: SecretBytes) -> Credentials:
        return parse_tokens(content).to_credentials()

    async def renew(self, region: str, credentials: Credentials) -> Credentials:
        return (await self._oauth.refresh(region, parse_tokens(credentials.content).refresh)).to_credentials()

    async def available(self, region: str, credentials: Credentials, priority: Priority) -> AccountData:  # noqa: ARG002 - used by BudgetedProvider
        content = await self._get(region, credentials, "dataRange", {})
        return translate.decode_data_range(content, self.now(region))

    async def readings(self, region: str, credentials: Credentials, window: Window, priority: Priority) -> Page:  # noqa: ARG002 - used by BudgetedProvider
        if window.length > MAX_WINDOW:
            raise ValueError("Dexcom answers 30 days at most: split the window")
        content = await self._get(region, credentials, "egvs", self._date_params(region, window))
        return await self._translate(decode_envelope(content), self.now(region))

    async def parse_push(self, content: bytes) -> Page:
        return await self._translate(decode_envelope(content, Push), self._clock.now())

    def translate_record(self, provider_account: str, raw: bytes, received_at: datetime) -> Reading | Unreadable:
        page = Envelope(user_id=provider_account, records=[msgspec.Raw(raw)])
        (record,) = translate.translate_records(page, received_at)
        return record if isinstance(record, Unreadable) else record.reading

    async def _get(self, region: str, credentials: Credentials, resource: str, params: dict[str, str]) -> bytes:
        url = self._options.url(region, f"/v3/users/self/{resource}")
        bearer = {"authorization": f"Bearer {parse_tokens(credentials.content).access.reveal()}"}
        sent = self._clock.now()
        with translate_transport_errors(DATA_DEADLINE):
            answer = await self._data.get(url, params=params, headers=bearer)
        self._provider_clock.observe(region, answer.headers, sent)
        return read_body(answer, self.now(region))

    def _date_params(self, region: str, window: Window) -> dict[str, str]:
        """Return the ends of the window in whole seconds. Both are inclusive, so truncation loses no reading.

        The end is at most Dexcom's present, because Dexcom refuses windows that end in its future.
        """
        end = min(window.end, self.now(region))
        start = min(window.start, end - timedelta(seconds=1))
        return {"startDate": _format_date(start), "endDate": _format_date(end)}

    async def _translate(self, page: Envelope, now: datetime) -> Page:
        builder = PageBuilder(page.user_id)
        for number, record in enumerate(translate.translate_records(page, now), start=1):
            builder.add(record)
            if number % RECORDS_PER_YIELD == 0:
                await anyio.lowlevel.checkpoint()
        return builder.build()


def _format_date(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S")
