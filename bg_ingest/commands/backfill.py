"""``bg-ingest backfill``: read a person's past again."""
# ruff: noqa: PLC0415 - help and wrong usage answer at once: what takes time to load is imported where it is used

import sys
from typing import TYPE_CHECKING

import rich_click as click

from bg_ingest.commands.desk import (
    Desk,
    at_desk,
    from_option,
    instant,
    key_option,
    provider_option,
    to_option,
)

if TYPE_CHECKING:
    from bg_ingest.domain.windows import Window

LOOK_EVERY = 1.0
"""Seconds."""

STEPS = 1_000
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
    first, last = instant("--from", start), instant("--to", end)

    async def read(desk: Desk) -> "tuple[Window, bool]":
        span = await desk.backfill(first, last)
        if no_wait or not desk.polls:
            return span, False
        await _watched(desk, span, shown=not as_json and sys.stderr.isatty())
        return span, True

    try:
        span, done = at_desk(user, provider, api_key, read)
    except KeyboardInterrupt:
        click.echo("Stopped waiting; the service reads on.", err=True)
        return
    if as_json:
        import json

        click.echo(json.dumps({"from": span.start.isoformat(), "to": span.end.isoformat(), "done": done}))
    else:
        what = "Read" if done else "Marked; it is read while the service runs:"
        click.echo(f"{what} {span.start:%Y-%m-%d %H:%M} to {span.end:%Y-%m-%d %H:%M} UTC.")


async def _watched(desk: Desk, span: "Window", *, shown: bool) -> None:
    """Return once nothing of the span is left to be read."""
    import anyio

    with click.progressbar(length=STEPS, label="Reading", file=sys.stderr, hidden=not shown) as bar:
        while True:
            left = _within(await desk.left(), span)
            bar.update(int((1 - left) * STEPS) - bar.pos)
            if not left:
                return
            await anyio.sleep(LOOK_EVERY)


def _within(left: "Window | None", span: "Window") -> float:
    """Return what share of the span is left."""
    if left is None or left.start >= span.end or left.end <= span.start:
        return 0.0
    return (min(left.end, span.end) - max(left.start, span.start)) / span.length
