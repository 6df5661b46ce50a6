"""One tuned client for the process: opening it costs 0.1 s, and every call shares its connections."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeAlias

import aioboto3
from aiobotocore.config import AioConfig

Answer: TypeAlias = dict[str, Any]

CONFIG = AioConfig(
    connect_timeout=1,
    read_timeout=3,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=64,
    # Together a third of a call's CPU time, measured with botocore 1.40. Requests are of our own making, and the
    # server validates them once more.
    user_agent="bg-ingest",
    parameter_validation=False,
)

ANYBODY = {"aws_access_key_id": "anybody", "aws_secret_access_key": "anybody"}
"""For emulators, which want a signature and do not look at it."""


class Client(Protocol):
    """What is used of botocore's client, which is made at run time and has no types."""

    async def get_item(self, **request: object) -> Answer: ...
    async def put_item(self, **request: object) -> Answer: ...
    async def update_item(self, **request: object) -> Answer: ...
    async def delete_item(self, **request: object) -> Answer: ...
    async def query(self, **request: object) -> Answer: ...
    async def batch_get_item(self, **request: object) -> Answer: ...
    async def batch_write_item(self, **request: object) -> Answer: ...
    async def transact_write_items(self, **request: object) -> Answer: ...
    async def create_table(self, **request: object) -> Answer: ...
    async def describe_table(self, **request: object) -> Answer: ...
    async def update_table(self, **request: object) -> Answer: ...
    async def describe_time_to_live(self, **request: object) -> Answer: ...
    async def update_time_to_live(self, **request: object) -> Answer: ...
    async def describe_continuous_backups(self, **request: object) -> Answer: ...
    async def update_continuous_backups(self, **request: object) -> Answer: ...


@asynccontextmanager
async def open_client(endpoint: str | None, region: str | None, aws: aioboto3.Session) -> AsyncIterator[Client]:
    """Open a client. Credentials are looked for as AWS's tools do; without any, a plain HTTP endpoint gets invented."""
    emulated = endpoint is not None and endpoint.startswith("http://")
    invented = ANYBODY if emulated and await aws.get_credentials() is None else {}
    async with aws.client("dynamodb", region_name=region, endpoint_url=endpoint, config=CONFIG, **invented) as client:
        yield client
