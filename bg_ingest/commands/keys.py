"""``bg-ingest keys``: keys of the API's callers, and the keys that encrypt stored secrets."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import rich_click as click

from bg_ingest.commands.context import (
    exit_failure,
    exit_usage,
    json_option,
    parse_user,
    print_json,
    read_settings,
    run_with_api_keys,
    run_with_services,
)

if TYPE_CHECKING:
    from bg_ingest.domain.access import ApiKey
    from bg_ingest.domain.ids import UserId
    from bg_ingest.services import Services
    from bg_ingest.services.access.authenticate import ApiKeys
    from bg_ingest.services.access.rotate_keys import RotationResult

SHARE_NAME, SHARE_SCOPE = "share link", "readings:read"
"""Defaults of a key in a share link."""

ALL_USERS_LINK_NAME = "page"
"""Default name of a key in a link to all users."""

SCOPES = ("readings:read", "connections:read", "connections:write", "admin")

FIRST_KEY = (
    "This is the first key. Within seconds, every request to the API of this development service needs a key, "
    "also the requests of its page. To open the page with a key of your own: "
    f"bg-ingest keys create --link --days 30 {' '.join(f'--scope {scope}' for scope in SCOPES)}"
)


@click.group()
def keys() -> None:
    """Manage API keys and the keys that encrypt stored secrets."""


@keys.command()
@click.option("--name", help="Name of the key, such as its caller and purpose.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(SCOPES),
    help="Permission of the key; repeatable.",
)
@click.option(
    "--user",
    "users",
    multiple=True,
    metavar="ID",
    help="User that the key gives access to; repeatable. Default: all users.",
)
@click.option("--days", type=click.IntRange(1, 3650), help="Days until the key expires. Default: never.")
@click.option("--link", "as_link", is_flag=True, help="Print an address that opens the page with the key.")
@json_option
def create(
    name: str | None, scopes: Sequence[str], users: Sequence[str], days: int | None, *, as_link: bool, as_json: bool
) -> None:
    """Create a key and show it once: only its hash is stored.

    Standard output holds the key or the link alone, so that a script can read it. A link for one user is a share link:
    it needs --days; the name is "share link" and the scope readings:read by default. A link to all users also needs
    --scope. This also works beside a running service, which accepts the key within seconds.
    """
    from bg_ingest.adapters.clock import SystemClock
    from bg_ingest.domain.access import known_scopes

    user_ids = [parse_user(user) for user in users]
    if as_link:
        _check_link(user_ids, days, scopes)
        name, scopes = name or (SHARE_NAME if user_ids else ALL_USERS_LINK_NAME), scopes or (SHARE_SCOPE,)
    if not name or not scopes:
        exit_usage("A key needs a --name and at least one --scope. A share link (--link) has both by default.")

    key_name = name

    async def create_key(api_keys: "ApiKeys") -> "tuple[ApiKey, str]":
        if read_settings().anonymous and not await api_keys.list():
            click.echo(FIRST_KEY, err=True)
        created = await api_keys.create(
            key_name,
            known_scopes(scopes),
            users=user_ids or None,
            ends_at=SystemClock().now() + timedelta(days=days) if days else None,
        )
        return created.key, created.text.reveal()

    key, text = run_with_api_keys(create_key)
    link = page_link(read_settings().public_url, text, next(iter(user_ids), None)) if as_link else None
    if as_json:
        print_json(_to_row(key) | {"key": text} | ({"link": link} if link else {}))
        return
    click.echo(link or text)
    click.echo(f"Save it now: it cannot be shown again. bg-ingest keys revoke {key.id} revokes it.", err=True)


def _check_link(user_ids: "Sequence[UserId]", days: int | None, scopes: Sequence[str]) -> None:
    if len(user_ids) > 1 or days is None or not (user_ids or scopes):
        exit_usage(
            "A share link shows one user for a limited time: add one --user and --days, such as --days 14. "
            "A link to all users needs --days and --scope."
        )
    if not read_settings().page:
        exit_usage("PAGE=false disables the page that a link opens: set PAGE=true first, or leave out --link.")


def page_link(origin: str, key: str, user: str | None) -> str:
    """Return the address of the page, or of one user's page. No server receives the fragment with key and user."""
    return f"{origin}/#{urlencode({'key': key} | ({'user': user} if user else {}))}"


