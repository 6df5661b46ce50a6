"""What the commands share that serve: where to listen, and the server."""
# ruff: noqa: PLC0415 - help and wrong usage answer at once: what takes time to load is imported where it is used

from collections.abc import Callable
from typing import TYPE_CHECKING

import rich_click as click

from bg_ingest.commands.exits import exit_usage

if TYPE_CHECKING:
    from bg_ingest.server import App

PORT_RANGE = click.IntRange(1, 65535)

host_option = click.option("--host", help="Address to listen on, instead of HOST.")
port_option = click.option("--port", type=PORT_RANGE, help="Port to listen on, instead of PORT.")


def serve(load: "Callable[[], App]", host: str, port: int, *, reload: bool = False) -> None:
    """Serve what ``load`` makes in the worker, until stopped."""
    from bg_ingest.server import PortTaken, Server, listen

    try:
        listener = listen(host, port)
    except PortTaken as error:
        exit_usage(str(error))
    click.echo(f"Listening on http://{host}:{port}; Ctrl-C stops.", err=True)
    Server(load, listener, reload=reload).serve()


def load_service() -> "App":
    """Return the service itself."""
    from bg_ingest.server import load_app

    return load_app("app:app")
