"""Whether the provider can be reached, and has the time we have."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx

from bg_ingest.doctor.finding import Finding, failed, ok, warning
from bg_ingest.ports import Clock
from bg_ingest.providers.http import http_client, translate_transport_errors

REQUEST_TIMEOUT = timedelta(seconds=10)

CLOCK_WARNING_SKEW = timedelta(seconds=30)
"""Clocks this far apart are not kept in time; signatures of webhooks and windows bear 5 minutes."""

CLOCK_FAILURE_SKEW = timedelta(minutes=5)


async def check_providers(addresses: Mapping[str, str], clock: Clock) -> list[Finding]:
    """Ask each of these, given by name."""
    async with http_client() as http:
        return [each for name, url in addresses.items() for each in await check_provider(name, url, http, clock)]


async def check_provider(name: str, url: str, http: httpx.AsyncClient, clock: Clock) -> list[Finding]:
    """Ask without credentials: any answer shows that it is there, and what time it has."""
    try:
        with translate_transport_errors(REQUEST_TIMEOUT):
            response = await http.get(url)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what was found
        return [failed("provider", f"{name} at {httpx.URL(url).host}: {error}", "check network, proxy and DNS")]
    found = ok("provider", f"{name} answers at {httpx.URL(url).host}")
    if response.status_code >= 500:
        found = warning("provider", f"{name} answers {response.status_code}", "wait: its own trouble passes")
    return [found, *_clock(response.headers.get("date", ""), clock.now())]


def _clock(date: str, now: datetime) -> list[Finding]:
    try:
        at = parsedate_to_datetime(date)
    except ValueError:
        return []
    skew = now - (at if at.tzinfo else at.replace(tzinfo=UTC))
    text = f"this clock is {abs(skew.total_seconds()):.0f} seconds {'ahead of' if skew > timedelta(0) else 'behind'} it"
    if abs(skew) >= CLOCK_FAILURE_SKEW:
        return [failed("clock", text, "keep it in time (NTP): readings and signatures are refused like this")]
    return [warning("clock", text, "keep it in time (NTP)") if abs(skew) >= CLOCK_WARNING_SKEW else ok("clock", text)]
