"""``bg-ingest tables``: what has to be made before the first start with DynamoDB."""
# ruff: noqa: PLC0415 - help and wrong usage answer at once: what takes time to load is imported where it is used

import rich_click as click

from bg_ingest.commands.context import read_settings
from bg_ingest.commands.output import exit_failure


@click.group()
def tables() -> None:
    """The table in DynamoDB."""


@tables.command()
def create() -> None:
    """Make the table, or put an existing one right; run again, it changes nothing.

    Billed by request, expiry on; protected from deletion and with point-in-time recovery where the server has them.
    """
    settings = read_settings()
    if settings.dynamodb_table is None:
        click.echo(f"No DYNAMODB_TABLE: readings are kept in {settings.sqlite_file}, which needs nothing made.")
        return
    import anyio

    from bg_ingest.errors import StoreError
    from bg_ingest.wiring.store import create_table

    try:
        report = anyio.run(create_table, settings)
    except StoreError as error:
        exit_failure(str(error))
    click.echo("\n".join(report))
