"""Rights on the store, and the keys of the stored grants."""

import re
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from bg_ingest.adapters.dynamodb.table import DynamoTable
from bg_ingest.adapters.dynamodb.transport import open_transport
from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.doctor import Verdict
from bg_ingest.doctor.store import RIGHTS, check_keys, check_outbox, check_rights, check_store, check_table
from bg_ingest.domain.ids import UserId, shard_of
from bg_ingest.settings import Settings
from bg_ingest.store import Store
from tests.fakes.clock import NOON, SetClock
from tests.fakes.dynamodb import AWS, REGION, ErrorReply, RecordedRequest, Reply, in_sequence, scripted
from tests.fakes.faults import Fault, FaultyCalls, at
from tests.harness.sample_values import listed_commit
from tests.harness.service import open_service

ROOT = Path(__file__).parents[3]
HOUR = timedelta(hours=1)


@pytest.mark.parametrize("call", range(1, 10))
async def test_a_right_that_is_lacking_is_named(call: int) -> None:
    async with open_table(None, SetClock()) as table:
        assert [each.verdict for each in await check_rights(table, NOON)] == [Verdict.OK]
        (found,) = await check_rights(FaultyCalls(table, at(call, Fault.BEFORE)), NOON)
        assert (found.verdict, bool(found.advice)) == (Verdict.FAILED, True)


IN_TRANSACTION = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
}


def rights_for(question: RecordedRequest) -> set[str]:
    """Return AWS's refusal of the calling identity."""
    if question.operation == "TransactWriteItems":
        return {IN_TRANSACTION[kind] for step in question.body["TransactItems"] for kind in step}
    return {question.operation}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("lacking", [*RIGHTS, "Scan"])
async def test_every_right_that_the_service_needs_is_tried_and_advised(lacking: str) -> None:
    replies: dict[str, Reply] = {"GetItem": {}, "BatchGetItem": {"Responses": {}}}

    def answer(question: RecordedRequest) -> Reply:
        if lacking in rights_for(question):
            return ErrorReply("AccessDeniedException")
        return replies.get(question.operation, {"Items": []})

    async with scripted(answer) as server, open_transport(server.endpoint, REGION, AWS) as transport:
        (found,) = await check_rights(DynamoTable(transport, "readings"), NOON)
    if lacking == "Scan":
        assert found.verdict is Verdict.OK, "the service does not need this right"
    else:
        assert found.verdict is Verdict.FAILED
        assert lacking in found.advice


def test_the_rights_are_those_of_the_calls_that_are_made_and_stand_in_the_docs() -> None:
    source = (ROOT / "bg_ingest/adapters/dynamodb/table.py").read_text("utf-8")
    named = {*re.findall(r'(?:(?:\.call|_pages|_batch)\(\s*|\b[A-Z]\w+: )"(\w+)"', source)}
    calls = named - {"TransactWriteItems", "Put", "Update", "Delete", "ConditionCheck"}
    assert {*RIGHTS, "Scan"} == calls | {*IN_TRANSACTION.values()}
    operating = (ROOT / "docs/operating/README.md").read_text("utf-8")
    (row,) = re.findall(r"^\| DynamoDB \|.*$", operating, re.MULTILINE)
    assert {*RIGHTS, "Scan"} <= {*re.findall(r"`(\w+)`", row)}


async def test_the_check_leaves_nothing_behind() -> None:
    async with open_table(None, SetClock()) as table:
        await check_rights(table, NOON)
        assert [page async for page in table.query("doctor", "0", "~")] == []


async def test_stored_grants_are_opened_with_the_keys_that_are_set() -> None:
    async with open_service() as service:
        store = service.services.store
        assert "no grants" in (await check_keys(store, AesGcmSealer([bytes(32)]), "test"))[0].found
        await service.connect("ada")
        await service.connect("ben", "SandboxUser2")
        (right,) = await check_keys(store, AesGcmSealer([bytes(range(32)), bytes(32)]), "test")
        assert (right.verdict, "2 stored" in right.found) == (Verdict.OK, True)
        (wrong,) = await check_keys(store, AesGcmSealer([bytes(range(32))]), "test")
        assert (wrong.verdict, wrong.found) == (Verdict.FAILED, "2 of 2 stored grants do not open")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_f34_a_table_that_the_start_creates_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aws: Callable[[str], None]
) -> None:
    monkeypatch.chdir(tmp_path)
    async with scripted(in_sequence(ErrorReply("ResourceNotFoundException"))) as server:
        aws(server.endpoint)
        settings = Settings(dynamodb_endpoint=server.endpoint)
        (found,) = await check_table(settings)
        assert (found.verdict, found.advice) == (Verdict.WARNING, "the first start creates it")
        assert await check_store(settings, SetClock()) == []


async def test_the_oldest_unpublished_change_of_each_user_is_read() -> None:
    many = UserId("ada")
    later_user = next(user for number in count() if shard_of(user := UserId(f"ben-{number}")) == shard_of(many))
    async with open_table(None, SetClock()) as table:
        store = Store(table, SetClock())
        for _ in range(101):
            await store.commits.write(await listed_commit(store, many, NOON + HOUR))
        assert await check_outbox(store.outbox, NOON + HOUR) == []
        for _ in range(2):
            await store.commits.write(await listed_commit(store, later_user, NOON))
        (found,) = await check_outbox(store.outbox, NOON + HOUR)
        assert (found.verdict, found.found) == (
            Verdict.WARNING,
            f"changes wait to be published since {NOON:%Y-%m-%d %H:%M} UTC",
        )
