"""``bg-ingest quarantine``: provider records that could not be translated."""

from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import rich_click as click

from bg_ingest.commands.context import exit_failure, exit_usage, parse_user, run_with_services

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from bg_ingest.domain.ids import UserId
    from bg_ingest.services import Services
    from bg_ingest.services.polling.quarantine_review import ReviewedRecord

user_argument = click.argument("user", metavar="USER")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")


@click.group()
def quarantine() -> None:
    """Provider records that could not be translated.

    They are stored sealed, with the reason, while the rest of their page is stored as readings. After a correction
    of the translation, retry releases them as readings; drop deletes records that will never become readings.
    """


@quarantine.command("list")
@click.argument("user", required=False)
@json_option
def list_records(user: str | None, *, as_json: bool) -> None:
    """Show the quarantined records of one user or of all connected users, without values.

    Each line has the user, the record's name, the reason, the segment of six hours (- for a record without time),
    and the time of quarantine.
    """

    async def show(services: "Services") -> Counter[str]:
        reasons: Counter[str] = Counter()
        async for reviewed in _iter_records(services, user):
            click.echo(_to_json(reviewed) if as_json else _format_line(reviewed))
            reasons[reviewed.record.reason] += 1
        return reasons

    reasons = run_with_services(show)
    if not as_json:
        counts_text = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        click.echo(f"{reasons.total()} quarantined{': ' * bool(counts_text)}{counts_text}", err=True)


@quarantine.command("show")
@user_argument
@click.argument("record")
@click.option("--raw", is_flag=True, help="Print the record itself. It is health data: keep it safe.")
def show_record(user: str, record: str, *, raw: bool) -> None:
    """Show the facts about one record, or with --raw the record as received."""

    async def show(services: "Services") -> None:
        reviewed = await services.quarantine_review.find(parse_user(user), record)
        content = services.quarantine_review.open_record(reviewed)
        if raw:
            click.echo(content)
            return
        click.echo(_format_line(reviewed, whole_name=True))
        if services.quarantine_review.is_truncated(reviewed):
            click.echo(f"Only its first {len(content)} bytes are stored: it cannot be translated again, only dropped.")

    run_with_services(show)


@quarantine.command("retry")
@click.argument("user", required=False)
@click.argument("records", nargs=-1)
@json_option
def retry_records(user: str | None, records: tuple[str, ...], *, as_json: bool) -> None:
    """Translate records again and release those that can be translated now.

    Without RECORDS all records of the user are retried, and without USER those of all users. A released record becomes
    a reading (origin quarantine), is published, and leaves the quarantine. A record whose reading is stored with
    another value stays: drop it. Each line ends with the result: released, already_stored, contradicted, no_room (the
    segment is full), unreadable, truncated, no_provider, no_key, or gone (not in quarantine any more).
    """
    from bg_ingest.errors import NotFound

    async def retry(services: "Services") -> Counter[str]:
        results: Counter[str] = Counter()
        async for reviewed in _iter_records(services, user, records):
            try:
                result: str = await services.quarantine_review.retry(reviewed)
            except NotFound:  # released or dropped by another process, or the user was erased
                result = "gone"
            click.echo(_to_json(reviewed, ended=result) if as_json else f"{_format_line(reviewed)}  {result}")
            results[result] += 1
        return results

    results = run_with_services(retry)
    if not as_json:
        counts_text = ", ".join(f"{count} {result}" for result, count in results.most_common())
        click.echo(counts_text or "Nothing is quarantined.", err=True)


@quarantine.command("drop")
@user_argument
@click.argument("records", nargs=-1)
@click.option("--reason", help="Drop all of the user's records that have this reason.")
def drop_records(user: str, records: tuple[str, ...], reason: str | None) -> None:
    """Delete records permanently. If the provider sends them again, they are not quarantined again."""
    if bool(records) == bool(reason):
        exit_usage("Name the records to drop, or give a --reason: bg-ingest quarantine list shows both.")

    from bg_ingest.errors import NotFound

    async def drop(services: "Services") -> int:
        dropped = 0
        async for reviewed in _iter_records(services, user, records):
            if reason in {None, reviewed.record.reason}:
                with suppress(NotFound):  # released or dropped by another process
                    await services.quarantine_review.drop(reviewed)
                    dropped += 1
        return dropped

    dropped = run_with_services(drop)
    if not dropped:
        exit_failure("No record of this user is quarantined for that reason: bg-ingest quarantine list shows all.")
    click.echo(f"Dropped {dropped}.")


async def _iter_records(
    services: "Services", user: str | None, records: tuple[str, ...] = ()
) -> "AsyncGenerator[ReviewedRecord]":
    """Yield the named records of a user, or all records of the user, or, without a user, those of all connected users.

    The records of one user are read before the first is yielded, because the caller may change the stored quarantine
    pages that hold them.
    """
    review = services.quarantine_review
    for chosen in [parse_user(user)] if user is not None else await _all_users(services):
        if records:
            named = [await review.find(chosen, name) for name in records]
        else:
            named = [reviewed async for reviewed in review.iter_records(chosen)]
        for reviewed in named:
            yield reviewed


async def _all_users(services: "Services") -> "list[UserId]":
    from bg_ingest.domain.ids import SHARDS

    users: set[UserId] = set()
    for shard in range(SHARDS):
        users.update([row.id.user async for row in services.store.connections.iter_directory(shard)])
    return sorted(users)


def _format_line(reviewed: "ReviewedRecord", *, whole_name: bool = False) -> str:
    record, name = reviewed.record, reviewed.record.digest.hex()
    segment = f"{reviewed.segment:%Y-%m-%dT%HZ}" if reviewed.segment else "-"
    shown = name if whole_name else name[:12]  # enough digits to make two equal ones very unlikely
    return f"{reviewed.user}  {shown}  {record.reason}  {segment}  {record.noticed_at:%Y-%m-%dT%H:%M:%SZ}"


def _to_json(reviewed: "ReviewedRecord", **more: str) -> bytes:
    import msgspec

    record = reviewed.record
    fields = {
        "user": reviewed.user,
        "record": record.digest.hex(),
        "provider": record.provider or None,
        "reason": record.reason,
        "segment": reviewed.segment,
        "noticed_at": record.noticed_at.replace(microsecond=0),
    }
    return msgspec.json.encode(fields | more)
