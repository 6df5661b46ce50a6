"""Dexcom as a provider. Each call goes out once; what fails is asked again at the connection's next look."""

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
from bg_ingest.providers.dexcom import translate
from bg_ingest.providers.dexcom.errors import read_body
from bg_ingest.providers.dexcom.oauth import OAuth
from bg_ingest.providers.dexcom.options import REGION_URLS, DexcomOptions
from bg_ingest.providers.dexcom.tokens import parse_tokens
from bg_ingest.providers.dexcom.wire import Envelope, Push, decode_envelope
from bg_ingest.providers.http import translate_transport_errors

MAX_WINDOW = timedelta(days=30)
"""Of the v3 API: a second more is a 400."""

CALLS_PER_HOUR = 60_000
"""Calls of one app that Dexcom answers."""

DATA_DEADLINE = timedelta(minutes=2)
"""For one data call as a whole: half a minute is normal (Tidepool gives up after two minutes, too)."""

CLOCK_MARGIN = timedelta(minutes=5)
"""How far our clock may be ahead of Dexcom's, which refuses windows that end in its future."""

WARM_UPS = {
    **dict.fromkeys(("g5", "g6", "g6+", "g6 pro", "dexcomPro"), timedelta(hours=2)),
    **dict.fromkeys(("g7", "g715day"), timedelta(minutes=30)),
}
"""By transmitterGeneration, from the sensors' manuals."""

RECORDS_PER_YIELD = 500
"""Records translated in one go, about 5 ms: then others have their turn."""


class Dexcom:
    """The API v3. GrantRejected from a data call means that the access token is refused: refresh once, then believe it.

    ``http`` comes from ``http_client()`` and stays the caller's to close.
    """

    name = "dexcom"

    def __init__(self, options: DexcomOptions, http: httpx.AsyncClient, clock: Clock) -> None:
        self.capabilities = Capabilities(
            regions=tuple(REGION_URLS),
            default_region=options.default_region,
            initial_delays=options.initial_delays,
            cadence=timedelta(minutes=5),
            longest_window=MAX_WINDOW,
            app=options.client_id,
            limits=(CallLimit(LimitScope.APP, CALLS_PER_HOUR),),
            warm_ups=WARM_UPS,
        )
        self._options = options
        self._http = http
        self._clock = clock
        self._oauth = OAuth(options, http, clock)

    async def connect(self, region: str, answers: Answers) -> ConnectStep:
        code = answers.values.get("code")
        if code is None:
            return Redirect(self._oauth.authorize_url(region, answers.state))
        return Done((await self._oauth.exchange(region, code)).to_credentials())

    def parse_credentials(self, content: SecretBytes) -> Credentials:
        return parse_tokens(content).to_credentials()

    async def renew(self, region: str, credentials: Credentials) -> Credentials:
        return (await self._oauth.refresh(region, parse_tokens(credentials.content).refresh)).to_credentials()

    async def available(
        self,
        region: str,
        credentials: Credentials,
        priority: Priority,  # noqa: ARG002 - for the budget around this
    ) -> AccountData:
        content = await self._get(region, credentials, "dataRange", {})
        return translate.decode_data_range(content, self._clock.now())

    async def readings(
        self,
        region: str,
        credentials: Credentials,
        window: Window,
        priority: Priority,  # noqa: ARG002 - for the budget around this
    ) -> Page:
        if window.length > MAX_WINDOW:
            raise ValueError("Dexcom answers 30 days at most: split the window")
        content = await self._get(region, credentials, "egvs", self._date_params(region, window))
        return await self._translate(decode_envelope(content))

    async def parse_push(self, content: bytes) -> Page:
        return await self._translate(decode_envelope(content, Push))

    def translate_record(self, provider_account: str, raw: bytes, came_at: datetime) -> Reading | Unreadable:
        (found,) = translate.translate_records(Envelope(user_id=provider_account, records=[msgspec.Raw(raw)]), came_at)
        return found if isinstance(found, Unreadable) else found.reading

    async def _get(self, region: str, credentials: Credentials, resource: str, params: dict[str, str]) -> bytes:
        url = self._options.url(region, f"/v3/users/self/{resource}")
        bearer = {"authorization": f"Bearer {parse_tokens(credentials.content).access.reveal()}"}
        with translate_transport_errors(DATA_DEADLINE):
            response = await self._http.get(url, params=params, headers=bearer)
        return read_body(response, self._clock.now())

    def _date_params(self, region: str, window: Window) -> dict[str, str]:
        """Both ends are inclusive, so whole seconds lose nothing.

        The end keeps away from Dexcom's present, which may be behind ours; nothing is lost as long as that is less
        than the delay until readings are shown.
        """
        margin = min(CLOCK_MARGIN, self.capabilities.initial_delays[region])
        end = min(window.end, self._clock.now() - margin)
        start = min(window.start, end - timedelta(seconds=1))
        return {"startDate": _format_date(start), "endDate": _format_date(end)}

    async def _translate(self, page: Envelope) -> Page:
        now = self._clock.now()
        found: list[translate.Candidate | Unreadable] = []
        for each in translate.translate_records(page, now):
            found.append(each)
            if len(found) % RECORDS_PER_YIELD == 0:
                await anyio.lowlevel.checkpoint()
        return translate.build_page(page.user_id, found)


def _format_date(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S")
