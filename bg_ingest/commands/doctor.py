"""``bg-ingest doctor``: checks of everything that the service needs, from the machine on which it would run."""
# ruff: noqa: PLC0415 - help and wrong usage answer at once: slow imports stand in the functions that need them

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
    """Check the needs of the service, and say what to do.

    Settings, the table and the rights on it, the keys of the stored grants, access to the API, the broker, the
    provider, this clock against the provider's, and this machine's limits. Nothing is changed, except that a missing
    store is created as by a first start.

    Exit codes: 0 the service will run (there may be warnings), 1 a failure must be repaired, 2 the settings are wrong.
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
            [(finding.check, finding.verdict, finding.found, finding.advice) for finding in findings],
        )
    if any(finding.verdict is Verdict.FAILED for finding in findings):
        sys.exit(FAILED)


async def run_checks(settings: "Settings") -> "list[Finding]":
    """Return the findings of all checks, whichever of them fail."""
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
        return [ok("store", f"{settings.sqlite_file} is in use by the running service, which reports its own state")]
    except (IngestError, SettingsError) as error:
        return [
            failed(
                "store", str(error), REACH_ADVICE if settings.dynamodb_table else "check DATA_DIR and its permissions"
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
    except KeyUnavailable as error:
        return [failed("keys", error.problem, error.advice)]
    return [*check_wrapped(settings), *await check_keys(store, sealer, settings.dynamodb_table or "bg-ingest")]
