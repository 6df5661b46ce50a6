"""``bg-ingest quarantine``: the records that could not be read."""
# ruff: noqa: PLC0415 - help and wrong usage answer at once: what takes time to load is imported where it is used

from collections import Counter
from typing import TYPE_CHECKING

import rich_click as click

from bg_ingest.commands.context import parse_user, run_with_services
from bg_ingest.commands.output import exit_failure, exit_usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from bg_ingest.domain.ids import UserId
    from bg_ingest.services import Services
    from bg_ingest.services.polling.quarantine_review import ReviewedRecord
    from bg_ingest.settings import Settings

SHORT_DIGITS = 12
"""Digits of a record's name that are shown in tables: enough that two hardly ever begin alike."""

user_argument = click.argument("user", metavar="USER")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")


@click.group()
def quarantine() -> None:
    """Records of providers that could not be read.

    They are kept sealed, with the reason, while the rest of their page is stored. After the translation was
    mended, retry releases them as readings; drop forgets those that mean nothing.
    """


@quarantine.command("list")
@click.argument("user", required=False)
@json_option
def list_records(user: str | None, *, as_json: bool) -> None:
    """Show which records are set aside, of one user or of everybody who is connected; no values.

    Each line has the user, the record's name, the reason, the segment of six hours it belongs to (- where it has
    no time), and when it was noticed.
    """

    async def show(_: "Settings", services: "Services") -> Counter[str]:
        reasons: Counter[str] = Counter()
        async for reviewed in _iter_records(services, user):
            click.echo(_to_json(reviewed) if as_json else _format_line(reviewed))
            reasons[reviewed.record.reason] += 1
        return reasons

    reasons = run_with_services(show)
    if not as_json:
        counts_text = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        click.echo(f"{reasons.total()} set aside{': ' * bool(counts_text)}{counts_text}", err=True)


@quarantine.command("show")
@user_argument
@click.argument("record")
@click.option("--raw", is_flag=True, help="Print the record itself. It is health data: mind where it goes.")
def show_record(user: str, record: str, *, raw: bool) -> None:
    """Show one record: what is known of it, and with --raw the record as it came."""

    async def show(_: "Settings", services: "Services") -> None:
        reviewed = await services.quarantine_review.find(parse_user(user), record)
        content = services.quarantine_review.open_record(reviewed)
        if raw:
            click.echo(content)
            return
        click.echo(_format_line(reviewed, whole_name=True))
        if services.quarantine_review.is_truncated(reviewed):
            click.echo(f"Only its first {len(content)} bytes were kept: it cannot be translated again, only dropped.")

    run_with_services(show)


@quarantine.command("retry")
@click.argument("user", required=False)
@click.argument("records", nargs=-1)
@json_option
def retry_records(user: str | None, records: tuple[str, ...], *, as_json: bool) -> None:
    """Translate records again and release those that can be read now.

    Without RECORDS all of the user's; without USER everybody's. A released record is stored and told as a reading
    (origin quarantine) and is not set aside any more. One that contradicts what was stored since is left: drop it.
    """

    async def retry(_: "Settings", services: "Services") -> Counter[str]:
        results: Counter[str] = Counter()
        for reviewed in [each async for each in _iter_records(services, user, records)]:
            ended = await services.quarantine_review.retry(reviewed)
            click.echo(_to_json(reviewed, ended=ended) if as_json else f"{_format_line(reviewed)}  {ended}")
            results[ended] += 1
        return results

    results = run_with_services(retry)
    if not as_json:
        counts_text = ", ".join(f"{count} {ended}" for ended, count in results.most_common())
        click.echo(counts_text or "Nothing is set aside.", err=True)


@quarantine.command("drop")
@user_argument
@click.argument("records", nargs=-1)
@click.option("--reason", help="Drop all of the user's records that have this reason.")
def drop_records(user: str, records: tuple[str, ...], reason: str | None) -> None:
    """Forget records for good; sent again, they are not set aside again."""
    if bool(records) == bool(reason):
        exit_usage("Name the records to drop, or give a --reason: bg-ingest quarantine list shows both.")

    async def drop(_: "Settings", services: "Services") -> int:
        found = [each async for each in _iter_records(services, user, records)]
        dropped = [each for each in found if reason in {None, each.record.reason}]
        for reviewed in dropped:
            await services.quarantine_review.drop(reviewed)
        return len(dropped)

    dropped = run_with_services(drop)
    if not dropped:
        exit_failure("Nothing of this user is set aside for that reason: bg-ingest quarantine list shows what is.")
    click.echo(f"Dropped {dropped}.")


async def _iter_records(
    services: "Services", user: str | None, records: tuple[str, ...] = ()
) -> "AsyncGenerator[ReviewedRecord]":
    """Yield the records that are named, or all of a user, or of everybody who is connected."""
    if user is None:
        for each in await _all_users(services):
            async for reviewed in services.quarantine_review.iter_records(each):
                yield reviewed
        return
    for name in records:
        yield await services.quarantine_review.find(parse_user(user), name)
    if not records:
        async for reviewed in services.quarantine_review.iter_records(parse_user(user)):
            yield reviewed


async def _all_users(services: "Services") -> "list[UserId]":
    from bg_ingest.domain.ids import SHARDS

    found: set[UserId] = set()
    for shard in range(SHARDS):
        found.update([each.id.user async for each in services.store.connections.iter_directory(shard)])
    return sorted(found)


def _format_line(reviewed: "ReviewedRecord", *, whole_name: bool = False) -> str:
    record, name = reviewed.record, reviewed.record.digest.hex()
    segment = f"{reviewed.segment:%Y-%m-%dT%HZ}" if reviewed.segment else "-"
    shown = name if whole_name else name[:SHORT_DIGITS]
    return f"{reviewed.user}  {shown}  {record.reason}  {segment}  {record.noticed_at:%Y-%m-%dT%H:%M:%SZ}"


def _to_json(reviewed: "ReviewedRecord", **more: str) -> bytes:
    import msgspec

    record = reviewed.record
    known = {
        "user": reviewed.user,
        "record": record.digest.hex(),
        "provider": record.provider or None,
        "reason": record.reason,
        "segment": reviewed.segment,
        "noticed_at": record.noticed_at.replace(microsecond=0),
    }
    return msgspec.json.encode(known | more)
