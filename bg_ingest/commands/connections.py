"""``bg-ingest connections``: who is connected, how it stands with each, and whose readings are late."""
# ruff: noqa: PLC0415 - help and wrong usage answer at once: what takes time to load is imported where it is used

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Any

import rich_click as click

from bg_ingest.commands.context import run_with_services
from bg_ingest.commands.output import json_option, print_json, print_table

if TYPE_CHECKING:
    from bg_ingest.services import Services
    from bg_ingest.services.connections.manage import Status
    from bg_ingest.settings import Settings
    from bg_ingest.store import Store

STATES = ("active", "paused", "reauthorization_required", "provider_forbidden", "disconnected")


@click.command()
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only those in this state; several.")
@click.option("--user", "users", multiple=True, metavar="ID", help="Only this user's; several.")
@json_option
def connections(states: Collection[str], users: Collection[str], *, as_json: bool) -> None:
    """List the connections and how they stand.

    State, newest reading, last outcome and next look, of all that have a grant; with --user also of those without.
    The oldest newest reading comes first.
    """

    async def find(_: "Settings", services: "Services") -> "list[Status]":
        async with aclosing(_iter_connections(services.store, users)) as found:
            statuses = [services.connections.status_of(each) async for each in found]
        return [each for each in statuses if not states or each.connection.state in states]

    found = sorted(run_with_services(find), key=lambda each: each.connection.anchor)
    if as_json:
        print_json([_to_row(each) for each in found])
        return
    print_table(
        ("user", "provider", "state", "newest reading", "last outcome", "next look"),
        [tuple(map(_format_cell, [*_to_row(each).values()][:6])) for each in found],
    )
    click.echo(f"{len(found)} connections.", err=True)


async def _iter_connections(store: "Store", users: Collection[str]) -> "AsyncGenerator[Any]":
    from bg_ingest.domain.ids import SHARDS, UserId

    for user in users:
        for each in await store.connections.list_for_user(UserId(user)):
            yield each
    for shard in [] if users else range(SHARDS):
        async with aclosing(store.connections.iter_directory(shard)) as rows:
            async for listed in rows:
                found = await store.connections.get(listed.id)
                if found is not None:
                    yield found


def _to_row(status: "Status") -> dict[str, Any]:
    connection = status.connection
    return {
        "user_id": connection.id.user,
        "provider": connection.id.provider,
        "state": connection.state,
        "newest_reading_at": connection.newest_reading_at,
        "last_outcome": connection.last_outcome,
        "next_poll_at": status.next_poll_at,
        "last_outcome_at": connection.outcome_at,
        "reason": connection.reason,
        "region": connection.region,
        "backfill_done": status.backfill_done,
    }


def _format_cell(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%SZ}"
    return "" if value is None else str(value)
