"""What the settings leave out."""

from bg_ingest.doctor.finding import Finding, ok, warning
from bg_ingest.settings import Settings
from bg_ingest.settings.types import WrappedKey


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
