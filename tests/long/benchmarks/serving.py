"""The service as a process on ministack and RabbitMQ, for benchmarks that count its work."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import httpx

from tests.harness.web import web
from tests.harness.webhook_sender import SECRET
from tests.integration.processes import free_port
from tests.integration.servers import REGION
from tests.long.chaos.processes import Process, service_settings
from tests.long.chaos.real_parts import QUEUE, TABLE, RealParts


def settings_on(parts: RealParts) -> dict[str, str]:
    return {
        "DYNAMODB_ENDPOINT": f"http://127.0.0.1:{parts.dynamodb.port}",
        "DYNAMODB_TABLE": TABLE,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "RABBITMQ_URL": parts.url,
        "RABBITMQ_QUEUE": QUEUE,
        "WEBHOOK_SIGNING_SECRETS": SECRET,
        "BACKFILL_DAYS": "0",
        "REQUESTS_PER_SECOND": "100000",
        "WEBHOOKS_PER_SECOND": "100000",
    }


@contextmanager
def running(folder: Path, settings: dict[str, str], module: str, *arguments: str) -> Iterator[Process]:
    port = free_port()
    own = service_settings(folder, port) | settings
    with Process(folder, "service", module, *arguments, port=port, **own) as service:
        service.get_ready()
        yield service


def listens(process: Process) -> bool:
    try:
        web.get(process.url)
    except httpx.TransportError:
        return False
    return True


def shown(figures: Sequence[float], form: str = "{:,.1f}") -> str:
    return form.format(median(figures)) + "  (" + ", ".join(form.format(each) for each in figures) + ")"
