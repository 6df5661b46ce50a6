"""Checks of the settings, the exporter of traces, access to the API, and the limits of this machine."""

import resource
import shutil
from datetime import datetime
from pathlib import Path

from bg_ingest.doctor import Finding, failed, ok, warning
from bg_ingest.errors import IngestError
from bg_ingest.setting_types import is_loopback
from bg_ingest.settings import Settings
from bg_ingest.store.api_keys import ApiKeyStore
from bg_ingest.wiring import open_tracing

MIN_FREE_BYTES = 1 << 30
"""Least free space for the SQLite file. It suffices for the readings and events of 1,000 users and one month: a user
who is polled every 15 minutes takes 1 MB a month."""


def check_settings(settings: Settings) -> list[Finding]:
    """Report the embedded parts in use, and warn of each setting without effect and of an unreadable secret."""
    findings = [ok("settings", f"valid, for {settings.environment}")]
    findings += [ok("settings", line) for line in settings.fallbacks()]
    findings += [warning("settings", line, "correct it, or remove it") for line in settings.notes]
    if not settings.webhook_signing_secrets:
        findings.append(ok("webhooks", "no WEBHOOK_SIGNING_SECRETS: every signed webhook is refused"))
    return findings


async def check_traces(settings: Settings) -> list[Finding]:
    """Open the exporter of traces, as the service does at its start; nothing is sent."""
    if settings.traces_endpoint is None:
        return []
    try:
        async with open_tracing(settings.traces_endpoint):
            return [ok("traces", "the exporter is installed")]
    except IngestError as error:
        return [failed("traces", str(error), "install or correct OpenTelemetry, or unset TRACES_ENDPOINT")]


async def check_access(settings: Settings, keys: ApiKeyStore, now: datetime) -> list[Finding]:
    """Warn if no client has access, and if the API is open to other machines."""
    api_keys = await keys.read_all()
    if settings.anonymous and not api_keys:
        if is_loopback(settings.host):
            return [ok("api", "open to this machine until a key is created")]
        state = f"any client that reaches {settings.host}:{settings.port} can read and change everything"
        return [warning("api", state, "create a key (bg-ingest keys create), or unset HOST and API_OPEN")]
    valid_keys = sum(key.is_valid(now) for key in api_keys)
    if settings.jwt_issuer is None and settings.api_bootstrap_key is None and not valid_keys:
        advice = "create a key (bg-ingest keys create), or set JWT_ISSUER"
        return [warning("api", "no client has access: no valid key, no issuer", advice)]
    ways = (
        (settings.jwt_issuer, "tokens of JWT_ISSUER"),
        (settings.api_bootstrap_key, "API_BOOTSTRAP_KEY"),
        (valid_keys, f"API keys ({valid_keys})"),
    )
    return [ok("api", f"access by: {', '.join(way for is_set, way in ways if is_set)}")]


def check_machine(needed: int, data_dir: Path | None) -> list[Finding]:
    """Compare the limit of open files with the needed number, and check the free space for ``data_dir`` if given.

    The folder need not exist yet.
    """
    return [_files(needed), *([_space(data_dir)] if data_dir else [])]


def _files(needed: int) -> Finding:
    """Check the hard limit, because the server raises its soft limit to the hard one."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY or files >= needed:
        return ok("limits", "enough open files")
    return warning(
        "limits", f"{files} open files allowed", f"raise it to {needed}: ulimit -n, or the container's nofile"
    )


def _space(folder: Path) -> Finding:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return failed("disk", f"{existing} cannot be checked ({error.strerror})", "choose another DATA_DIR")
    state = f"{free / 1e9:.1f} GB free for {folder}"
    return (
        ok("disk", state)
        if free >= MIN_FREE_BYTES
        else warning("disk", state, "make room: on a full disk nothing can be stored")
    )
