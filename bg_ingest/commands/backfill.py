"""``bg-ingest backfill``: read a person's past again."""
# ruff: noqa: PLC0415 - help and wrong usage answer at once: what takes time to load is imported where it is used

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
"""Seconds."""

PROGRESS_STEPS = 1_000
"""Of the progress bar."""


@click.command()
@click.argument("user", metavar="USER")
@from_option
@to_option
@provider_option
@key_option
@click.option("--no-wait", is_flag=True, help="Only mark the span; the service reads it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object: the span, and whether it has been read.")
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
    """Read a person's past again, newest first.

    Without --from it begins where the past of a new connection would. The span is marked in the store, and whichever
    process polls the connection reads it: Ctrl-C only stops the waiting. What is known already changes nothing.
    """
    first, last = parse_instant("--from", start), parse_instant("--to", end)

    async def read(target: ConnectionTarget) -> "tuple[Window, bool]":
        span = await target.backfill(first, last)
        if no_wait or not target.polls:
            return span, False
        await _watch(target, span, shown=not as_json and sys.stderr.isatty())
        return span, True

    try:
        span, done = run_on_connection(user, provider, api_key, read)
    except KeyboardInterrupt:
        click.echo("Stopped waiting; the service reads on.", err=True)
        return
    if as_json:
        import json

        click.echo(json.dumps({"from": span.start.isoformat(), "to": span.end.isoformat(), "done": done}))
    else:
        what = "Read" if done else "Marked; it is read while the service runs:"
        click.echo(f"{what} {span.start:%Y-%m-%d %H:%M} to {span.end:%Y-%m-%d %H:%M} UTC.")


async def _watch(target: ConnectionTarget, span: "Window", *, shown: bool) -> None:
    """Return once nothing of the span is left to be read."""
    import anyio

    with click.progressbar(length=PROGRESS_STEPS, label="Reading", file=sys.stderr, hidden=not shown) as bar:
        while True:
            remaining = _unread_share(await target.remaining_backfill(), span)
            bar.update(int((1 - remaining) * PROGRESS_STEPS) - bar.pos)
            if not remaining:
                return
            await anyio.sleep(CHECK_INTERVAL_SECONDS)


def _unread_share(remaining: "Window | None", span: "Window") -> float:
    """Return what share of the span is left."""
    if remaining is None or remaining.start >= span.end or remaining.end <= span.start:
        return 0.0
    return (min(remaining.end, span.end) - max(remaining.start, span.start)) / span.length
