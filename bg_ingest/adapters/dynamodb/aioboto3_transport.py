"""Implementation of ``Transport`` over aioboto3's own client. Table administration uses it.

The service itself could use it in place of ``transport.py``: it passes the same contract suite, and one import in
``wiring/store.py`` selects it. A call costs two to three times as much CPU: docs/decisions has the figures.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aioboto3
import msgspec
from aiobotocore.config import AioConfig
from botocore import xform_name
from botocore.exceptions import ClientError

from bg_ingest.adapters.aws.session import adapt_config, translate_configuration_errors
from bg_ingest.adapters.dynamodb.transport import (
    CONNECT_TIMEOUT,
    EMULATOR_KEYS,
    MAX_CONNECTIONS,
    MAX_TRIES,
    READ_TIMEOUT,
    Answer,
    DynamoError,
    Transport,
    resolve_endpoint,
)

CLIENT_CONFIG = AioConfig(
    connect_timeout=CONNECT_TIMEOUT,
    read_timeout=READ_TIMEOUT,
    retries={"mode": "standard", "total_max_attempts": MAX_TRIES},
    max_pool_connections=MAX_CONNECTIONS,
    parameter_validation=False,
    user_agent="bg-ingest",
)
"""``parameter_validation`` and ``user_agent`` save about 8 % of a call's CPU (measured with aioboto3 15.5)."""


class Aioboto3Transport:
    """Implements ``Transport``. botocore has already decoded the base64 texts in an answer to bytes."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401 - aioboto3 has no types
        self._client = client

    async def call(self, operation: str, **request: object) -> Answer:
        try:
            answer: Answer = await getattr(self._client, xform_name(operation))(**request)
        except ClientError as error:
            raise _to_dynamo_error(error) from None
        content_type = answer["ResponseMetadata"]["HTTPHeaders"].get("content-type", "")
        if "json" not in content_type:  # botocore reads the page of any web server as an empty answer
            raise msgspec.DecodeError("the answer is not JSON")
        return answer


def _to_dynamo_error(error: ClientError) -> DynamoError:
    code, metadata = str(error.response["Error"]["Code"]), error.response["ResponseMetadata"]
    if code.isdigit():  # the answer of a proxy or load balancer, without a code of DynamoDB
        code = f"HTTP {code}"
    return DynamoError(metadata["HTTPStatusCode"], code, error.response, metadata.get("RetryAttempts", 0) + 1)


@asynccontextmanager
async def open_transport(
    endpoint: str | None, region: str | None, session: aioboto3.Session
) -> AsyncIterator[Transport]:
    """Open a transport. The AWS library finds the credentials, and ``endpoint`` and ``region`` if they are None."""
    url, _ = await resolve_endpoint(endpoint, region, session)
    keys: dict[str, str] = {}
    with translate_configuration_errors():
        if url.scheme == "http" and await session.get_credentials() is None:
            keys = {"aws_access_key_id": EMULATOR_KEYS.access_key, "aws_secret_access_key": EMULATOR_KEYS.secret_key}
        config = adapt_config(session, CLIENT_CONFIG)
    async with session.client("dynamodb", region_name=region, endpoint_url=endpoint, config=config, **keys) as client:
        yield Aioboto3Transport(client)
