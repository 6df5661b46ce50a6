"""``bg-ingest backfill`` reads past data again; ``verify`` compares stored data with the provider's."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import rich_click as click

from bg_ingest.commands.connection_target import (
    MAX_COMPARE_WINDOW,
    ConnectionTarget,
    from_option,
    key_option,
    parse_instant,
    provider_option,
    run_on_connection,
    to_option,
)
from bg_ingest.commands.context import FAILED, exit_usage

if TYPE_CHECKING:
    from bg_ingest.domain.verification import Difference, Verification
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
    process that polls the connection: Ctrl-C stops only this command. A stored reading changes
    only if the provider has another value: this is recorded as a revision.
    """
    first, last = parse_instant("--from", start), parse_instant("--to", end)

    async def read(target: ConnectionTarget) -> "tuple[Window, bool]":
        window = await target.backfill(first, last)
        if no_wait or not target.service_may_run:
            return window, False
        await _wait_until_read(target, window, shown=not as_json and sys.stderr.isatty())
        return window, True

    try:
        window, done = run_on_connection(user, provider, api_key, read)
    except KeyboardInterrupt:
        click.echo("Stopped waiting; the service continues to read.", err=True)
        return
    if as_json:
        click.echo(json.dumps({"from": window.start.isoformat(), "to": window.end.isoformat(), "done": done}))
    else:
        times = f"{window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} UTC"
        click.echo(f"Read {times}." if done else f"Requested: {times}. The service reads this window while it runs.")


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
    if remaining is None or remaining.start >= window.end or remaining.end <= window.start:
        return 0.0
    return (min(remaining.end, window.end) - max(remaining.start, window.start)) / window.length


@click.command()
@click.argument("user", metavar="USER")
@click.option("--from", "start", metavar="TIME", required=True, help="A date (UTC), or RFC 3339 with an offset.")
@to_option
@provider_option
@key_option
@click.option("--values", is_flag=True, help="Show differing glucose values. They are health data.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def verify(
    user: str, start: str, end: str | None, provider: str | None, api_key: str | None, *, values: bool, as_json: bool
) -> None:
    """Compare the stored readings with the provider's, one by one.

    Makes one request to the provider per 30 days, and changes nothing. Times that no poll has read yet are not
    compared. Exit code 1 for differences.
    """
    first, last = parse_instant("--from", start), parse_instant("--to", end) or datetime.now(UTC)  # noqa: TID251 - a command
    if first is None or first >= last:
        exit_usage("There is nothing to compare: --from must be before --to.")

    async def compare(target: ConnectionTarget) -> "list[Verification]":
        results = [await target.verify(window, values=values) for window in _split_window(first, last)]
        return [result for result in results if result]

    results = run_on_connection(user, provider, api_key, compare)
    differences = [difference for result in results for difference in result.differences]
    if as_json:
        click.echo(json.dumps(_to_report(results, differences, values=values)))
    else:
        for difference in differences:
            click.echo(_format_line(difference, values=values))
        click.echo(summarize(results, differences), err=True)
    if differences:
        sys.exit(FAILED)


def _split_window(first: datetime, last: datetime) -> "Iterator[Window]":
    from bg_ingest.domain.windows import Window

    while first < last:
        end = min(last, first + MAX_COMPARE_WINDOW)
        yield Window(first, end)
        first = end


def _format_line(difference: "Difference", *, values: bool) -> str:
    text = f"{difference.measured_at:%Y-%m-%dT%H:%M:%SZ}  {difference.kind:<16} {difference.device}"
    return f"{text}  {difference.stored_mg_dl} / {difference.provider_mg_dl} mg/dL" if values else text


def summarize(results: "list[Verification]", differences: "list[Difference]") -> str:
    compared = sum(result.compared for result in results)
    if not results:
        return "Nothing of that time has been read yet: there is nothing to compare."
    counts = Counter(difference.kind.replace("_", " ") for difference in differences)
    text = ", ".join(f"{count} {kind}" for kind, count in counts.most_common()) or "no difference"
    unreadable = sum(result.unreadable for result in results)
    rest = f" Not compared: {unreadable} unreadable records of the provider." if unreadable else ""
    return f"{compared} readings compared: {text}.{rest}"


def _to_report(results: "list[Verification]", differences: "list[Difference]", *, values: bool) -> dict[str, Any]:
    import msgspec

    shown = [difference if values else difference.without_values() for difference in differences]
    return {
        "compared": sum(result.compared for result in results),
        "unreadable": sum(result.unreadable for result in results),
        "counts": dict(Counter(str(difference.kind) for difference in differences)),
        "differences": msgspec.to_builtins(shown),
    }
