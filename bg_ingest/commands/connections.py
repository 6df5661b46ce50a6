"""``bg-ingest connections`` lists the connections with their states."""

from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Any

import rich_click as click

from bg_ingest.commands.context import exit_usage, json_option, print_json, print_table, run_with_services

if TYPE_CHECKING:
    from bg_ingest.services import Services
    from bg_ingest.services.connections.manage import Status
    from bg_ingest.store import Store

STATES = ("connecting", "active", "paused", "reauthorization_required", "provider_forbidden", "disconnected")


@click.command()
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only this state; repeatable.")
@click.option("--user", "users", multiple=True, metavar="ID", help="Only this user; repeatable.")
@json_option
def connections(states: Collection[str], users: Collection[str], *, as_json: bool) -> None:
    """List the connections with their states.

    Each line has the state, the newest reading, the last outcome and the next poll. Without --user, only connections
    with a grant are listed; connecting and disconnected ones have none. The lines are sorted by the newest reading, the
    oldest first.
    """
    from bg_ingest.domain.connections import STATES_WITH_GRANT

    unlisted = [state for state in states if state not in STATES_WITH_GRANT]
    if unlisted and not users:
        exit_usage(f"Connections in the state {unlisted[0]} are listed by user only: name the users with --user.")

    async def find(services: "Services") -> "list[Status]":
        async with aclosing(_iter_connections(services.store, users)) as stored:
            statuses = [services.connections.status_of(connection) async for connection in stored]
        return [status for status in statuses if not states or status.connection.state in states]

    statuses = sorted(run_with_services(find), key=lambda status: status.connection.anchor)
    if as_json:
        print_json([_to_row(status) for status in statuses])
        return
    print_table(
        ("user", "provider", "state", "newest reading", "last outcome", "next poll"),
        [tuple(map(_format_cell, [*_to_row(status).values()][:6])) for status in statuses],
    )
    click.echo(f"{len(statuses)} connections.", err=True)


async def _iter_connections(store: "Store", users: Collection[str]) -> "AsyncGenerator[Any]":
    from bg_ingest.domain.ids import SHARDS, UserId

    for user in users:
        for connection in await store.connections.list_for_user(UserId(user)):
            yield connection
    for shard in [] if users else range(SHARDS):
        async with aclosing(store.connections.iter_directory(shard)) as rows:
            async for row in rows:
                stored = await store.connections.get(row.id)
                if stored is not None:
                    yield stored


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
