"""What the settings leave out."""

from datetime import datetime

from bg_ingest.doctor.finding import Finding, ok, warning
from bg_ingest.settings import Settings
from bg_ingest.settings.types import WrappedKey, is_loopback
from bg_ingest.store.api_keys import ApiKeyStore


def check_settings(settings: Settings) -> list[Finding]:
    """Return what stands in for what is not set; that they are valid is known."""
    findings = [ok("settings", f"valid, for {settings.environment}")]
    findings += [ok("settings", line) for line in settings.fallbacks()]
    findings += [warning("settings", line, "take it out, or correct the name") for line in settings.notes]
    if not settings.webhook_signing_secrets:
        findings.append(ok("webhooks", "no WEBHOOK_SIGNING_SECRETS: every webhook is refused"))
    return findings


def check_wrapped(settings: Settings) -> list[Finding]:
    """Tell of the keys that AWS KMS has unwrapped."""
    keys = settings.token_encryption_keys
    wrapped = sum(isinstance(key, WrappedKey) for key in keys)
    return [ok("keys", f"AWS KMS unwraps {wrapped} of {len(keys)}")] if wrapped else []


async def check_access(settings: Settings, keys: ApiKeyStore, now: datetime) -> list[Finding]:
    """Tell where nobody can, and where everybody can who reaches more than this machine."""
    made = await keys.read_all()
    if settings.anonymous and not made:
        if is_loopback(settings.host):
            return [ok("api", "open to this machine until a key is made")]
        found = f"whoever reaches {settings.host}:{settings.port} sees and changes everything"
        return [warning("api", found, "make a key (bg-ingest keys create), or unset HOST and API_OPEN")]
    live = sum(key.is_valid(now) for key in made)
    if settings.jwt_issuer is None and settings.api_bootstrap_key is None and not live:
        advice = "make a key (bg-ingest keys create), or set JWT_ISSUER"
        return [warning("api", "nobody can come in: no key that still holds, no issuer", advice)]
    ways = (
        (settings.jwt_issuer, "tokens of JWT_ISSUER"),
        (settings.api_bootstrap_key, "API_BOOTSTRAP_KEY"),
        (live, f"API keys ({live})"),
    )
    return [ok("api", f"what lets in: {', '.join(way for there, way in ways if there)}")]
