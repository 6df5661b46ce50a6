"""Checks of the broker, the issuers of tokens, the providers, and this machine's clock against theirs."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.request import getproxies, proxy_bypass

import httpx

from bg_ingest.adapters.jwt import JwksCache
from bg_ingest.adapters.rabbitmq.topology import QueueState, try_broker
from bg_ingest.doctor import Finding, failed, ok, warning
from bg_ingest.errors import BrokerError, BrokerRefused, IssuerUnavailable
from bg_ingest.ports import Clock
from bg_ingest.providers.http import translate_transport_errors
from bg_ingest.providers.http_client import http_client
from bg_ingest.settings import Settings
from bg_ingest.wiring.broker import event_queues

REQUEST_TIMEOUT = timedelta(seconds=10)

CLOCK_WARNING_SKEW = timedelta(seconds=30)
"""Larger than the error of any synchronised clock."""

CLOCK_FAILURE_SKEW = timedelta(minutes=5)
"""Tolerance of webhook signatures."""


BROKER_ADVICE = {
    "login": "check user, password and virtual host of RABBITMQ_URL, and the user's permissions on the virtual host",
    "exchange": "allow the user to configure bg.events, or create it: a durable exchange of type topic",
    "queue": "allow the user to configure and write the queue and to read bg.events, or create and bind it",
    "publish": "allow the user to write to bg.events with every routing key; bg.events must not be internal",
}
"""Advice by the refused part (``BrokerRefused.part``)."""


async def check_broker(settings: Settings) -> list[Finding]:
    """Connect, prepare exchange and queues, and try to publish, as the service does at its start."""
    if settings.rabbitmq_url is None:
        return []
    try:
        topology = await try_broker(settings.rabbitmq_url.get_secret_value(), event_queues(settings))
    except BrokerRefused as error:
        return [failed("broker", str(error), BROKER_ADVICE[error.part])]
    except BrokerError as error:
        return [
            failed("broker", str(error), "check RABBITMQ_URL, the broker, the network and, with amqps, certificates")
        ]
    findings = [ok("broker", "it accepts the credentials and events of every type")]
    if not topology.is_type_known:
        advice = "make sure that it is a topic exchange: this user has no right to find out"
        findings.append(warning("broker", "the exchange bg.events is used as it is", advice))
    return findings + [finding for state in topology.queues for finding in _check_queue(state)]


def _check_queue(state: QueueState) -> list[Finding]:
    name = state.queue.name
    findings = []
    if not state.is_binding_known:
        advice = "make sure that it is bound to bg.events with the routing key #: this user has no right to bind it"
        findings.append(warning("broker", f"the bindings of the queue {name} cannot be checked or changed", advice))
    if state.queue.max_age is not None:  # its events remain after they are read
        return [*findings, ok("broker", f"the stream {name} exists")]
    counts = f"{state.waiting} events wait, {state.consumers} consumers"
    is_idle = bool(state.waiting) and not state.consumers
    return [*findings, warning("broker", counts, "start a consumer") if is_idle else ok("broker", counts)]


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
        return [failed("provider", f"{name} at {_describe_route(url)}: {error}", "check network, proxy and DNS")]
    if response.status_code == httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
        state = f"{name} at {_describe_route(url)}: the proxy demands credentials"
        return [failed("provider", state, "add user and password to the address of the proxy")]
    finding = ok("provider", f"{name} answers at {httpx.URL(url).host}")
    if response.status_code >= 500:
        advice = "wait: the fault is on the provider's side"
        finding = warning("provider", f"{name} answers {response.status_code}", advice)
    return [finding, *_compare_clocks(name, response.headers.get("date", ""), clock.now())]


def _describe_route(url: str) -> str:
    """Return the host, and the variable of the proxy through which it is requested."""
    host, scheme, proxies = httpx.URL(url).host, httpx.URL(url).scheme, getproxies()
    if proxy_bypass(host):
        return host
    variables = (f"{kind.upper()}_PROXY" for kind in (scheme, "all") if kind in proxies)
    return f"{host} through the proxy of {variable}" if (variable := next(variables, None)) else host


async def check_issuers(settings: Settings) -> list[Finding]:
    """Read the keys of the issuers of tokens, as the service does for the first token."""
    issuers = (
        ("JWT", settings.jwt_issuer, settings.jwt_jwks_url),
        ("WEBHOOK_JWT", settings.webhook_jwt_issuer, settings.webhook_jwt_jwks_url),
    )
    findings = []
    async with http_client() as http:
        for prefix, issuer, keys_url in issuers:
            if issuer is not None:
                findings.append(await _check_issuer(prefix, JwksCache(http, issuer, keys_url)))
    return findings


async def _check_issuer(prefix: str, cache: JwksCache) -> Finding:
    try:
        keys = await cache.get(None)
    except IssuerUnavailable:
        advice = f"check {prefix}_ISSUER, {prefix}_JWKS_URL, network, proxy and certificates"
        return failed("issuer", f"the keys of {prefix}_ISSUER cannot be read: no token is accepted", advice)
    if not keys.keys:
        return failed("issuer", f"{prefix}_ISSUER publishes no usable key", f"check {prefix}_JWKS_URL")
    return ok("issuer", f"{prefix}_ISSUER publishes {len(keys.keys)} usable keys")


def _compare_clocks(provider: str, date: str, now: datetime) -> list[Finding]:
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
