"""Who can come in."""

from datetime import datetime

from bg_ingest.doctor.finding import Finding, ok, warning
from bg_ingest.settings import Settings
from bg_ingest.settings.types import is_loopback
from bg_ingest.store.api_keys import ApiKeyStore


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
