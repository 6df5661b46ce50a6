"""``bg-ingest dataset`` writes the readings of any number of users to Parquet files, with a manifest."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from bg_ingest.commands.connection_target import from_option, parse_instant
from bg_ingest.commands.context import exit_failure, exit_usage, parse_user, run_with_services

if TYPE_CHECKING:
    from bg_ingest.commands.dataset_parts import Plan
    from bg_ingest.domain.ids import UserId
    from bg_ingest.services import Services


@click.command()
@click.option("--users", "users_file", metavar="FILE", type=click.Path(path_type=Path), help="One user id per line.")
@click.option("--all", "all_users", is_flag=True, help="All users of the service.")
@from_option
@click.option("--to", "end", metavar="TIME", help="Same form as --from, exclusive. Default: the time of --as-of.")
@click.option("--as-of", metavar="TIME", help="Readings as known at this time. Default: a minute ago.")
@click.option(
    "--versions",
    type=click.Choice(["last", "all"]),
    default="last",
    help="The last value of each reading, or all values.",
)
@click.option("--out", "folder", metavar="DIR", required=True, type=click.Path(path_type=Path), help="New directory.")
def dataset(
    users_file: Path | None,
    start: str | None,
    end: str | None,
    as_of: str | None,
    versions: str,
    folder: Path,
    *,
    all_users: bool,
) -> None:
    """Write a dataset: Parquet files (parts) of 1,000 users each, and a manifest with the digest of each part.

    manifest.json is written last: without it the dataset is incomplete. The same command continues an interrupted run;
    complete parts stay. Without --as-of, all runs use the as-of time of the first run.
    """
    from bg_ingest.commands.dataset_parts import DatasetFolder, Options

    if all_users == (users_file is not None):
        exit_usage("Choose the users: either --users FILE or --all.")
    first, last, known_at = parse_instant("--from", start), parse_instant("--to", end), parse_instant("--as-of", as_of)
    now = datetime.now(UTC)  # noqa: TID251 - a command
    if first is None or first >= (last or known_at or now):
        exit_usage("Give --from, the start of the window; it must be before --to.")
    if known_at and known_at > now - timedelta(minutes=1):
        exit_usage("--as-of must be at least a minute ago: until then the data may still change.")
    users = _read_users(users_file) if users_file else None
    target, options = DatasetFolder(folder), Options(first, last, known_at, versions, users)

    async def write(services: "Services") -> "Plan":
        from rich.console import Console
        from rich.progress import Progress

        plan = earlier_plan or await target.start(options, services)
        with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
            task = progress.add_task("writing parts", total=plan.number_of_parts, completed=len(plan.parts))
            return await target.write(plan, services, lambda: progress.advance(task))

    try:
        earlier_plan = target.read_plan(options)
        plan = run_with_services(write)
    except ValueError as error:
        exit_usage(str(error))
    except OSError as error:
        exit_failure(f"{folder} cannot be written: {error.strerror}. Repeat the command to continue.")
    click.echo(f"{plan.rows} rows of {len(plan.users)} users, {plan.number_of_parts} parts: {target.manifest_file}")


def _read_users(file: Path) -> "tuple[UserId, ...]":
    try:
        lines = file.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError):
        exit_usage(f"{file} cannot be read: --users names a text file with one user id per line.")
    users = tuple(sorted({parse_user(line) for line in lines}))
    return users or exit_usage(f"{file} has no user id: write one per line.")
