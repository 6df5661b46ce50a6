"""``bg-ingest run`` and ``bg-ingest demo``; their server is also that of ``bg-ingest simulator``."""
# ruff: noqa: PLC0415 - help and wrong usage answer at once: slow imports stand in the functions that need them

from collections.abc import Callable
from typing import TYPE_CHECKING

import rich_click as click

from bg_ingest.commands.context import read_settings
from bg_ingest.commands.output import exit_usage

if TYPE_CHECKING:
    from bg_ingest.server import App
    from bg_ingest.settings import Settings

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
    if reload:
        _check_reload(settings)
    serve(_load_service, settings.host, settings.port, reload=reload)


@click.command()
@host_option
@port_option
def demo(host: str | None, port: int | None) -> None:
    """Run with a simulated Dexcom and three connected users, and print requests to try."""
    from bg_ingest.wiring.providers import is_simulated

    settings = read_settings(host, port)
    if not (is_simulated(settings) and settings.anonymous):
        exit_usage(
            "The demo has a simulated Dexcom and an open API: unset ENVIRONMENT, DEXCOM_CLIENT_ID and JWT_ISSUER, "
            "or use bg-ingest run."
        )
    from bg_ingest.demo import guide

    with guide(settings.host, settings.port):
        serve(_load_service, settings.host, settings.port)


def serve(load: "Callable[[], App]", host: str, port: int, *, reload: bool = False) -> None:
    """Serve, until stopped, the application that ``load`` creates in the worker."""
    from bg_ingest.server import PortTaken, Server, listen

    try:
        listener = listen(host, port)
    except PortTaken as error:
        exit_usage(str(error))
    click.echo(f"Listening on http://{host}:{port}; Ctrl-C stops.", err=True)
    Server(load, listener, reload=reload).serve()


def _load_service() -> "App":
    from bg_ingest.server import load_app

    return load_app("app:app")


def _check_reload(settings: "Settings") -> None:
    from importlib.util import find_spec

    if settings.environment != "development":
        exit_usage(f"--reload is for development, and ENVIRONMENT is {settings.environment}.")
    if find_spec("watchfiles") is None:
        exit_usage("--reload needs watchfiles: pip install 'granian[reload]'.")
