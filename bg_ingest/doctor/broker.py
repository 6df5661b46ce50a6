"""Check of the broker, without changes to it. Like every check, it returns findings and raises nothing."""

from bg_ingest.adapters.rabbitmq.inspection import inspect_broker
from bg_ingest.doctor.finding import Finding, failed, ok, warning
from bg_ingest.errors import BrokerError
from bg_ingest.settings import Settings


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
