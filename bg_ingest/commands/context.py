"""Settings, use cases, output and exit codes of a command. A command runs no actors."""

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from logging import getLevelNamesMapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import rich_click as click

if TYPE_CHECKING:
    from bg_ingest.domain.changes import Change
    from bg_ingest.domain.ids import ConnectionId, UserId
    from bg_ingest.services import Services
    from bg_ingest.services.access.authenticate import ApiKeys
    from bg_ingest.settings import Settings

Answer = TypeVar("Answer")

FAILED, WRONG_USAGE = 1, 2

STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red"}

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def exit_usage(sentence: str) -> NoReturn:
    """End the command because of its settings or usage. The sentence says what to do."""
    click.echo(sentence, err=True)
    sys.exit(WRONG_USAGE)


def exit_failure(sentence: str) -> NoReturn:
    """End the command because of a failure while it ran. The sentence says what to do."""
    click.echo(sentence, err=True)
    sys.exit(FAILED)


def print_json(value: object) -> None:
    """Print a value as indented JSON; instants are RFC 3339."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table, with colours on a terminal only. Elsewhere lines are not folded, for programs that read them."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=1000)
    console.print(table)


def read_settings(host: str | None = None, port: int | None = None, **defaults: int) -> "Settings":
    """Read the settings. Flags replace values of the environment, so that the server's worker reads them too.

    ``defaults`` apply to settings that are not set. Proxies that no library can use are removed from the environment.
    """
    from bg_ingest.settings import SettingsError, get_settings
    from bg_ingest.settings.environment import clean_proxies

    _set_variables({"HOST": host, "PORT": port})
    try:
        settings = get_settings()
        if unset := {name: value for name, value in defaults.items() if name not in settings.model_fields_set}:
            _set_variables({name.upper(): value for name, value in unset.items()})
            get_settings.cache_clear()
            settings = get_settings()
    except SettingsError as error:
        exit_usage(str(error))
    if host and settings.host != host:
        exit_usage(f"--host should be an address or a name of this machine: {host} is neither.")
    clean_proxies()
    return settings


def _set_variables(values: Mapping[str, str | int | None]) -> None:
    os.environ.update({name: str(value) for name, value in values.items() if value})  # noqa: TID251 - see read_settings


def parse_user(text: str) -> "UserId":
    """Return a user id; invalid text ends the command."""
    from bg_ingest.domain.ids import UserId, is_user_id

    if not is_user_id(text):
        exit_usage("A user id has 1 to 128 characters: letters, digits and ._:@|-. The first is a letter or digit.")
    return UserId(text)


def run_with_services(command: "Callable[[Services], Awaitable[Answer]]") -> Answer:
    """Run a command's coroutine with the use cases, and return its result.

    An IngestError ends the command with its text. If a running service has the store's file open, the text says
    what to do instead.
    """

    async def main() -> Answer:
        async with open_context(read_settings()) as services:
            return await command(services)

    return _run(main)


def run_with_api_keys(command: "Callable[[ApiKeys], Awaitable[Answer]]") -> Answer:
    """Run a command's coroutine with the API keys, like `run_with_services`, also beside a running service."""

    async def main() -> Answer:
        from bg_ingest.wiring.store import open_api_keys

        settings = read_settings()
        log_only_warnings(settings)
        async with open_api_keys(settings) as api_keys:
            return await command(api_keys)

    return _run(main)


def _run(main: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
    import anyio

    from bg_ingest.errors import IngestError, StoreLocked, first_error
    from bg_ingest.settings import SettingsError

    try:
        return anyio.run(main)
    except* SettingsError as errors:
        exit_usage(str(first_error(errors)))
    except* StoreLocked:
        exit_failure(
            f"{read_settings().sqlite_file} is in use: stop the running service first, "
            "or use the API if it has a route for this command."
        )
    except* IngestError as errors:
        exit_failure(str(first_error(errors)))
    raise AssertionError("each handler ends the command")


def log_only_warnings(settings: "Settings") -> None:
    """Write warnings and errors to stderr, and no other lines."""
    from bg_ingest.observability.logs import configure_logging

    configure_logging(max(settings.log_level, "WARNING", key=getLevelNamesMapping().__getitem__), settings.log_format)


@asynccontextmanager
async def open_context(settings: "Settings") -> "AsyncIterator[Services]":
    """Open the store and the providers that the settings select, with the use cases over them and without any actor."""
    from bg_ingest.errors import StoreError
    from bg_ingest.observability.registry import MetricsRegistry
    from bg_ingest.wiring import open_services

    log_only_warnings(settings)
    wakeups = CommandWakeups()
    async with open_services(settings, MetricsRegistry(), wakeups=wakeups) as services:
        try:
            yield services
        finally:
            with suppress(StoreError):  # the owner of the shard finds the changes itself, but later
                for user in wakeups.users:
                    await services.store.inbox.request_publishing(user)


class CommandWakeups:
    """Implements ``Wakeups`` without actors. The owner of the shard finds poll requests itself."""

    def __init__(self) -> None:
        self.users: set[UserId] = set()
        """Users with changes that the owner of their shard has to publish."""

    def wake_poller(self, connection: "ConnectionId") -> None: ...

    def wake_relay(self, changes: "Sequence[Change]") -> None:
        self.users.update(change.user for change in changes)

    def check_relay(self, user: "UserId") -> None:
        self.users.add(user)
