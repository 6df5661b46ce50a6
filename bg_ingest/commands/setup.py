"""``bg-ingest doctor`` and ``tables``: checks of the service's dependencies, and creation of its table."""

import sys
from typing import TYPE_CHECKING

import rich_click as click

from bg_ingest.commands.context import (
    FAILED,
    exit_failure,
    json_option,
    log_only_warnings,
    print_json,
    print_table,
    read_settings,
    run_with_services,
)

if TYPE_CHECKING:
    from bg_ingest.doctor import Finding
    from bg_ingest.services import Services
    from bg_ingest.settings import Settings


@click.command()
@json_option
def doctor(*, as_json: bool) -> None:
    """Check everything that the service depends on, with advice for each failure.

    The checks cover the settings, the table and the rights on it, the stored keys, access to the API, unpublished
    events, the broker, the issuers of tokens, the exporter of traces, the provider, the difference of this clock from
    the provider's, and this machine's limits. Nothing is changed, except that a missing SQLite file, exchange or queue
    is created, as at the first start.

    Exit codes: 0 the service will run (there may be warnings), 1 a failure must be repaired, 2 the settings are wrong.
    """
    settings = read_settings()
    import anyio

    from bg_ingest.doctor import Verdict

    log_only_warnings(settings)
    findings = anyio.run(run_checks, settings)
    if as_json:
        print_json(findings)
    else:
        rows = [(finding.check, finding.verdict, finding.found, finding.advice) for finding in findings]
        print_table(("check", "", "found", "what to do"), rows)
    if any(finding.verdict is Verdict.FAILED for finding in findings):
        sys.exit(FAILED)


async def run_checks(settings: "Settings") -> "list[Finding]":
    """Return the findings of all checks; a failed check does not stop the others."""
    from bg_ingest.adapters.clock import SystemClock
    from bg_ingest.doctor.local import check_machine, check_settings, check_traces
    from bg_ingest.doctor.remote import check_broker, check_issuers, check_providers
    from bg_ingest.doctor.store import check_store, check_table
    from bg_ingest.server import MAX_FILES
    from bg_ingest.wiring.providers import provider_urls

    findings = check_settings(settings)
    findings += check_machine(MAX_FILES, settings.data_dir if settings.store == "sqlite" else None)
    findings += await check_table(settings)
    findings += await check_store(settings, SystemClock())
    findings += await check_broker(settings)
    findings += await check_issuers(settings)
    findings += await check_traces(settings)
    return findings + await check_providers(provider_urls(settings), SystemClock())


@click.group()
def tables() -> None:
    """Create the table in DynamoDB, or upgrade stored data."""


@tables.command()
def create() -> None:
    """Create the table, or correct the options of an existing one; a second run changes nothing.

    The table is billed by request, and its rows can expire. Deletion protection and point-in-time recovery are turned
    on if the server has them.
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


@tables.command()
def upgrade() -> None:
    """Add the rows that a new version needs for existing data, by one scan; a second run changes nothing.

    With DynamoDB, the service may run meanwhile.
    """

    async def upgrade_table(services: "Services") -> int:
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
            task = progress.add_task("reading the table")
            return await services.user_list.upgrade(lambda done, of: progress.update(task, completed=done, total=of))

    click.echo(f"The list of users is complete: {run_with_services(upgrade_table)} users.")
