"""``bg-ingest keys create-encryption`` and ``rotate-encryption``: the keys that seal stored secrets."""
# ruff: noqa: PLC0415 - help and wrong usage answer at once: slow imports stand in the functions that need them

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
@click.option("--kms", "kms_key", metavar="KEY", help="Key of AWS KMS that wraps it: id, ARN or alias/….")
@click.option("--region", envvar="AWS_REGION", help="Region of that key. Default: AWS_REGION, then AWS's own rules.")
def create_encryption(kms_key: str | None, region: str | None) -> None:
    """Create a key for TOKEN_ENCRYPTION_KEYS and print it; nothing is changed.

    With --kms the plain key is never visible, not even here: the printed key opens nothing without AWS KMS. This
    command needs kms:GenerateDataKeyWithoutPlaintext, the service kms:Decrypt. It works without valid settings.
    """
    import anyio

    from bg_ingest.errors import KeyUnavailable
    from bg_ingest.wiring.keys import create_sealing_key

    try:
        click.echo(anyio.run(create_sealing_key, kms_key, region))
    except KeyUnavailable as unavailable:
        exit_failure(str(unavailable))
    click.echo("Append it to TOKEN_ENCRYPTION_KEYS, behind the present keys, and keep it safe.", err=True)


@click.command("rotate-encryption")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON, for programs.")
def rotate_encryption(*, as_json: bool) -> None:
    """Seal all tokens and quarantined records again, with the first of TOKEN_ENCRYPTION_KEYS.

    Give every replica the new key before: first behind the old one, so that each opens the seals of all; then in front
    of it. Then run this command beside the running service. It may be stopped and repeated. At the end it says
    whether the other keys may be removed.
    """

    async def rotate(_: "Settings", services: "Services") -> "RotationResult":
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
        click.echo(f"{result.sealed} sealed, {result.resealed} of them now.", err=True)
    if result.unreadable:
        exit_failure(
            f"{result.unreadable} do not open with any of the keys. Keep all keys, add the missing one to "
            "TOKEN_ENCRYPTION_KEYS, and run this again."
        )
    if not result.complete:
        exit_failure("Some have changed meanwhile or are in use. Keep all keys, and run this again in a minute.")
    if not as_json:
        click.echo("Everything is sealed by the first key: the others may be removed from TOKEN_ENCRYPTION_KEYS.")
