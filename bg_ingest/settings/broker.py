"""Settings of the message broker."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ValidationInfo

from bg_ingest.setting_types import BrokerUrl

MAX_QUEUE_NAME_BYTES = 255
"""Longest name in AMQP 0-9-1, in UTF-8."""


def _check_queue(name: str) -> str:
    if len(name.encode()) > MAX_QUEUE_NAME_BYTES:
        raise ValueError(f"should be the name of a queue, of at most {MAX_QUEUE_NAME_BYTES} bytes")
    return name


def _check_stream(name: str, info: ValidationInfo) -> str:
    if name == info.data.get("rabbitmq_queue"):
        raise ValueError("should differ from RABBITMQ_QUEUE: the stream and the queue cannot share a name")
    return name


def _check_age(age: str) -> str:
    if not re.fullmatch("[1-9][0-9]{0,5}[YMDhms]", age):
        raise ValueError("should be a number from 1 to 999999 and a unit (Y, M, D, h, m or s): 2D is two days")
    return age


QueueName = Annotated[str, AfterValidator(_check_queue)]
StreamName = Annotated[QueueName, AfterValidator(_check_stream)]
StreamAge = Annotated[str, AfterValidator(_check_age)]


class BrokerSettings(BaseModel):
    """Mixin of ``Settings``: address of RabbitMQ, and the queues that the service declares and binds."""

    rabbitmq_url: BrokerUrl | None = None
    rabbitmq_queue: QueueName | None = None
    rabbitmq_stream: StreamName | None = None
    rabbitmq_stream_max_age: StreamAge = "2D"

    @property
    def publisher(self) -> Literal["rabbitmq", "local"]:
        return "rabbitmq" if self.rabbitmq_url else "local"
