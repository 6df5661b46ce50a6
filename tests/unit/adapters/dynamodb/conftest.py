"""A table over either transport on a scripted DynamoDB, without waits."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import ModuleType

import pytest
from aiobotocore.config import AioConfig

from bg_ingest.adapters.dynamodb import aioboto3_transport, table, transport
from bg_ingest.adapters.dynamodb.table import DynamoTable
from tests.fakes.dynamodb import AWS, REGION, ScriptedDynamo

TableOn = Callable[[ScriptedDynamo], AbstractAsyncContextManager[DynamoTable]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _without_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the waits of repetitions, and shorten the timeouts of answers."""
    monkeypatch.setattr(transport, "FIRST_WAIT_SECONDS", 0)
    monkeypatch.setattr(transport, "READ_TIMEOUT", 0.2)
    monkeypatch.setattr(table, "FIRST_WAIT_SECONDS", 0)
    quick = aioboto3_transport.CLIENT_CONFIG.merge(AioConfig(read_timeout=0.2))
    monkeypatch.setattr(aioboto3_transport, "CLIENT_CONFIG", quick)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0)


@pytest.fixture(params=[transport, aioboto3_transport], ids=["direct", "aioboto3"])
def transports(request: pytest.FixtureRequest) -> ModuleType:
    """Return the module of a transport."""
    module: ModuleType = request.param
    return module


@pytest.fixture
def table_on(transports: ModuleType) -> TableOn:
    """Return a function that opens the table of a scripted server, over each of the transports."""

    @asynccontextmanager
    async def open_on(server: ScriptedDynamo) -> AsyncIterator[DynamoTable]:
        async with transports.open_transport(server.endpoint, REGION, AWS) as opened:
            yield DynamoTable(opened, "readings")

    return open_on


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
