"""HTTP client of the simulator, and a clock to set."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import httpx
from litestar import Litestar

from bg_ingest.simulator import Simulator

REDIRECT_URI = "https://app.test/callback"
CLIENT = {"client_id": "simulated-client", "client_secret": "simulated-secret"}


@dataclass
class SetClock:
    """Clock set by tests."""

    at: datetime = datetime(2026, 6, 9, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def pass_time(self, **amount: float) -> None:
        self.at += timedelta(**amount)


def in_process(app: Litestar) -> httpx.ASGITransport:
    """Return the app as a transport. Httpx and Litestar declare the same ASGI types differently."""
    return httpx.ASGITransport(app=cast("Any", app))


class Visitor:
    """One client application with its HTTP client; ``access`` and ``refresh_token`` are its newest tokens."""

    def __init__(self, app: Litestar) -> None:
        self.app = app
        self.http = httpx.AsyncClient(transport=in_process(app), base_url="http://simulator.test")
        self.access = ""
        self.refresh_token = ""

    @property
    def simulator(self) -> Simulator:
        simulator = self.app.state.simulator
        assert isinstance(simulator, Simulator)
        return simulator

    async def login(self, **changed: str) -> httpx.Response:
        asked = {
            "client_id": CLIENT["client_id"],
            "redirect_uri": REDIRECT_URI,
            "response_type": "code",
            "scope": "offline_access",
            "state": "a state & more",
        }
        return await self.http.get("/v3/oauth2/login", params=asked | changed)

    async def code(self, user: str) -> str:
        return answer_of(await self.login(user=user))["code"]

    async def token(self, **form: str) -> httpx.Response:
        return await self.http.post("/v3/oauth2/token", data=CLIENT | form)

    async def exchange(self, code: str, redirect_uri: str = REDIRECT_URI) -> httpx.Response:
        return await self.token(grant_type="authorization_code", code=code, redirect_uri=redirect_uri)

    async def connect(self, user: str = "SandboxUser1") -> None:
        self._keep(await self.exchange(await self.code(user)))

    async def rotate(self) -> httpx.Response:
        """Use the newest refresh token and keep the new pair."""
        answer = await self.token(grant_type="refresh_token", refresh_token=self.refresh_token)
        self._keep(answer)
        return answer

    async def get(self, path: str, **params: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.access}"}
        return await self.http.get(f"/v3/users/self/{path}", params=params, headers=headers)

    async def window(self, start: datetime, end: datetime) -> httpx.Response:
        return await self.get("egvs", startDate=bare(start), endDate=bare(end))

    async def records(self, start: datetime, end: datetime) -> list[dict[str, Any]]:
        answer = await self.window(start, end)
        assert answer.status_code == 200, answer.text
        records: list[dict[str, Any]] = answer.json()["records"]
        return records

    async def add_fault(self, **fault: Any) -> int:
        answer = await self.http.post("/admin/faults", json=fault)
        assert answer.status_code == 201, answer.text
        number: int = answer.json()["number"]
        return number

    def _keep(self, answer: httpx.Response) -> None:
        if answer.status_code == 200:
            pair = answer.json()
            self.access, self.refresh_token = pair["access_token"], pair["refresh_token"]


def answer_of(redirect: httpx.Response) -> Mapping[str, str]:
    """Return the query of a redirect."""
    assert redirect.status_code == 302, redirect.text
    return {name: values[0] for name, values in parse_qs(urlsplit(redirect.headers["location"]).query).items()}


def bare(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S")
