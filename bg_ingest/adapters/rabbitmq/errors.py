"""Translation of aiormq's errors into a publisher's. Texts quote the broker, never a URL or an event."""

import asyncio  # noqa: TID251 - aiormq runs on asyncio alone, and only a task knows whether it is cancelled
from collections.abc import Iterator
from contextlib import contextmanager

from aiormq.exceptions import AMQPChannelError, AMQPConnectionError, DeliveryError, InvalidFrameError, PublishError

from bg_ingest.errors import BrokerUnavailable, EventRefused


class Unroutable(EventRefused):
    """No queue receives the event, which stays in the outbox: bind a queue to the exchange, or unset RABBITMQ_QUEUE."""


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise a BrokerError for any error in the body, which only calls aiormq."""
    try:
        yield
    except PublishError:
        raise Unroutable from None
    except DeliveryError:
        raise EventRefused("RabbitMQ refuses the event: a queue is full or has failed.") from None
    except asyncio.CancelledError:
        if _is_cancelled():
            raise
        raise connection_lost(None) from None
    except Exception as error:  # noqa: BLE001 - aiormq raises errors of any class, also a bare Exception, for a lost connection
        raise connection_lost(error) from None


def connection_lost(error: BaseException | None) -> BrokerUnavailable:
    """Return the error for a connection that ended or could not be opened for this reason."""
    match error:
        case TimeoutError():
            return BrokerUnavailable("RabbitMQ did not answer in time.")
        case AMQPConnectionError() | AMQPChannelError() | OSError():
            text = " ".join(map(str, error.args))
            return BrokerUnavailable(f"RabbitMQ was lost: {text or type(error).__name__}")
        case InvalidFrameError():  # its text may quote an event
            return BrokerUnavailable("RabbitMQ sent an unexpected frame. At a start: does the virtual host exist?")
        case None:
            return BrokerUnavailable("RabbitMQ was lost.")
        case _:
            return BrokerUnavailable(f"RabbitMQ was lost: {type(error).__name__}")


def _is_cancelled() -> bool:
    """Distinguish a cancelled task from a lost connection: aiormq raises CancelledError for both."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
