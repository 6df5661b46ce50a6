"""``bg-ingest outbox``: unpublished changes, and repeated publication of changes that consumers lost."""

from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec
import rich_click as click

from bg_ingest.commands.context import exit_failure, json_option, parse_user, print_json, run_with_services

if TYPE_CHECKING:
    from bg_ingest.services import Services


class OutboxSummary(msgspec.Struct, frozen=True):
    """Unpublished changes of all shards."""

    waiting: int
    users: int
    oldest: datetime | None
    """Recording time of the oldest unpublished change."""


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def outbox(ctx: click.Context, *, as_json: bool) -> None:
    """Show unpublished events, or publish changes again.

    Without a subcommand, shows the number of unpublished events and of their users, and the time of the oldest. The
    last event of a user counts as unpublished until its publication is recorded: with the user's next event, or within
    half an hour while the service runs.
    """
    if ctx.invoked_subcommand is not None:
        return
    summary = run_with_services(_summarize)
    if as_json:
        print_json(summary)
    elif summary.oldest is None:
        click.echo(f"{summary.waiting} events wait." if summary.waiting else "Nothing waits.")
    else:
        users, oldest = summary.users, f"{summary.oldest:%Y-%m-%d %H:%M:%SZ}"
        click.echo(f"{summary.waiting} events of {users} users wait, the oldest since {oldest}.")


async def _summarize(services: "Services") -> OutboxSummary:
    from bg_ingest.domain.ids import SHARDS

    waiting, users, oldest = 0, 0, None
    for shard in range(SHARDS):
        entries = await services.store.outbox.list_shard(shard)
        firsts = [next(of_user) for _, of_user in groupby(entries, key=attrgetter("user"))]
        waiting, users = waiting + len(entries), users + len(firsts)
        times = [change.recorded_at for change in (await services.store.outbox.changes(firsts)).values()]
        oldest = min([*times, *([oldest] if oldest else [])], default=None)
    return OutboxSummary(waiting, users, oldest)


@outbox.command()
@click.argument("user")
@click.option(
    "--from", "first", type=click.IntRange(1), required=True, metavar="N", help="First change number to publish."
)
@click.option("--to", "last", type=click.IntRange(1), metavar="N", help="Last change number. Default: the newest.")
@json_option
def replay(user: str, first: int, last: int | None, *, as_json: bool) -> None:
    """Publish changes of USER again, from number N on, with their original ids.

    Changes are stored for 60 days; numbers of deleted changes are skipped. The service publishes within seconds.
    """

    async def republish(services: "Services") -> int:
        from bg_ingest.services.publishing.relay import replay as replay_changes

        return await replay_changes(services.store, parse_user(user), first, last)

    count = run_with_services(republish)
    if as_json:
        print_json({"user_id": user, "events": count})
    elif count:
        click.echo(f"{count} events of {user} will be published again.")
    else:
        exit_failure(f"No change of {user} is stored from number {first} on: changes are stored for 60 days.")
