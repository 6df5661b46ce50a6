"""``bg-ingest run``, ``demo`` and ``simulator``; the last serves the simulated Dexcom alone."""

import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from bg_ingest.commands.context import exit_usage, read_settings

if TYPE_CHECKING:
    from bg_ingest.request_heads import App
    from bg_ingest.simulator import SimulatorOptions

SENSOR_CADENCE_SECONDS = 300
"""Time between two readings of a simulated sensor. The demo polls as often, so that new readings appear at once."""

PORT_RANGE = click.IntRange(1, 65535)

host_option = click.option("--host", help="Address to listen on, instead of HOST.")
port_option = click.option("--port", type=PORT_RANGE, help="Port to listen on, instead of PORT.")


@click.command()
@host_option
@port_option
@click.option("--reload", is_flag=True, help="Restart on every change of the code (development).")
def run(host: str | None, port: int | None, *, reload: bool) -> None:
    """Serve, poll and publish until stopped.

    SIGTERM or Ctrl-C stops new work, finishes writes in progress, and ends the process within 20 seconds.
    """
    settings = read_settings(host, port)
    if reload and settings.environment != "development":
        exit_usage(f"--reload is for development, and ENVIRONMENT is {settings.environment}.")
    if reload and find_spec("watchfiles") is None:
        exit_usage("--reload needs watchfiles: pip install 'granian[reload]'.")
    serve(_load_service, settings.host, settings.port, reload=reload, keep_alive=settings.keep_alive_seconds)


@click.command()
@host_option
@port_option
def demo(host: str | None, port: int | None) -> None:
    """Run with a simulated Dexcom and three connected users, and print requests to try."""
    from bg_ingest.wiring.providers import is_simulated

    settings = read_settings(host, port, poll_interval_seconds=SENSOR_CADENCE_SECONDS)
    if not (is_simulated(settings) and settings.anonymous):
        exit_usage(
            "The demo has a simulated Dexcom and an open API: unset ENVIRONMENT, DEXCOM_CLIENT_ID and JWT_ISSUER, "
            "or use bg-ingest run."
        )
    from bg_ingest.demo import guide

    with guide(settings.host, settings.port):
        serve(_load_service, settings.host, settings.port, keep_alive=settings.keep_alive_seconds)


@click.command()
@click.option(
    "--port", type=PORT_RANGE, default=5002, show_default=True, help="Port to listen on, on this machine only."
)
@click.option(
    "--replay",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Clarity CSV export, in any language. One more user, ReplayUser, has its readings.",
)
@click.option("--zone", default="UTC", show_default=True, help="Time zone of the export's local times.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same users and readings.")
@click.option(
    "--cadence",
    "cadence_minutes",
    type=click.Choice(["1", "5", "15"]),
    default="5",
    show_default=True,
    help="Minutes per reading.",
)
@click.option(
    "--delay",
    "delay_seconds",
    type=click.IntRange(0),
    default=30,
    show_default=True,
    help="Seconds from a measurement until its reading is visible.",
)
@click.option(
    "--calls-per-hour", type=click.IntRange(1), default=60_000, show_default=True, help="Further calls get 429."
)
@click.option(
    "--journal",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File that keeps grants, token rotations and faults over restarts.",
)
def simulator(port: int, journal: Path | None, cadence_minutes: str, **options: object) -> None:
    """Serve the simulated Dexcom alone.

    Set DEXCOM_API_BASE_URL to its address, DEXCOM_CLIENT_ID to simulated-client and DEXCOM_CLIENT_SECRET to
    simulated-secret. Its admin routes need no credentials.
    """
    import msgspec

    from bg_ingest.simulator import JournalUnreadable, ReplayedWearer, ReplayUnreadable, SimulatorOptions

    converted = msgspec.convert(options | {"cadence_minutes": int(cadence_minutes)}, SimulatorOptions)
    load = partial(_create_app, converted, journal)
    try:
        if converted.replay is not None:
            click.echo(ReplayedWearer(converted.replay, converted.zone).report, err=True)
        load()  # reports errors before the server starts; the worker creates its own application
    except (JournalUnreadable, ReplayUnreadable, OSError) as error:
        exit_usage(str(error))
    serve(load, "127.0.0.1", port)


def serve(load: "Callable[[], App]", host: str, port: int, **options: Any) -> None:  # noqa: ANN401 - those of Server
    """Serve, until stopped, the application that ``load`` creates in the worker; the options are those of Server."""
    from bg_ingest.addresses import in_url
    from bg_ingest.server import PortTaken, Server, listen

    _protect_output()
    try:
        listener = listen(host, port)
    except PortTaken as error:
        exit_usage(str(error))
    shown_host = "::1" if host == "::" else host
    click.echo(f"Listening on http://{in_url(shown_host)}:{port}; Ctrl-C stops.", err=True)
    Server(load, listener, **options).serve()


def _protect_output() -> None:
    """Suppress errors of writes to stdout and stderr, in this process and in the worker that it forks."""
    from bg_ingest.observability.lossy_stream import LossyStream

    sys.stdout, sys.stderr = LossyStream(sys.stdout), LossyStream(sys.stderr)


def _load_service() -> "App":
    from bg_ingest.server import load_app

    _protect_output()  # needed on systems that start the worker without a fork
    return load_app("app:app")


def _create_app(options: "SimulatorOptions", journal: Path | None) -> "App":
    from bg_ingest.adapters.clock import SystemClock
    from bg_ingest.simulator import create_simulator
    from bg_ingest.simulator.local import LocalSimulator

    return LocalSimulator(create_simulator(options, now=SystemClock().now, journal=journal))
