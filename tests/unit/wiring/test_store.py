"""Store of the settings: its layout is checked in every place, and one that stores nothing is refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.adapters.dynamodb.admin import KEY_SCHEMA, KEY_TYPES
from bg_ingest.adapters.dynamodb.codec import encode_item
from bg_ingest.domain.ids import UserId
from bg_ingest.errors import StoreError, TableMissing
from bg_ingest.observability.observer import Metrics
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.ports.table import Put, Table, Update
from bg_ingest.settings import Settings
from bg_ingest.store import LAYOUT, keys
from bg_ingest.wiring.broker import build_broker_parts
from bg_ingest.wiring.store import create_table, creates_table, open_for_inspection, open_store, open_table
from tests.fakes.dynamodb import BrokenReply, ErrorReply, RecordedRequest, Reply, in_sequence, scripted
from tests.harness.settings import PRODUCTION


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Return the given settings, isolated from those of this machine."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return Settings


@pytest.fixture
def in_aws(configure: Callable[..., Settings], aws: Callable[[str], None]) -> Callable[[str], Settings]:
    def choose(endpoint: str) -> Settings:
        aws(endpoint)
        return configure(dynamodb_endpoint=endpoint, dynamodb_table="readings")

    return choose


@pytest.mark.parametrize(
    ("attribute", "value", "says"),
    [
        ("v", 2, "schema version 2.*update this service"),
        ("v", 0, "schema version 0.*migrate"),
        ("shards", 64, "shards 64, not 256"),
        ("shard_hash", "md5", "shard_hash 'md5', not 'blake2b-8'"),
        ("segment_hours", 24, "segment_hours 24, not 6"),
    ],
)
async def test_a_file_laid_out_otherwise_is_refused_in_one_sentence(
    configure: Callable[..., Settings], attribute: str, value: int | str, says: str
) -> None:
    settings = configure()
    async with open_table(settings, SystemClock(), MetricsRegistry()) as table:
        await table.write(Update(keys.META, {attribute: value}, (), ()))
    for _ in range(2):
        with pytest.raises(StoreError, match=says):
            async with open_store(settings, SystemClock(), Metrics(MetricsRegistry(), SystemClock())):
                pass


async def test_owners_in_a_file_are_those_of_processes_that_have_ended(configure: Callable[..., Settings]) -> None:
    settings = configure()
    async with open_table(settings, SystemClock(), MetricsRegistry()) as table:
        await table.write(Put((keys.OWNERS, "one"), {"v": 1}))
    async with open_for_inspection(settings) as (table, _):
        assert await owners(table) == []


async def owners(table: Table) -> list[str]:
    return [key[1] async for page in table.query(keys.OWNERS, " ", "~") for key, _ in page]


DESCRIBED: dict[str, Any] = {
    "Table": {
        "TableStatus": "ACTIVE",
        "KeySchema": KEY_SCHEMA,
        "AttributeDefinitions": KEY_TYPES,
        "DeletionProtectionEnabled": True,
    },
    "TimeToLiveDescription": {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"},
    "ContinuousBackupsDescription": {"PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": "ENABLED"}},
}


@pytest.mark.parametrize(("other", "says"), [({"shards": 16}, "shards 16"), ({"v": 99}, "version 99")])
async def test_a_table_laid_out_otherwise_is_refused_and_stays_as_it_is(
    in_aws: Callable[[str], Settings], other: dict[str, int], says: str
) -> None:
    asked: list[str] = []

    def answer(question: RecordedRequest) -> Reply:
        asked.append(question.operation)
        return DESCRIBED | {"Item": encode_item(keys.META, LAYOUT | other)}

    async with scripted(answer) as server:
        settings = in_aws(server.endpoint)
        with pytest.raises(StoreError, match=says):
            await create_table(settings)
        with pytest.raises(StoreError, match=says):
            async with open_table(settings, SystemClock(), MetricsRegistry()):
                pass
    assert {name for name in asked if not name.startswith("Describe")} == {"GetItem"}


async def test_a_server_that_says_done_and_keeps_nothing_is_no_store(in_aws: Callable[[str], Settings]) -> None:
    async with scripted(in_sequence({})) as server:
        with pytest.raises(StoreError, match="does not store written items: is it DynamoDB"):
            async with open_table(in_aws(server.endpoint), SystemClock(), MetricsRegistry()):
                pass


async def test_a_web_server_is_no_store(in_aws: Callable[[str], Settings]) -> None:
    async with scripted(in_sequence(BrokenReply.NONSENSE)) as server:
        settings = in_aws(server.endpoint)
        with pytest.raises(StoreError, match="is it DynamoDB"):
            async with open_table(settings, SystemClock(), MetricsRegistry()):
                pass
        with pytest.raises(StoreError, match="is it DynamoDB"):
            await create_table(settings)


async def test_units_that_the_server_reports_are_counted(in_aws: Callable[[str], Settings]) -> None:
    def answer(_: RecordedRequest) -> Reply:
        return {"Item": encode_item(keys.META, LAYOUT), "ConsumedCapacity": {"CapacityUnits": 1.5}}

    metrics = MetricsRegistry()
    async with (
        scripted(answer) as server,
        open_table(in_aws(server.endpoint), SystemClock(), metrics) as table,
    ):
        await table.get(("pk", "sk"))
    text = metrics.text().decode()
    assert 'bg_ingest_store_units_total{kind="read"} 4.5' in text


class Emulator:
    """As much of an emulator as a start needs: it has no table until one is created."""

    def __init__(self) -> None:
        self.created = 0
        self._items: dict[str, Any] = {}

    def __call__(self, asked: RecordedRequest) -> Reply:
        match asked.operation:
            case "CreateTable":
                self.created += 1
            case _ if not self.created:
                return ErrorReply("ResourceNotFoundException")
            case "PutItem":
                self._items[asked.body["Item"]["pk"]["S"]] = asked.body["Item"]
            case "GetItem":
                item = self._items.get(asked.body["Key"]["pk"]["S"])
                return {"Item": item} if item else {}
        return DESCRIBED


async def test_f34_development_creates_the_table_of_an_emulator_and_says_so(
    in_aws: Callable[[str], Settings],
) -> None:
    emulator = Emulator()
    with capture_logs() as logged:
        async with scripted(emulator) as server:
            settings = in_aws(server.endpoint)
            for _ in range(2):
                async with open_store(settings, SystemClock(), Metrics(MetricsRegistry(), SystemClock())) as opened:
                    assert await opened.readings.head(UserId("ada")) is None
    assert emulator.created == 1
    assert [line["event"] for line in logged] == [
        f"Table readings was missing at {server.endpoint} and has been created."
    ]


async def test_f34_an_inspection_creates_nothing(in_aws: Callable[[str], Settings]) -> None:
    emulator = Emulator()
    async with scripted(emulator) as server:
        with pytest.raises(TableMissing):
            async with open_for_inspection(in_aws(server.endpoint)):
                pass
    assert emulator.created == 0


async def test_f34_outside_development_and_in_aws_no_table_is_created(
    configure: Callable[..., Settings], in_aws: Callable[[str], Settings]
) -> None:
    assert creates_table(in_aws("http://localhost:8000"))
    assert not creates_table(configure(dynamodb_table="readings"))
    production = {name.lower(): value for name, value in PRODUCTION.items()}
    assert not creates_table(configure(**production, dynamodb_endpoint="http://localhost:8000"))


async def test_only_replicas_of_a_shared_store_miss_hints_without_a_broker(
    configure: Callable[..., Settings], in_aws: Callable[[str], Settings]
) -> None:
    assert build_broker_parts(configure()).hints.connected
    assert not build_broker_parts(in_aws("http://127.0.0.1:1")).hints.connected
