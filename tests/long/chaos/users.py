"""Simulated users: they connect by HTTP alone, and their connections are read by HTTP."""

from contextlib import suppress
from ssl import SSLContext
from typing import Any

import httpx
import msgspec

from tests.harness.web import NO_CERTIFICATES, web
from tests.long.chaos.processes import Process
from tests.long.chaos.store_dump import PROVIDER


class SimulatedUser(msgspec.Struct, frozen=True):
    """Our user id, and the user's login on the simulator's page."""

    user: str
    login: str


def make_users(count: int) -> list[SimulatedUser]:
    return [SimulatedUser(f"person-{number:02}", f"SandboxUser{number}") for number in range(1, count + 1)]


def connect(service: Process, person: SimulatedUser, trusted: SSLContext = NO_CERTIFICATES, key: str = "") -> bool:
    """Go through the whole OAuth flow like a browser; False when the service or the flow failed on the way."""
    with (
        httpx.Client(timeout=30, verify=trusted, follow_redirects=True) as browser,
        suppress(httpx.TransportError),
    ):
        begun = browser.post(_path(service, person), headers={"Authorization": f"Bearer {key}"} if key else {})
        if not begun.is_success:
            return False
        login = httpx.URL(begun.json()["authorize_url"]).copy_merge_params({"user": person.login})
        return browser.get(login).is_success
    return False


def status(service: Process, person: SimulatedUser) -> dict[str, Any]:
    """Return the API's view of the connection, empty when there is none."""
    shown = web.get(_path(service, person))
    found: dict[str, Any] = shown.json() if shown.is_success else {}
    return found


def poll_now(service: Process, person: SimulatedUser) -> None:
    web.post(f"{_path(service, person)}/poll").raise_for_status()


def _path(service: Process, person: SimulatedUser) -> str:
    return f"{service.url}/api/users/{person.user}/connections/{PROVIDER}"
