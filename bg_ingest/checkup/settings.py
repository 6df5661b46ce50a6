"""What the settings leave out."""

from bg_ingest.checkup.finding import Finding, ok, warning
from bg_ingest.settings import Settings


def check_settings(settings: Settings) -> list[Finding]:
    """Return what stands in for what is not set, and what is open; that they are valid is known."""
    findings = [ok("settings", f"valid, for {settings.environment}")]
    findings += [ok("settings", line) for line in settings.fallbacks()]
    findings += [warning("settings", line, "take it out, or correct the name") for line in settings.notes]
    if settings.anonymous and settings.environment != "development":
        findings.append(warning("api", "it asks nobody who they are", "set JWT_ISSUER, or make keys"))
    if not settings.webhook_signing_secrets:
        findings.append(ok("webhooks", "no WEBHOOK_SIGNING_SECRETS: every webhook is refused"))
    return findings
