"""``bg-ingest demo``: the service with something to see."""
# ruff: noqa: PLC0415 - help and wrong usage answer at once: what takes time to load is imported where it is used

import rich_click as click

from bg_ingest.commands.context import read_settings
from bg_ingest.commands.exits import exit_usage
from bg_ingest.commands.serving import host_option, load_service, port_option, serve


@click.command()
@host_option
@port_option
def demo(host: str | None, port: int | None) -> None:
    """Run with a simulated Dexcom and three people connected to it; says what to try."""
    settings = read_settings(host, port)
    if not (settings.simulated and settings.anonymous):
        exit_usage(
            "The demo has a simulated Dexcom and an open API: unset ENVIRONMENT, DEXCOM_CLIENT_ID and JWT_ISSUER, "
            "or use bg-ingest run."
        )
    from bg_ingest.demo import guide

    with guide(settings.host, settings.port):
        serve(load_service, settings.host, settings.port)
