"""``bg-ingest outbox``: what waits to be told, and telling again what consumers lost."""
# ruff: noqa: PLC0415 - help and wrong usage answer at once: what takes time to load is imported where it is used

from collections.abc import Sequence
from contextlib import aclosing
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING

import msgspec
import rich_click as click

from bg_ingest.commands.context import run_with_services
from bg_ingest.commands.output import exit_failure, json_option, print_json

if TYPE_CHECKING:
    from bg_ingest.domain.ids import UserId
    from bg_ingest.services import Services
    from bg_ingest.settings import Settings
    from bg_ingest.store.outbox import OutboxEntry


class OutboxSummary(msgspec.Struct, frozen=True):
    """What the outboxes hold."""

    waiting: int
    users: int
    oldest: datetime | None
    """When the change that waits longest was recorded."""


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def outbox(ctx: click.Context, *, as_json: bool) -> None:
    """Events that wait to be told.

    Without a command: how many, of how many users, and since when the oldest waits.
    """
    if ctx.invoked_subcommand is not None:
        return
    found = run_with_services(_summarize)
    if as_json:
        print_json(found)
    elif found.oldest is None:
        click.echo(f"{found.waiting} events wait." if found.waiting else "Nothing waits.")
    else:
        click.echo(
            f"{found.waiting} events of {found.users} users wait, the oldest since {found.oldest:%Y-%m-%d %H:%M:%SZ}."
        )


async def _summarize(_: "Settings", services: "Services") -> OutboxSummary:
    from bg_ingest.domain.ids import SHARDS

    waiting, users, oldest = 0, 0, None
    for shard in range(SHARDS):
        async with aclosing(services.store.outbox.iter_entries(shard)) as pages:
            last = None
            async for page in pages:
                firsts = [
                    each
                    for before, each in zip([last, *page], page, strict=False)
                    if not before or before.user != each.user
                ]
                last = page[-1]
                waiting, users = waiting + len(page), users + len(firsts)
                times = [change.recorded_at for change in (await services.store.outbox.changes(firsts)).values()]
                oldest = min([*times, *([oldest] if oldest else [])], default=None)
    return OutboxSummary(waiting, users, oldest)


def group_by_user(page: "Sequence[OutboxEntry]") -> "list[tuple[UserId, list[OutboxEntry]]]":
    return [(user, list(rows)) for user, rows in groupby(page, key=lambda each: each.user)]


@outbox.command()
@click.argument("user")
@click.option(
    "--from", "first", type=click.IntRange(1), required=True, metavar="N", help="The first change number to tell."
)
@click.option("--to", "last", type=click.IntRange(1), metavar="N", help="The last; without it all there are.")
@json_option
def replay(user: str, first: int, last: int | None, *, as_json: bool) -> None:
    """Tell changes of USER again, from number N on, under the ids they had.

    Changes are kept for 60 days; numbers whose change is gone are skipped. The service tells them within a minute.
    """

    async def put_back(_: "Settings", services: "Services") -> int:
        from bg_ingest.domain.ids import UserId
        from bg_ingest.services.publishing.replay import replay as again

        return await again(services.store, UserId(user), first, last)

    count = run_with_services(put_back)
    if as_json:
        print_json({"user_id": user, "events": count})
    elif count:
        click.echo(f"{count} events of {user} will be told again.")
    else:
        exit_failure(f"Nothing of {user} is kept from number {first} on: changes are kept for 60 days.")
