"""``bg-ingest simulator``: the simulated Dexcom as an application of its own."""
# ruff: noqa: PLC0415 - help and wrong usage answer at once: slow imports stand in the functions that need them

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from bg_ingest.commands.output import exit_usage
from bg_ingest.commands.serve import PORT_RANGE, serve

if TYPE_CHECKING:
    from bg_ingest.server import App
    from bg_ingest.simulator import SimulatorOptions


@click.command()
@click.option(
    "--port", type=PORT_RANGE, default=5002, show_default=True, help="Port to listen on, on this machine only."
)
@click.option(
    "--replay",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Clarity CSV export that becomes the readings of one more user, ReplayUser.",
)
@click.option("--zone", default="UTC", show_default=True, help="Time zone of the export's local times.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same users and readings.")
@click.option("--cadence", type=click.Choice(["1", "5", "15"]), default="5", show_default=True, help="Minutes.")
@click.option(
    "--delay", type=click.IntRange(0), default=30, show_default=True, help="Seconds until a reading is visible."
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

    Set DEXCOM_API_BASE_URL to its address, DEXCOM_CLIENT_ID to simulated-client and DEXCOM_CLIENT_SECRET to
    simulated-secret. Its admin routes need no credentials.
    """
    import msgspec

    from bg_ingest.simulator import ReplayUnreadable, SimulatorOptions

    options = {
        "replay": replay,
        "zone": zone,
        "seed": seed,
        "cadence_minutes": int(cadence),
        "delay_seconds": delay,
        "calls_per_hour": calls_per_hour,
    }
    load = partial(_create_app, msgspec.convert(options, SimulatorOptions), journal)
    try:
        load()  # the worker creates its own; this one shows errors before the server starts
    except (ReplayUnreadable, OSError) as error:
        exit_usage(str(error))
    serve(load, "127.0.0.1", port)


def _create_app(options: "SimulatorOptions", journal: Path | None) -> "App":
    from bg_ingest.adapters.clock import SystemClock
    from bg_ingest.simulator import create_simulator

    return create_simulator(options, now=SystemClock().now, journal=journal)
