"""Provider with fixed answers, or the failure set by a test."""

from datetime import datetime, timedelta

from bg_ingest.domain.grants import Credentials, Secret
from bg_ingest.domain.readings import Reading, Unreadable
from bg_ingest.domain.windows import Window
from bg_ingest.ports import AccountData, Capabilities, Page, Priority
from tests.fakes.clock import NOON


class AcmeProvider:
    """Readings of one person; two regions."""

    name = "acme"
    capabilities = Capabilities(
        regions={"us": timedelta(), "ou": timedelta()},
        default_region="us",
        cadence=timedelta(minutes=5),
        longest_window=timedelta(days=30),
        app="our-app",
    )

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.exchanged: list[str] = []
        """Region of each exchanged code."""

    def authorize_url(self, region: str, state: str) -> str:
        return f"https://{region}.acme.test/login?state={state}"

    async def exchange(self, region: str, code: str) -> Credentials:
        if self.failure is not None:
            raise self.failure
        self.exchanged.append(region)
        return Credentials(Secret("access"), Secret("refresh"), NOON + timedelta(hours=2))

    async def refresh(self, region: str, credentials: Credentials) -> Credentials:
        return await self.exchange(region, "")

    async def available(self, region: str, credentials: Credentials, priority: Priority) -> AccountData:
        return AccountData("account-1", Window(NOON - timedelta(days=100), NOON))

    async def readings(self, region: str, credentials: Credentials, window: Window, priority: Priority) -> Page:
        return Page("account-1", ())

    def translate_record(self, provider_account: str, raw: bytes, came_at: datetime) -> Reading | Unreadable:
        return Unreadable("no_time", raw)

    async def parse_push(self, content: bytes) -> Page:
        return Page("account-1", ())
