"""Parts that use the broker: the publisher of events, and the hints between replicas."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from bg_ingest.ports import Broker, ChangeHints, Publisher
from bg_ingest.settings import Settings

if TYPE_CHECKING:
    from bg_ingest.adapters.rabbitmq.topology import EventQueue

SOURCE = "/bg-ingest"
"""Source of all CloudEvents."""

HintConnection: TypeAlias = Callable[..., Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class BrokerParts:
    """Publisher and hints, and the two actors that keep them connected. Embedded parts have no actors."""

    publisher: Publisher
    hints: ChangeHints
    broker: Broker | None = None
    hint_connection: HintConnection | None = None


def embedded_broker(*, is_only_replica: bool = True) -> BrokerParts:
    """Return parts that work inside this process only. They do not reach other replicas on the same store."""
    from bg_ingest.adapters.memory import MemoryHints, MemoryPublisher

    return BrokerParts(MemoryPublisher(SOURCE), MemoryHints(is_only_replica=is_only_replica))


def build_broker_parts(settings: Settings) -> BrokerParts:
    if settings.rabbitmq_url is None:
        return embedded_broker(is_only_replica=settings.store == "sqlite")
    from bg_ingest.adapters.rabbitmq.hints import RabbitHints
    from bg_ingest.adapters.rabbitmq.publisher import RabbitPublisher

    url = settings.rabbitmq_url.get_secret_value()
    publisher, hints = RabbitPublisher(url, SOURCE, queues=event_queues(settings)), RabbitHints(url)
    return BrokerParts(publisher, hints, publisher, hints)


def event_queues(settings: Settings) -> tuple["EventQueue", ...]:
    """Return the queues that the service binds. It declares an absent queue first."""
    from bg_ingest.adapters.rabbitmq.topology import EventQueue

    named = ((settings.rabbitmq_queue, None), (settings.rabbitmq_stream, settings.rabbitmq_stream_max_age))
    return tuple(EventQueue(name, max_age) for name, max_age in named if name)
