"""``bg-ingest backfill``: read a user's past data again."""
# ruff: noqa: PLC0415 - help and wrong usage answer at once: slow imports stand in the functions that need them

import sys
from typing import TYPE_CHECKING

import rich_click as click

from bg_ingest.commands.connection_target import (
    ConnectionTarget,
    from_option,
    key_option,
    parse_instant,
    provider_option,
    run_on_connection,
    to_option,
)

if TYPE_CHECKING:
    from bg_ingest.domain.windows import Window

CHECK_INTERVAL_SECONDS = 1.0

PROGRESS_STEPS = 1_000


@click.command()
@click.argument("user", metavar="USER")
@from_option
@to_option
@provider_option
@key_option
@click.option("--no-wait", is_flag=True, help="Only request the window; the service reads it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: the window, and whether it has been read.")
def backfill(
    user: str,
    start: str | None,
    end: str | None,
    provider: str | None,
    api_key: str | None,
    *,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Read a user's past data again, newest first.

    Without --from, the window begins as for a new connection. The window is requested in the store and read by the
    process that polls the connection: Ctrl-C stops only this command. Readings that are stored already change nothing.
    """
    first, last = parse_instant("--from", start), parse_instant("--to", end)

    async def read(target: ConnectionTarget) -> "tuple[Window, bool]":
        window = await target.backfill(first, last)
        if no_wait or not target.polls:
            return window, False
        await _wait_until_read(target, window, shown=not as_json and sys.stderr.isatty())
        return window, True

    try:
        window, done = run_on_connection(user, provider, api_key, read)
    except KeyboardInterrupt:
        click.echo("Stopped waiting; the service continues to read.", err=True)
        return
    if as_json:
        import json

        click.echo(json.dumps({"from": window.start.isoformat(), "to": window.end.isoformat(), "done": done}))
    else:
        state = "Read" if done else "Requested; it is read while the service runs:"
        click.echo(f"{state} {window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} UTC.")


async def _wait_until_read(target: ConnectionTarget, window: "Window", *, shown: bool) -> None:
    """Show progress, and return once the whole window has been read."""
    import anyio

    with click.progressbar(length=PROGRESS_STEPS, label="Reading", file=sys.stderr, hidden=not shown) as bar:
        while True:
            remaining = _unread_share(await target.remaining_backfill(), window)
            bar.update(int((1 - remaining) * PROGRESS_STEPS) - bar.pos)
            if not remaining:
                return
            await anyio.sleep(CHECK_INTERVAL_SECONDS)


def _unread_share(remaining: "Window | None", window: "Window") -> float:
    """Return the fraction of the window that has not been read yet."""
    if remaining is None or remaining.start >= window.end or remaining.end <= window.start:
        return 0.0
    return (min(remaining.end, window.end) - max(remaining.start, window.start)) / window.length
