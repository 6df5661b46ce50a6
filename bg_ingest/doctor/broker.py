"""Whether the broker takes events."""

from bg_ingest.adapters.rabbitmq.inspection import inspect_broker
from bg_ingest.doctor.finding import Finding, failed, ok, warning
from bg_ingest.errors import BrokerError
from bg_ingest.settings import Settings


async def check_broker(settings: Settings) -> list[Finding]:
    """Connect, and look at the exchange and the queue without making either."""
    if settings.rabbitmq_url is None:
        return []
    try:
        found = await inspect_broker(settings.rabbitmq_url.get_secret_value(), settings.rabbitmq_queue)
    except BrokerError as broken:
        advice = "check RABBITMQ_URL: host, user, password, virtual host"
        return [failed("broker", str(broken), advice)]
    findings = [ok("broker", "it can be reached, and lets us in")]
    if not found.exchange:
        findings.append(warning("broker", "the exchange bg.events is not there", "the first start makes it"))
    if settings.rabbitmq_queue is None:
        return findings
    if found.waiting is None:
        findings.append(warning("broker", f"no queue {settings.rabbitmq_queue}", "the first start makes it"))
    else:
        consumers = f"{found.waiting} events wait, {found.consumers} consumers"
        idle = found.waiting > 0 and not found.consumers
        findings.append(warning("broker", consumers, "start a consumer") if idle else ok("broker", consumers))
    return findings
