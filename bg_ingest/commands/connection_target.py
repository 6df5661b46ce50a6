"""Where a command finds a connection: in the store itself, or at the running service that holds the store's file."""
# ruff: noqa: PLC0415 - help and wrong usage answer at once: what takes time to load is imported where it is used

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import rich_click as click

from bg_ingest.commands.context import open_context, parse_user, read_settings
from bg_ingest.commands.output import exit_failure, exit_usage

if TYPE_CHECKING:
    import httpx

    from bg_ingest.domain.ids import ConnectionId
    from bg_ingest.domain.verification import Verification
    from bg_ingest.domain.windows import Window
    from bg_ingest.services import Services
    from bg_ingest.settings import Settings

Answer = TypeVar("Answer")

MAX_COMPARE_WINDOW = timedelta(days=30)
"""Compared in one call."""

provider_option = click.option("--provider", help="Which of the user's connections; needed where there are several.")
from_option = click.option("--from", "start", metavar="TIME", help="A date (UTC), or RFC 3339 with an offset.")
to_option = click.option("--to", "end", metavar="TIME", help="Likewise; not included. Now, where left out.")
key_option = click.option(
    "--api-key",
    envvar="BG_INGEST_API_KEY",
    help="For a service that asks for one; better in BG_INGEST_API_KEY.",
)


class ConnectionTarget(Protocol):
    """What commands ask about one connection."""

    polls: bool
    """Whether somebody is known to read what is marked."""

    async def remaining_backfill(self) -> "Window | None":
        """Return what is still to be read of the past."""

    async def backfill(self, start: datetime | None, end: datetime | None) -> "Window":
        """Mark a stretch to be read, and return it."""

    async def verify(self, window: "Window", *, values: bool) -> "Verification | None":
        """Compare at most ``MAX_COMPARE_WINDOW`` with the provider."""


def run_on_connection(
    user: str, provider: str | None, api_key: str | None, command: Callable[[ConnectionTarget], Awaitable[Answer]]
) -> Answer:
    """Run a command at the store of the settings, or at the service that has it open; an error of ours ends it."""
    import anyio

    from bg_ingest.domain.ids import ConnectionId
    from bg_ingest.errors import IngestError, StoreLocked, first_error
    from bg_ingest.settings import SettingsError

    user_id, settings = parse_user(user), read_settings()

    async def direct() -> Answer:
        async with open_context(settings) as services:
            known = [each.connection.id.provider for each in await services.connections.list_statuses(user_id)]
            connection = ConnectionId(user_id, _choose_provider(provider, known))
            return await command(StoreTarget(services, settings, connection))

    async def asking() -> Answer:
        async with _open_client(settings, api_key) as http:
            found = await _request(http, "GET", f"/api/users/{user_id}/connections")
            connection = ConnectionId(user_id, _choose_provider(provider, [each["provider"] for each in found]))
            return await command(ServiceTarget(http, connection))

    try:
        try:
            return anyio.run(direct)
        except* StoreLocked:
            pass
        return anyio.run(asking)
    except* SettingsError as wrong:
        exit_usage(str(first_error(wrong)))
    except* IngestError as failed:
        exit_failure(str(first_error(failed)))
    raise AssertionError("one of the two has ended the command")


class StoreTarget:
    """Works on the store. With a file nobody else polls while we have it."""

    def __init__(self, services: "Services", settings: "Settings", connection: "ConnectionId") -> None:
        self.polls = settings.store != "sqlite"
        self._services = services
        self._id = connection

    async def remaining_backfill(self) -> "Window | None":
        return (await self._services.connections.status(self._id)).connection.backfill

    async def backfill(self, start: datetime | None, end: datetime | None) -> "Window":
        return await self._services.backfill_requester.request_backfill(self._id, start, end)

    async def verify(self, window: "Window", *, values: bool) -> "Verification | None":  # noqa: ARG002 - both are at hand
        return await self._services.verifier.verify(self._id, window)


class ServiceTarget:
    """Asks the HTTP API of the service on this machine."""

    polls = True

    def __init__(self, http: "httpx.AsyncClient", connection: "ConnectionId") -> None:
        self._http = http
        self._path = f"/api/users/{connection.user}/connections/{connection.provider}"

    async def remaining_backfill(self) -> "Window | None":
        remaining = (await _request(self._http, "GET", self._path))["backfill_left"]
        return _parse_window(remaining) if remaining else None

    async def backfill(self, start: datetime | None, end: datetime | None) -> "Window":
        named = {"from": start, "to": end}
        body = {name: at.isoformat() for name, at in named.items() if at}
        return _parse_window(await _request(self._http, "POST", f"{self._path}/backfill", body))

    async def verify(self, window: "Window", *, values: bool) -> "Verification | None":
        import msgspec

        from bg_ingest.domain.verification import Difference, Verification

        body = {"from": window.start.isoformat(), "to": window.end.isoformat(), "values": values}
        found = await _request(self._http, "POST", f"{self._path}/verify", body)
        if found["from"] is None:
            return None
        differences = msgspec.convert(found["differences"], tuple[Difference, ...])
        return Verification(_parse_window(found), found["compared"], found["unreadable"], differences)


async def _request(http: "httpx.AsyncClient", method: str, path: str, body: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
    import httpx

    from bg_ingest.errors import IngestError

    try:
        answer = await http.request(method, path, json=body)
        found = answer.json()
    except (httpx.HTTPError, ValueError):
        sentence = f"The store is in use, but no service answers at {http.base_url}: is its HOST or PORT another?"
        raise IngestError(sentence) from None
    if answer.is_error:
        raise IngestError(f"The running service says: {found.get('detail', answer.status_code)}")
    return found


def _choose_provider(provider: str | None, known: list[str]) -> str:
    if provider is None and len(known) != 1:
        exit_usage(f"This user is connected to {', '.join(sorted(known))}: choose one with --provider.")
    return provider or known[0]


def parse_instant(name: str, text: str | None) -> datetime | None:
    """Read a time as the API does; what is none ends the command."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        exit_usage(f"{name} is no time: write it like 2025-04-26T14:30:00Z, or 2025-04-26 (UTC).")
    if found.tzinfo is None and len(text) > len("2025-04-26"):
        exit_usage(f"{name} is ambiguous without an offset: write it like 2025-04-26T14:30:00Z.")
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _open_client(settings: "Settings", api_key: str | None) -> "httpx.AsyncClient":
    import httpx

    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    return httpx.AsyncClient(base_url=f"http://{settings.own_host}:{settings.port}", headers=headers, timeout=150)


def _parse_window(found: dict[str, Any]) -> "Window":
    from bg_ingest.domain.windows import Window

    return Window(datetime.fromisoformat(found["from"]), datetime.fromisoformat(found["to"]))
