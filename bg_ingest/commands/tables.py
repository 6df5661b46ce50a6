"""``bg-ingest tables``: creation of the table, before the first start with DynamoDB."""
# ruff: noqa: PLC0415 - help and wrong usage answer at once: slow imports stand in the functions that need them

import rich_click as click

from bg_ingest.commands.context import read_settings
from bg_ingest.commands.output import exit_failure


@click.group()
def tables() -> None:
    """The table in DynamoDB."""


@tables.command()
def create() -> None:
    """Create the table, or correct the options of an existing one; a second run changes nothing.

    Billed by request, with expiry; with deletion protection and point-in-time recovery if the server has them.
    """
    settings = read_settings()
    if settings.dynamodb_table is None:
        click.echo(f"No DYNAMODB_TABLE: readings are stored in {settings.sqlite_file}, which the first start creates.")
        return
    import anyio

    from bg_ingest.errors import StoreError
    from bg_ingest.wiring.store import create_table

    try:
        report = anyio.run(create_table, settings)
    except StoreError as error:
        exit_failure(str(error))
    click.echo("\n".join(report))
