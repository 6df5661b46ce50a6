"""The command line. What a command needs is imported inside it: help and wrong usage answer at once."""
# ruff: noqa: PLC0415 - see above

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import rich_click as click

from bg_ingest import __version__

if TYPE_CHECKING:
    from bg_ingest.server import App
    from bg_ingest.settings import Settings
    from bg_ingest.simulator import SimulatorOptions

FAILED, WRONG_USAGE = 1, 2

PORT = click.IntRange(1, 65535)

host_option = click.option("--host", help="Address to listen on, instead of HOST.")
port_option = click.option("--port", type=PORT, help="Port to listen on, instead of PORT.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="bg-ingest")
def main() -> None:
    """Connect continuous glucose monitors: poll, store, tell, answer.

    Settings come from the environment and .env; .env.example explains each of them.

    Exit codes: 0 ok, 1 failure while running, 2 wrong settings or usage.
    """
    # Without a handler, process 1 of a container would not hear it until the server has its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    # `python -m` puts the current directory first, and an app.py or workers/ there would be served for ours.
    sys.path.insert(0, str(Path(__file__).parents[1]))


@main.command()
@host_option
@port_option
@click.option("--reload", is_flag=True, help="Restart on every change of the code (development).")
def run(host: str | None, port: int | None, *, reload: bool) -> None:
    """Serve, poll and tell until stopped.

    SIGTERM or Ctrl-C: takes no more work, finishes what cannot be left, and is gone within 20 seconds.
    """
    settings = _settings(host, port)
    if reload:
        _check_reload(settings)
    _serve(_app, settings.host, settings.port, reload=reload)


@main.command()
@host_option
@port_option
def demo(host: str | None, port: int | None) -> None:
    """Run with a simulated Dexcom and three people connected to it; says what to try."""
    settings = _settings(host, port)
    if not (settings.simulated and settings.anonymous):
        _refuse(
            "The demo has a simulated Dexcom and an open API: unset ENVIRONMENT, DEXCOM_CLIENT_ID and JWT_ISSUER, "
            "or use bg-ingest run."
        )
    from bg_ingest.demo import guiding

    with guiding(settings.host, settings.port):
        _serve(_app, settings.host, settings.port)


@main.command()
@click.option("--port", type=PORT, default=5002, show_default=True, help="Port to listen on, on this machine only.")
@click.option(
    "--replay",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A Clarity CSV export that becomes the readings of one more user, ReplayUser.",
)
@click.option("--zone", default="UTC", show_default=True, help="Time zone of the export's local times.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed, the same users and readings.")
@click.option("--cadence", type=click.Choice(["1", "5", "15"]), default="5", show_default=True, help="Minutes.")
@click.option("--delay", type=click.IntRange(0), default=30, show_default=True, help="Seconds until a reading shows.")
@click.option("--calls-per-hour", type=click.IntRange(1), default=60_000, show_default=True, help="Then 429.")
@click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep grants, rotations and faults there over restarts.",
)
def simulator(
    port: int,
    replay: Path | None,
    zone: str,
    seed: int,
    cadence: str,
    delay: int,
    calls_per_hour: int,
    journal: Path | None,
) -> None:
    """Serve the simulated Dexcom alone.

    Point DEXCOM_API_BASE_URL at it, with DEXCOM_CLIENT_ID simulated-client and DEXCOM_CLIENT_SECRET
    simulated-secret. Its admin routes ask for no credentials.
    """
    import msgspec

    from bg_ingest.simulator import ReplayUnreadable, SimulatorOptions

    given = {
        "replay": replay,
        "zone": zone,
        "seed": seed,
        "cadence_minutes": int(cadence),
        "delay_seconds": delay,
        "calls_per_hour": calls_per_hour,
    }
    load = partial(_simulated, msgspec.convert(given, SimulatorOptions), journal)
    try:
        load()  # the worker makes its own; here it shows what is wrong before anything is served
    except (ReplayUnreadable, OSError) as error:
        _refuse(str(error))
    _serve(load, "127.0.0.1", port)


@main.group()
def tables() -> None:
    """The table in DynamoDB."""


@tables.command("create")
def create_tables() -> None:
    """Make the table, or put an existing one right; run again, it changes nothing.

    Billed by request, expiry on; protected from deletion and with point-in-time recovery where the server has them.
    """
    settings = _settings()
    if settings.dynamodb_table is None:
        click.echo(f"No DYNAMODB_TABLE: readings are kept in {settings.sqlite_file}, which needs nothing made.")
        return
    import anyio

    from bg_ingest.errors import StoreError
    from bg_ingest.wiring import create_table

    try:
        report = anyio.run(create_table, settings)
    except StoreError as error:
        click.echo(str(error), err=True)
        sys.exit(FAILED)
    click.echo("\n".join(report))


def _settings(host: str | None = None, port: int | None = None) -> "Settings":
    """Read the settings, flags first: through the environment, so that the worker reads the same."""
    environment = os.environ  # noqa: TID251 - see above
    environment.update({name: str(value) for name, value in {"HOST": host, "PORT": port}.items() if value})
    from bg_ingest.settings import SettingsError, get_settings

    try:
        return get_settings()
    except SettingsError as error:
        _refuse(str(error))


def _check_reload(settings: "Settings") -> None:
    from importlib.util import find_spec

    if settings.environment != "development":
        _refuse(f"--reload is for development, and ENVIRONMENT is {settings.environment}.")
    if find_spec("watchfiles") is None:
        _refuse("--reload needs watchfiles: pip install 'granian[reload]'.")


def _serve(load: "Callable[[], App]", host: str, port: int, *, reload: bool = False) -> None:
    from bg_ingest.server import PortTaken, Server, listen

    try:
        listener = listen(host, port)
    except PortTaken as error:
        _refuse(str(error))
    click.echo(f"Listening on http://{host}:{port}; Ctrl-C stops.", err=True)
    Server(load, listener, reload=reload).serve()


def _app() -> "App":
    from bg_ingest.server import load_app

    return load_app("app:app")


def _simulated(options: "SimulatorOptions", journal: Path | None) -> "App":
    from bg_ingest.adapters.clock import SystemClock
    from bg_ingest.simulator import create_simulator

    return create_simulator(options, now=SystemClock().now, journal=journal)


def _refuse(sentence: str) -> NoReturn:
    click.echo(sentence, err=True)
    sys.exit(WRONG_USAGE)


if __name__ == "__main__":
    main()