@keys.command("list")
@json_option
def list_keys(*, as_json: bool) -> None:
    """Show all keys, also revoked and expired ones; never their secrets."""
    rows = [_to_row(key) for key in run_with_api_keys(lambda api_keys: api_keys.list())]
    if as_json:
        print_json(rows)
    elif not rows:
        click.echo("There is no key. bg-ingest keys create --name <name> --scope readings:read creates one.", err=True)
    else:
        _print_table(rows)


@keys.command()
@click.argument("key_id", metavar="ID")
def revoke(key_id: str) -> None:
    """Revoke a key by its id, the part between bgi_ and the next _.

    Every replica refuses the key within 30 seconds.
    """
    run_with_api_keys(lambda api_keys: api_keys.revoke(key_id))
    click.echo(f"{key_id} is revoked.")


@keys.command("create-encryption")
@click.option("--kms", "kms_key", metavar="KEY", help="Key of AWS KMS that wraps the new key: id, ARN or alias/….")
@click.option("--region", envvar="AWS_REGION", help="Region of the KMS key. Default: AWS_REGION, then AWS's own rules.")
def create_encryption(kms_key: str | None, region: str | None) -> None:
    """Create a key for TOKEN_ENCRYPTION_KEYS and print it; nothing is changed.

    With --kms the plain key is never visible, not even to this command: the printed key opens nothing without AWS KMS.
    The command needs the permission kms:GenerateDataKeyWithoutPlaintext; the service needs kms:Decrypt. The command
    works without valid settings.
    """
    import anyio

    from bg_ingest.errors import KeyUnavailable
    from bg_ingest.settings import SettingsError
    from bg_ingest.wiring.keys import create_sealing_key

    try:
        click.echo(anyio.run(create_sealing_key, kms_key, region))
    except SettingsError as wrong:
        exit_usage(str(wrong))
    except KeyUnavailable as unavailable:
        exit_failure(str(unavailable))
    click.echo("Append it to TOKEN_ENCRYPTION_KEYS, behind the present keys, and keep it safe.", err=True)


@keys.command("rotate-encryption")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON, for programs.")
def rotate_encryption(*, as_json: bool) -> None:
    """Seal every stored secret again, with the first of TOKEN_ENCRYPTION_KEYS.

    Secrets are all tokens, all quarantined records and the key of the audit. First add the new key on every replica,
    behind the old key, so that every replica can decrypt with it. Then move it to the front on every replica, and run
    this command. With DynamoDB the service keeps running; with SQLite, stop it first. The command can be interrupted
    and repeated. Its last line states that the other keys can be removed, or the reason to keep them.
    """

    async def rotate(services: "Services") -> "RotationResult":
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
            task = progress.add_task("sealing again")
            return await services.key_rotation.run(lambda done, of: progress.update(task, completed=done, total=of))

    result = run_with_services(rotate)
    if as_json:
        counts = {"sealed": result.sealed, "resealed": result.resealed}
        counts |= {"busy": result.busy, "unopened": result.unreadable}
        click.echo(json.dumps(counts | {"complete": result.complete}))
    else:
        click.echo(f"{result.sealed} sealed secrets, {result.resealed} of them sealed again by this run.", err=True)
    if result.unreadable:
        exit_failure(
            f"{result.unreadable} sealed items do not open with any of the keys. Keep all keys, add the missing one to "
            "TOKEN_ENCRYPTION_KEYS, and run this again."
        )
    if not result.complete:
        exit_failure(
            "Some sealed items are in use or have changed meanwhile. Keep all keys, and run this again in a minute."
        )
    if not as_json:
        click.echo("Everything is sealed by the first key: the others may be removed from TOKEN_ENCRYPTION_KEYS.")


def _to_row(key: "ApiKey") -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "users": None if key.users is None else sorted(key.users),
        "state": _key_state(key),
        "made_at": _format_instant(key.made_at),
        "ends_at": _format_instant(key.ends_at),
        "revoked_at": _format_instant(key.revoked_at),
        "used_at": _format_instant(key.used_at),
    }


def _key_state(key: "ApiKey") -> str:
    from bg_ingest.adapters.clock import SystemClock

    if key.revoked_at:
        return "revoked"
    return "expired" if key.ends_at and key.ends_at <= SystemClock().now() else "live"


def _format_instant(instant: datetime | None) -> str | None:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if instant else None


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("id", "name", "state", "scopes", "users", "created", "last used")
    for row in rows:
        users = "all" if row["users"] is None else ", ".join(row["users"]) or "none"
        cells = row["id"], row["name"], row["state"], " ".join(row["scopes"]), users, row["made_at"], row["used_at"]
        table.add_row(*(cell or "" for cell in cells))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
