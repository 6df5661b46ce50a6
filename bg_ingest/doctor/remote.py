"""Checks of the broker, the providers, and this machine's clock against theirs. The checks only read."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx

from bg_ingest.adapters.rabbitmq.inspection import inspect_broker
from bg_ingest.doctor import Finding, failed, ok, warning
from bg_ingest.errors import BrokerError
from bg_ingest.ports import Clock
from bg_ingest.providers.http import http_client, translate_transport_errors
from bg_ingest.settings import Settings

REQUEST_TIMEOUT = timedelta(seconds=10)

CLOCK_WARNING_SKEW = timedelta(seconds=30)
"""Larger than the error of any synchronised clock."""

CLOCK_FAILURE_SKEW = timedelta(minutes=5)
"""Tolerance of webhook signatures and of windows."""


async def check_broker(settings: Settings) -> list[Finding]:
    """Connect and inspect the exchange and the queue, without creating either."""
    if settings.rabbitmq_url is None:
        return []
    try:
        state = await inspect_broker(settings.rabbitmq_url.get_secret_value(), settings.rabbitmq_queue)
    except BrokerError as error:
        advice = "check RABBITMQ_URL: host, user, password, virtual host"
        return [failed("broker", str(error), advice)]
    findings = [ok("broker", "it is reachable and accepts the credentials")]
    if not state.exchange:
        findings.append(warning("broker", "the exchange bg.events is missing", "the first start creates it"))
    if settings.rabbitmq_queue is None:
        return findings
    if state.waiting is None:
        findings.append(warning("broker", f"no queue {settings.rabbitmq_queue}", "the first start creates it"))
    else:
        consumers = f"{state.waiting} events wait, {state.consumers} consumers"
        idle = state.waiting > 0 and not state.consumers
        findings.append(warning("broker", consumers, "start a consumer") if idle else ok("broker", consumers))
    return findings


async def check_providers(addresses: Mapping[str, str], clock: Clock) -> list[Finding]:
    """Check each provider and the clock; ``addresses`` are URLs by provider."""
    async with http_client() as http:
        return [finding for name, url in addresses.items() for finding in await check_provider(name, url, http, clock)]


async def check_provider(name: str, url: str, http: httpx.AsyncClient, clock: Clock) -> list[Finding]:
    """Send a request without credentials. Any answer proves reachability, and its ``Date`` is the provider's time."""
    try:
        with translate_transport_errors(REQUEST_TIMEOUT):
            response = await http.get(url)
    except Exception as error:  # noqa: BLE001 - any error is a finding
        return [failed("provider", f"{name} at {httpx.URL(url).host}: {error}", "check network, proxy and DNS")]
    finding = ok("provider", f"{name} answers at {httpx.URL(url).host}")
    if response.status_code >= 500:
        advice = "wait: the fault is on the provider's side"
        finding = warning("provider", f"{name} answers {response.status_code}", advice)
    return [finding, *_clock(name, response.headers.get("date", ""), clock.now())]


def _clock(provider: str, date: str, now: datetime) -> list[Finding]:
    try:
        at = parsedate_to_datetime(date)
    except ValueError:
        return []
    skew = now - (at if at.tzinfo else at.replace(tzinfo=UTC))
    direction = "ahead of" if skew > timedelta(0) else "behind"
    text = f"this machine is {abs(skew.total_seconds()):.0f} seconds {direction} {provider}"
    if abs(skew) >= CLOCK_FAILURE_SKEW:
        return [failed("clock", text, "synchronise the clock (NTP): readings and signatures are refused otherwise")]
    return [
        warning("clock", text, "synchronise the clock (NTP)") if abs(skew) >= CLOCK_WARNING_SKEW else ok("clock", text)
    ]
