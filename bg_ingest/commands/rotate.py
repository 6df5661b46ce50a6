"""``bg-ingest keys create-encryption`` and ``rotate-encryption``: the keys that seal what is stored."""
# ruff: noqa: PLC0415 - help and wrong usage answer at once: what takes time to load is imported where it is used

import json
import sys
from typing import TYPE_CHECKING

import rich_click as click

from bg_ingest.commands.context import run_with_services
from bg_ingest.commands.output import exit_failure

if TYPE_CHECKING:
    from bg_ingest.services import Services
    from bg_ingest.services.access.rotate_keys import RotationResult
    from bg_ingest.settings import Settings


@click.command("create-encryption")
@click.option("--kms", "kms_key", metavar="KEY", help="Have it wrapped by this key of AWS KMS: id, ARN or alias/….")
@click.option("--region", envvar="AWS_REGION", help="Where that key is. Without: AWS_REGION, then AWS's own rules.")
def create_encryption(kms_key: str | None, region: str | None) -> None:
    """Make a key for TOKEN_ENCRYPTION_KEYS and print it; nothing is changed.

    With --kms nobody sees the key itself, not even here: what is printed opens nothing without AWS KMS. It needs
    kms:GenerateDataKeyWithoutPlaintext, and the service kms:Decrypt. No setting needs to be valid: it may be the first.
    """
    import anyio

    from bg_ingest.errors import KeyUnavailable
    from bg_ingest.wiring.keys import create_sealing_key

    try:
        click.echo(anyio.run(create_sealing_key, kms_key, region))
    except KeyUnavailable as unavailable:
        exit_failure(str(unavailable))
    click.echo("Put it into TOKEN_ENCRYPTION_KEYS, behind the keys that are there, and keep it.", err=True)


@click.command("rotate-encryption")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON, for programs.")
def rotate_encryption(*, as_json: bool) -> None:
    """Seal all tokens and set-aside records anew, by the first of TOKEN_ENCRYPTION_KEYS.

    Give every replica the new key first: behind the old one, so that all open what any seals; then in front of it; then
    run this, beside the running service. It may be stopped and started again. At the end it says whether the other
    keys may be removed.
    """

    async def rotate(_: "Settings", services: "Services") -> "RotationResult":
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
            task = progress.add_task("sealing anew")
            return await services.key_rotation.run(lambda done, of: progress.update(task, completed=done, total=of))

    done = run_with_services(rotate)
    if as_json:
        counts = {"sealed": done.sealed, "resealed": done.resealed, "busy": done.busy, "unopened": done.unreadable}
        click.echo(json.dumps(counts | {"complete": done.complete}))
    else:
        click.echo(f"{done.sealed} sealed, {done.resealed} of them anew.", err=True)
    if done.unreadable:
        exit_failure(
            f"{done.unreadable} do not open with any of the keys. Keep all keys, add the one that is missing in "
            "TOKEN_ENCRYPTION_KEYS, and run this again."
        )
    if not done.complete:
        exit_failure("Some were changed meanwhile or are in use. Keep all keys, and run this again in a minute.")
    if not as_json:
        click.echo("Everything is sealed by the first key: the others may be removed from TOKEN_ENCRYPTION_KEYS.")
