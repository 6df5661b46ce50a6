"""Translation of the library's errors."""

import asyncio  # noqa: TID251 - aiormq raises its errors

import anyio
import pytest
from aiormq.exceptions import (
    AMQPConnectionError,
    AuthenticationError,
    DeliveryError,
    InvalidFrameError,
    ProbableAuthenticationError,
    PublishError,
)

from bg_ingest.adapters.rabbitmq.errors import Unroutable, connection_lost, translate_errors
from bg_ingest.errors import BrokerRefused, BrokerUnavailable, EventRefused


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TimeoutError(), "RabbitMQ did not answer in time."),
        (AMQPConnectionError("refused", "by it"), "RabbitMQ was lost: refused by it"),
        (ConnectionResetError(), "RabbitMQ was lost: ConnectionResetError"),
        (InvalidFrameError("glucose"), "is it RabbitMQ"),
        (InvalidFrameError("Expected one of ['Connection.OpenOk'], got glucose"), "virtual host"),
        (AuthenticationError("PLAIN"), "refuses the login: PLAIN"),
        (ValueError("glucose"), "RabbitMQ was lost: ValueError"),
        (None, "RabbitMQ was lost."),
    ],
)
def test_the_reason_of_a_lost_connection_is_named_without_an_event(error: BaseException | None, says: str) -> None:
    text = str(connection_lost(error))
    assert says in text
    assert "glucose" not in text


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PublishError.__new__(PublishError), Unroutable),
        (DeliveryError.__new__(DeliveryError), EventRefused),
        (ConnectionResetError(), BrokerUnavailable),
        (ProbableAuthenticationError("ACCESS_REFUSED"), BrokerRefused),
        (Exception("anything"), BrokerUnavailable),
        (asyncio.CancelledError(), BrokerUnavailable),
    ],
)
async def test_each_error_of_the_library_becomes_one_of_ours(error: BaseException, expected: type[Exception]) -> None:
    with pytest.raises(expected) as raised, translate_errors():
        raise error
    assert type(raised.value) is expected
    assert raised.value.__suppress_context__


async def test_the_cancellation_of_the_task_itself_is_none_of_the_broker() -> None:
    with anyio.move_on_after(0.01) as scope, translate_errors():
        await anyio.sleep_forever()
    assert scope.cancelled_caught
