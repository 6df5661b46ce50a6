"""Access of a command to one connection: in the store, or over the API of the service that has the SQLite file open."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import rich_click as click

from bg_ingest.commands.context import exit_failure, exit_usage, open_context, parse_user, read_settings

if TYPE_CHECKING:
    import httpx

    from bg_ingest.domain.ids import ConnectionId
    from bg_ingest.domain.verification import Verification
    from bg_ingest.domain.windows import Window
    from bg_ingest.services import Services
    from bg_ingest.settings import Settings

Answer = TypeVar("Answer")
ConnectionTarget: TypeAlias = "StoreTarget | ServiceTarget"

MAX_COMPARE_WINDOW = timedelta(days=30)
"""Longest window of one comparison."""

provider_option = click.option("--provider", help="Provider of the connection; required if the user has several.")
from_option = click.option("--from", "start", metavar="TIME", help="A date (UTC), or RFC 3339 with an offset.")
to_option = click.option("--to", "end", metavar="TIME", help="Same form as --from, exclusive. Default: now.")
key_option = click.option(
    "--api-key", envvar="BG_INGEST_API_KEY", help="For a service that requires one; safer in BG_INGEST_API_KEY."
)


def run_on_connection(
    user: str, provider: str | None, api_key: str | None, command: Callable[[ConnectionTarget], Awaitable[Answer]]
) -> Answer:
    """Run a command on the store that the settings select, or by the API of the service that has its SQLite file open.

    An IngestError ends the command with its text.
    """
    import anyio

    from bg_ingest.domain.ids import ConnectionId
    from bg_ingest.errors import IngestError, StoreLocked, first_error
    from bg_ingest.settings import SettingsError

    user_id, settings = parse_user(user), read_settings()

    async def over_store() -> Answer:
        async with open_context(settings) as services:
            statuses = await services.connections.list_statuses(user_id)
            providers = [status.connection.id.provider for status in statuses]
            connection = ConnectionId(user_id, _choose_provider(provider, providers))
            return await command(StoreTarget(services, settings, connection))

    async def over_service() -> Answer:
        async with _open_client(settings, api_key) as http:
            statuses = await _request(http, "GET", f"/api/users/{user_id}/connections")
            connection = ConnectionId(user_id, _choose_provider(provider, [status["provider"] for status in statuses]))
            return await command(ServiceTarget(http, connection))

    try:
        try:
            return anyio.run(over_store)
        except* StoreLocked:
            pass
        return anyio.run(over_service)
    except* SettingsError as errors:
        exit_usage(str(first_error(errors)))
    except* IngestError as errors:
        exit_failure(str(first_error(errors)))
    raise AssertionError("both handlers end the command")


class StoreTarget:
    """Works on the store.

    `service_may_run` is true if a service may read a requested window while this command runs. With SQLite none can,
    because this command has the file open.
    """

    def __init__(self, services: "Services", settings: "Settings", connection: "ConnectionId") -> None:
        self.service_may_run = settings.store != "sqlite"
        self._services = services
        self._id = connection

    async def remaining_backfill(self) -> "Window | None":
        return (await self._services.connections.status(self._id)).connection.backfill

    async def backfill(self, start: datetime | None, end: datetime | None) -> "Window":
        return await self._services.connections.request_backfill(self._id, start, end)

    async def verify(self, window: "Window", *, values: bool) -> "Verification | None":  # noqa: ARG002 - the report leaves values out if necessary
        """Compare at most ``MAX_COMPARE_WINDOW`` with the provider."""
        return await self._services.verifier.verify(self._id, window)


class ServiceTarget:
    """Works over the HTTP API of the service on this machine."""

    service_may_run = True

    def __init__(self, http: "httpx.AsyncClient", connection: "ConnectionId") -> None:
        self._http = http
        self._path = f"/api/users/{connection.user}/connections/{connection.provider}"

    async def remaining_backfill(self) -> "Window | None":
        remaining = (await _request(self._http, "GET", self._path))["backfill_left"]
        return _parse_window(remaining) if remaining else None

    async def backfill(self, start: datetime | None, end: datetime | None) -> "Window":
        times = {"from": start, "to": end}
        body = {name: at.isoformat() for name, at in times.items() if at}
        return _parse_window(await _request(self._http, "POST", f"{self._path}/backfill", body))

    async def verify(self, window: "Window", *, values: bool) -> "Verification | None":
        import msgspec

        from bg_ingest.domain.verification import Difference, Verification

        body = {"from": window.start.isoformat(), "to": window.end.isoformat(), "values": values}
        report = await _request(self._http, "POST", f"{self._path}/verify", body)
        if report["from"] is None:
            return None
        differences = msgspec.convert(report["differences"], tuple[Difference, ...])
        return Verification(_parse_window(report), report["compared"], report["unreadable"], differences)


async def _request(http: "httpx.AsyncClient", method: str, path: str, body: dict[str, Any] | None = None) -> Any:  # noqa: ANN401 - JSON
    import httpx

    from bg_ingest.errors import IngestError

    try:
        response = await http.request(method, path, json=body)
        content = response.json()
    except (httpx.HTTPError, ValueError):
        sentence = (
            f"The store is in use, but no service answers at {http.base_url}: "
            "set its HOST and PORT for this command too."
        )
        raise IngestError(sentence) from None
    if response.is_error:
        raise IngestError(f"The running service refuses: {content.get('detail', response.status_code)}")
    return content


def _choose_provider(provider: str | None, connected: list[str]) -> str:
    if provider is None and len(connected) != 1:
        exit_usage(f"This user is connected to {', '.join(sorted(connected))}: choose one with --provider.")
    return provider or connected[0]


def parse_instant(name: str, text: str | None) -> datetime | None:
    """Parse an ISO 8601 date (UTC) or time with an offset; anything else ends the command."""
    if not text:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        exit_usage(f"{name} is not a time: write it like 2025-04-26T14:30:00Z, or 2025-04-26 (UTC).")
    if instant.tzinfo is None and len(text) > len("2025-04-26"):
        exit_usage(f"{name} is ambiguous without an offset: write it like 2025-04-26T14:30:00Z.")
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)


def _open_client(settings: "Settings", api_key: str | None) -> "httpx.AsyncClient":
    import httpx

    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    url = f"http://{settings.own_host}:{settings.port}"
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=150, trust_env=False)


def _parse_window(times: dict[str, Any]) -> "Window":
    from bg_ingest.domain.windows import Window

    return Window(datetime.fromisoformat(times["from"]), datetime.fromisoformat(times["to"]))
