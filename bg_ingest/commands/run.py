"""``bg-ingest run``: the service."""
# ruff: noqa: PLC0415 - help and wrong usage answer at once: what takes time to load is imported where it is used

from typing import TYPE_CHECKING

import rich_click as click

from bg_ingest.commands.context import read_settings
from bg_ingest.commands.exits import exit_usage
from bg_ingest.commands.serving import host_option, load_service, port_option, serve

if TYPE_CHECKING:
    from bg_ingest.settings import Settings


@click.command()
@host_option
@port_option
@click.option("--reload", is_flag=True, help="Restart on every change of the code (development).")
def run(host: str | None, port: int | None, *, reload: bool) -> None:
    """Serve, poll and tell until stopped.

    SIGTERM or Ctrl-C: takes no more work, finishes what cannot be left, and is gone within 20 seconds.
    """
    settings = read_settings(host, port)
    if reload:
        _check_reload(settings)
    serve(load_service, settings.host, settings.port, reload=reload)


def _check_reload(settings: "Settings") -> None:
    from importlib.util import find_spec

    if settings.environment != "development":
        exit_usage(f"--reload is for development, and ENVIRONMENT is {settings.environment}.")
    if find_spec("watchfiles") is None:
        exit_usage("--reload needs watchfiles: pip install 'granian[reload]'.")
