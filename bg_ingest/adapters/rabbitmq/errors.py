"""What aiormq raises, as what a publisher may raise. Texts hold what the broker said, never a URL or an event."""

import asyncio  # noqa: TID251 - aiormq runs on asyncio alone, and only its tasks tell who was cancelled
from collections.abc import Iterator
from contextlib import contextmanager

from aiormq.exceptions import AMQPChannelError, AMQPConnectionError, DeliveryError, InvalidFrameError, PublishError

from bg_ingest.errors import BrokerUnavailable, EventRefused


class Unroutable(EventRefused):
    """No queue is there to receive the event."""


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise BrokerErrors for whatever aiormq raises in the body, which does nothing but call it."""
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
    except Exception as error:  # noqa: BLE001 - it may be any, also a bare Exception, that says the connection ended
        raise connection_lost(error) from None


def connection_lost(error: BaseException | None) -> BrokerUnavailable:
    """Return the error for a connection that ended, or never began, for this reason."""
    match error:
        case TimeoutError():
            return BrokerUnavailable("RabbitMQ did not answer in time.")
        case AMQPConnectionError() | AMQPChannelError() | OSError():
            text = " ".join(map(str, error.args))
            return BrokerUnavailable(f"RabbitMQ was lost: {text or type(error).__name__}")
        case InvalidFrameError():  # its text may hold an event
            return BrokerUnavailable("RabbitMQ said something unexpected. At a start: does the virtual host exist?")
        case None:
            return BrokerUnavailable("RabbitMQ was lost.")
        case _:
            return BrokerUnavailable(f"RabbitMQ was lost: {type(error).__name__}")


def _is_cancelled() -> bool:
    """Whether this very task is to end: aiormq raises CancelledError also where only its connection did."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
