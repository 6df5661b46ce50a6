"""``bg-ingest doctor``: everything the service needs, looked at from where it would run."""
# ruff: noqa: PLC0415 - help and wrong usage answer at once: what takes time to load is imported where it is used

import sys
from typing import TYPE_CHECKING

import rich_click as click

from bg_ingest.commands.context import read_settings
from bg_ingest.commands.output import FAILED, json_option, print_json, print_table

if TYPE_CHECKING:
    from bg_ingest.doctor.finding import Finding
    from bg_ingest.settings import Settings
    from bg_ingest.store import Store


@click.command()
@json_option
def doctor(*, as_json: bool) -> None:
    """Check what the service needs, and say what to do.

    Settings, the table and what may be done with it, whether the keys open what is stored, who can come in, the
    broker, the provider, the clock against the provider's, and this machine's limits. Nothing is changed, beyond what
    a first start makes.

    Exit codes: 0 it will run (there may be warnings), 1 something has to be mended, 2 the settings are wrong.
    """
    settings = read_settings()
    import anyio

    from bg_ingest.doctor.finding import Verdict

    findings = anyio.run(run_checks, settings)
    if as_json:
        print_json(findings)
    else:
        print_table(
            ("check", "", "found", "what to do"),
            [(each.check, each.verdict, each.found, each.advice) for each in findings],
        )
    if any(each.verdict is Verdict.FAILED for each in findings):
        sys.exit(FAILED)


async def run_checks(settings: "Settings") -> "list[Finding]":
    """Return all that was found, whatever is broken."""
    from bg_ingest.adapters.clock import SystemClock
    from bg_ingest.doctor.broker import check_broker
    from bg_ingest.doctor.machine import check_machine
    from bg_ingest.doctor.provider import check_providers
    from bg_ingest.doctor.settings import check_settings
    from bg_ingest.doctor.store import check_table
    from bg_ingest.server import MAX_FILES
    from bg_ingest.wiring.providers import provider_urls

    findings = check_settings(settings)
    findings += check_machine(MAX_FILES, settings.data_dir if settings.store == "sqlite" else None)
    findings += await check_table(settings)
    findings += await _check_store(settings)
    findings += await check_broker(settings)
    return findings + await check_providers(provider_urls(settings), SystemClock())


async def _check_store(settings: "Settings") -> "list[Finding]":
    from bg_ingest.adapters.clock import SystemClock
    from bg_ingest.doctor.finding import failed, ok
    from bg_ingest.doctor.settings import check_access
    from bg_ingest.doctor.store import REACH_ADVICE, check_rights
    from bg_ingest.errors import IngestError, StoreLocked
    from bg_ingest.settings import SettingsError
    from bg_ingest.wiring.store import open_for_inspection

    try:
        async with open_for_inspection(settings) as (table, store):
            now = SystemClock().now()
            findings = [*await check_rights(table, now), *await _check_keys(settings, store)]
            return findings + await check_access(settings, store.keys, now)
    except StoreLocked:
        return [ok("store", f"{settings.sqlite_file} is in use by the running service, which knows how it is")]
    except (IngestError, SettingsError) as broken:
        return [
            failed(
                "store", str(broken), REACH_ADVICE if settings.dynamodb_table else "check DATA_DIR and who may write it"
            )
        ]


async def _check_keys(settings: "Settings", store: "Store") -> "list[Finding]":
    from bg_ingest.doctor.finding import failed
    from bg_ingest.doctor.settings import check_wrapped
    from bg_ingest.doctor.store import check_keys
    from bg_ingest.errors import KeyUnavailable
    from bg_ingest.wiring.keys import build_sealer

    try:
        sealer = await build_sealer(settings)
    except KeyUnavailable as locked:
        return [failed("keys", locked.problem, locked.advice)]
    return [*check_wrapped(settings), *await check_keys(store, sealer, settings.dynamodb_table or "bg-ingest")]
