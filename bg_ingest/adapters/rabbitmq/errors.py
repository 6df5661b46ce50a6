"""Translation of aiormq's errors into those of ``Publisher``. Texts quote the broker, never a URL or an event."""

import asyncio  # noqa: TID251 - aiormq runs on asyncio alone, and only an asyncio task shows its cancellation
from collections.abc import Iterator
from contextlib import contextmanager

from aiormq.exceptions import (
    AMQPChannelError,
    AMQPConnectionError,
    AuthenticationError,
    ChannelAccessRefused,
    ChannelLockedResource,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
    InvalidFrameError,
    ProbableAuthenticationError,
    PublishError,
)

from bg_ingest.errors import BrokerError, BrokerRefused, BrokerUnavailable, EventRefused

REFUSALS = (ChannelAccessRefused, ChannelLockedResource, ChannelNotFoundEntity, ChannelPreconditionFailed)
"""Answers of the broker that stay the same if the request is repeated."""


class Unroutable(EventRefused):
    """No queue receives the event, so the event waits.

    Bind a queue to bg.events, or unset RABBITMQ_QUEUE and RABBITMQ_STREAM to discard such events.
    """


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise a BrokerError for any error in the body. The body must call aiormq only."""
    try:
        yield
    except BrokerError:
        raise
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


@contextmanager
def name_refusals(part: str, subject: str) -> Iterator[None]:
    """Raise BrokerRefused with ``part`` if the broker refuses a request in the body. The text has ``subject``."""
    try:
        yield
    except REFUSALS as error:
        raise BrokerRefused(part, f"RabbitMQ refuses {subject}: {_text_of(error)}") from None


def connection_lost(error: BaseException | None) -> BrokerUnavailable:
    """Return the error for a connection that ended, or could not be opened, because of ``error``."""
    match error:
        case AuthenticationError() | ProbableAuthenticationError():
            return BrokerRefused("login", f"RabbitMQ refuses the login: {_text_of(error)}")
        case InvalidFrameError() if "Connection.OpenOk" in str(error):  # the login succeeded
            text = "RabbitMQ refuses the virtual host: it is missing, closed to this user, or has no connection left."
            return BrokerRefused("login", text)
        case InvalidFrameError():  # its text may quote an event
            return BrokerUnavailable("The server sent an unexpected frame: is it RabbitMQ?")
        case TimeoutError():
            return BrokerUnavailable("RabbitMQ did not answer in time.")
        case AMQPConnectionError() | AMQPChannelError() | OSError():
            return BrokerUnavailable(f"RabbitMQ was lost: {_text_of(error)}")
    return BrokerUnavailable(f"RabbitMQ was lost: {type(error).__name__}" if error else "RabbitMQ was lost.")


def _text_of(error: BaseException) -> str:
    return " ".join(map(str, error.args)) or type(error).__name__


def _is_cancelled() -> bool:
    """Distinguish a cancelled task from a lost connection: aiormq raises CancelledError for both."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
