"""Checks of the settings: embedded parts, unknown names, wrapped keys, and access to the API."""

from datetime import datetime

from bg_ingest.doctor.finding import Finding, ok, warning
from bg_ingest.setting_types import WrappedKey, is_loopback
from bg_ingest.settings import Settings
from bg_ingest.store.api_keys import ApiKeyStore


def check_settings(settings: Settings) -> list[Finding]:
    """Return the embedded parts in use and the notes of valid settings."""
    findings = [ok("settings", f"valid, for {settings.environment}")]
    findings += [ok("settings", line) for line in settings.fallbacks()]
    findings += [warning("settings", line, "remove it, or correct the name") for line in settings.notes]
    if not settings.webhook_signing_secrets:
        findings.append(ok("webhooks", "no WEBHOOK_SIGNING_SECRETS: every webhook is refused"))
    return findings


def check_wrapped(settings: Settings) -> list[Finding]:
    """Return the number of keys that AWS KMS has unwrapped, if any."""
    keys = settings.token_encryption_keys
    wrapped = sum(isinstance(key, WrappedKey) for key in keys)
    return [ok("keys", f"AWS KMS unwraps {wrapped} of {len(keys)}")] if wrapped else []


async def check_access(settings: Settings, keys: ApiKeyStore, now: datetime) -> list[Finding]:
    """Warn if no client has access, and if the API is open to other machines."""
    api_keys = await keys.read_all()
    if settings.anonymous and not api_keys:
        if is_loopback(settings.host):
            return [ok("api", "open to this machine until a key is created")]
        state = f"any client that reaches {settings.host}:{settings.port} can read and change everything"
        return [warning("api", state, "create a key (bg-ingest keys create), or unset HOST and API_OPEN")]
    live = sum(key.is_valid(now) for key in api_keys)
    if settings.jwt_issuer is None and settings.api_bootstrap_key is None and not live:
        advice = "create a key (bg-ingest keys create), or set JWT_ISSUER"
        return [warning("api", "no client has access: no valid key, no issuer", advice)]
    ways = (
        (settings.jwt_issuer, "tokens of JWT_ISSUER"),
        (settings.api_bootstrap_key, "API_BOOTSTRAP_KEY"),
        (live, f"API keys ({live})"),
    )
    return [ok("api", f"access by: {', '.join(way for is_set, way in ways if is_set)}")]
