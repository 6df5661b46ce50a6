"""What a table makes of a DynamoDB that throttles, conflicts, breaks off or does half."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aioboto3
import anyio
import msgspec
import pytest
from anyio.abc import SocketAttribute
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from bg_ingest.adapters.dynamodb import open_table
from bg_ingest.adapters.dynamodb import table as module
from bg_ingest.adapters.dynamodb import transport as client
from bg_ingest.adapters.dynamodb.table import DynamoTable
from bg_ingest.errors import StoreError, StoreUnavailable, TransactionConflict
from bg_ingest.ports.table import Absent, Check, ConditionFailed, Delete, Exists, Key, Put, Update, Write
from tests.fakes.dynamodb import (
    AWS,
    REGION,
    BrokenReply,
    ErrorReply,
    RecordedRequest,
    Reply,
    ScriptedDynamo,
    in_sequence,
    scripted,
)

KEY, OTHER = ("user#ada", "head"), ("user#ada", "grant")
WIRE_KEY = {"pk": {"S": "user#ada"}, "sk": {"S": "head"}}
WIRE = {**WIRE_KEY, "v": {"N": "1"}, "raw": {"B": "AP8="}, "yes": {"BOOL": True}}
ITEM = {"v": 1, "raw": b"\x00\xff", "yes": True}
THROTTLED = ErrorReply("ThrottlingException")
NOT_SO = ErrorReply("ConditionalCheckFailedException")
WRITES: list[Write] = [Put(KEY, {"v": 1}, (Absent(),)), Check(OTHER, (Exists(),))]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait neither for repetitions nor long for answers."""
    monkeypatch.setattr(client, "FIRST_WAIT_SECONDS", 0)
    monkeypatch.setattr(client, "READ_TIMEOUT", 0.2)
    monkeypatch.setattr(module, "FIRST_WAIT_SECONDS", 0)


@asynccontextmanager
async def table_on(server: ScriptedDynamo) -> AsyncIterator[DynamoTable]:
    async with client.open_transport(server.endpoint, REGION, AWS) as opened:
        yield DynamoTable(opened, "readings")


def cancelled(*reasons: str | dict[str, Any]) -> ErrorReply:
    expected_detail = [each if isinstance(each, dict) else {"Code": each} for each in reasons]
    return ErrorReply("TransactionCanceledException", more={"CancellationReasons": expected_detail})


@pytest.mark.parametrize(
    "trouble", [THROTTLED, ErrorReply("InternalServerError", 500), BrokenReply.RESET, BrokenReply.SILENCE]
)
async def test_case_41_what_passes_is_tried_again(trouble: Reply) -> None:
    async with scripted(in_sequence(trouble, {"Item": WIRE})) as server, table_on(server) as table:
        assert await table.get(KEY) == ITEM
    assert [(each.operation, each.body["ConsistentRead"]) for each in server.asked] == [("GetItem", True)] * 2


@pytest.mark.parametrize(
    ("trouble", "expected_detail"),
    [
        (THROTTLED, "ThrottlingException"),
        (ErrorReply("ProvisionedThroughputExceededException"), "ProvisionedThroughputExceededException"),
        (ErrorReply("InternalServerError", 500), "InternalServerError"),
        (ErrorReply("ExpiredTokenException"), "ExpiredTokenException"),
        (BrokenReply.RESET, "does not answer"),
        (BrokenReply.SILENCE, "SocketTimeoutError"),
    ],
)
async def test_what_does_not_pass_is_unavailable_and_says_why_but_nothing_of_what_was_asked(
    trouble: Reply, expected_detail: str
) -> None:
    async with scripted(in_sequence(trouble)) as server, table_on(server) as table:
        for call in (
            table.get(KEY),
            table.non_empty([KEY[0]], "a", "z"),
            table.write(Put(KEY, {"v": 1})),
            table.transact(WRITES),
        ):
            with pytest.raises(StoreUnavailable, match=expected_detail) as raised:
                await call
            assert not [word for word in ("secret", "ada", "head") if word in str(raised.value)]
            assert raised.value.__suppress_context__
        assert len(server.asked) <= 12


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - anyio's method
    with pytest.raises(StoreUnavailable, match="does not answer: ClientConnectorError"):
        async with open_table(f"http://127.0.0.1:{port}", REGION, "readings", aws=AWS):
            pass


async def test_a_missing_table_is_reported_with_the_remedy() -> None:
    async with scripted(in_sequence(ErrorReply("ResourceNotFoundException"))) as server:
        with pytest.raises(StoreError, match="no table readings: run `bg-ingest tables create`"):
            async with open_table(server.endpoint, REGION, "readings", aws=AWS):
                pass


async def test_an_endpoint_that_is_some_other_server_is_refused() -> None:
    async with scripted(in_sequence(BrokenReply.NONSENSE)) as server:
        with pytest.raises(StoreError, match="is it DynamoDB"):
            async with open_table(server.endpoint, REGION, "readings", aws=AWS):
                pass


async def test_what_stands_in_front_of_a_server_may_answer_for_it() -> None:
    def busy(_: RecordedRequest) -> Reply:
        return BrokenReply.BUSY

    async with scripted(busy) as server, table_on(server) as table:
        with pytest.raises(StoreUnavailable, match="DynamoDB says HTTP 502"):
            await table.get(KEY)
    assert len(server.asked) == client.MAX_TRIES


async def test_a_redirect_is_not_followed_with_what_was_signed_for_us() -> None:
    async with (
        scripted(in_sequence({})) as other,
        scripted(lambda _: BrokenReply.MOVED) as server,
        table_on(server) as table,
    ):
        server.moved_to = other.endpoint
        with pytest.raises(StoreUnavailable, match="DynamoDB says HTTP 307"):
            await table.get(KEY)
    assert other.asked == []


async def test_what_arrives_bears_the_signature_of_what_arrives() -> None:
    async with scripted(in_sequence({})) as server, table_on(server) as table:
        await table.get(KEY)
    (asked,) = server.asked
    came = {name.lower(): value for name, value in asked.headers.items()}
    signed = ("content-type", "host", "x-amz-date", "x-amz-target")
    headers = {name: came[name] for name in signed}
    request = AWSRequest("POST", server.endpoint, headers, msgspec.json.encode(asked.body))
    request.context["timestamp"] = came["x-amz-date"]
    auth = SigV4Auth(ReadOnlyCredentials("test", "test", None), "dynamodb", REGION)
    expected = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    assert came["authorization"].endswith(f"SignedHeaders={';'.join(signed)}, Signature={expected}")


async def test_a_proxy_of_the_environment_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(in_sequence({"Item": WIRE})) as server:
        monkeypatch.setenv("http_proxy", server.endpoint)
        monkeypatch.setenv("no_proxy", "localhost")
        async with client.open_transport("http://dynamodb.test", REGION, AWS) as opened:
            assert await DynamoTable(opened, "readings").get(KEY) == ITEM
    assert server.asked[0].headers["Host"] == "dynamodb.test"


async def test_aws_itself_is_not_asked_without_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_credentials(monkeypatch, tmp_path)
    async with client.open_transport("https://localhost:1", REGION, aioboto3.Session()) as opened:
        with pytest.raises(StoreUnavailable, match="does not answer: NoCredentialsError"):
            await DynamoTable(opened, "readings").get(KEY)


async def test_a_request_that_is_not_valid_is_not_worth_repeating() -> None:
    async with scripted(in_sequence(ErrorReply("ValidationException"))) as server, table_on(server) as table:
        with pytest.raises(StoreError) as raised:
            await table.get(KEY)
        assert not isinstance(raised.value, StoreUnavailable)


async def test_a_condition_shows_the_item_it_met() -> None:
    refusal = ErrorReply(NOT_SO.code, more={"Item": WIRE})
    async with scripted(in_sequence(refusal, NOT_SO)) as server, table_on(server) as table:
        for current in (ITEM, None):
            with pytest.raises(ConditionFailed) as failed:
                await table.write(Delete(KEY, (Exists(),)))
            assert failed.value.current == {0: current}


@pytest.mark.parametrize("trouble", [BrokenReply.RESET, ErrorReply("InternalServerError", 500)])
async def test_a_condition_that_fails_after_a_lost_reply_may_have_met_our_own_write(trouble: Reply) -> None:
    async with scripted(in_sequence(trouble, NOT_SO)) as server, table_on(server) as table:
        with pytest.raises(StoreUnavailable, match="whether a write happened is not known"):
            await table.write(Put(KEY, {"v": 1}, (Absent(),)))


async def test_repetitions_of_a_transaction_are_one_to_the_server_and_others_are_not() -> None:
    async with scripted(in_sequence(BrokenReply.RESET, {}, {})) as server, table_on(server) as table:
        await table.transact(WRITES)
        await table.transact(WRITES)
    first, again, other = (each.body["ClientRequestToken"] for each in server.asked)
    assert first == again != other


@pytest.mark.parametrize(
    ("refusal", "error", "current"),
    [
        (cancelled("None", {"Code": "ConditionalCheckFailed", "Item": WIRE}), ConditionFailed, {1: ITEM}),
        (cancelled("ConditionalCheckFailed", "ConditionalCheckFailed"), ConditionFailed, {0: None, 1: None}),
        (cancelled("ConditionalCheckFailed", "TransactionConflict"), ConditionFailed, {0: None}),
        (cancelled("None", "TransactionConflict"), TransactionConflict, None),
        (cancelled("ThrottlingError", "None"), StoreUnavailable, None),
        (cancelled("ThrottlingError", "TransactionConflict"), StoreUnavailable, None),
        (cancelled("None", "ProvisionedThroughputExceeded"), StoreUnavailable, None),
        (cancelled("ValidationError", "None"), StoreError, None),
        (cancelled(), StoreUnavailable, None),
        (ErrorReply("TransactionConflictException"), TransactionConflict, None),
        (ErrorReply("TransactionInProgressException"), StoreUnavailable, None),
    ],
)
async def test_a_cancelled_transaction_says_what_to_do(
    refusal: ErrorReply, error: type[StoreError], current: dict[int, object] | None
) -> None:
    async with scripted(in_sequence(refusal)) as server, table_on(server) as table:
        with pytest.raises(StoreError) as raised:
            await table.transact(WRITES)
    assert type(raised.value) is error
    assert getattr(raised.value, "current", None) == current


async def test_a_single_write_may_conflict_with_a_transaction() -> None:
    async with scripted(in_sequence(ErrorReply("TransactionConflictException"))) as server, table_on(server) as table:
        with pytest.raises(TransactionConflict):
            await table.write(Update(KEY, {"v": 1}, (), ()))


def reading_some(most: int) -> Callable[[RecordedRequest], Reply]:
    """Answer a batch with at most so many of the items it asks for."""

    def answer(asked: RecordedRequest) -> Reply:
        (requested,) = asked.body["RequestItems"].values()
        keys = requested["Keys"]
        left = {"readings": {**requested, "Keys": keys[most:]}} if keys[most:] else {}
        return {"Responses": {"readings": [{**key, "v": {"N": "1"}} for key in keys[:most]]}, "UnprocessedKeys": left}

    return answer


def deleting_some(most: int) -> Callable[[RecordedRequest], Reply]:
    def answer(asked: RecordedRequest) -> Reply:
        unwanted = asked.body["RequestItems"]["readings"]
        return {"UnprocessedItems": {"readings": unwanted[most:]} if unwanted[most:] else {}}

    return answer


KEYS: list[Key] = [("pk", f"{number}") for number in range(130)]


async def test_case_41_what_a_batch_leaves_unread_is_asked_for_again_consistently() -> None:
    async with scripted(reading_some(40)) as server, table_on(server) as table:
        assert await table.batch_get([*KEYS, KEYS[0]]) == {key: {"v": 1} for key in KEYS}
    requested = [each.body["RequestItems"]["readings"] for each in server.asked]
    assert [len(each["Keys"]) for each in requested] == [100, 60, 20, 30]
    assert all(each["ConsistentRead"] for each in requested)


async def test_case_41_what_a_batch_leaves_undeleted_is_deleted_again() -> None:
    async with scripted(deleting_some(20)) as server, table_on(server) as table:
        await table.delete([*KEYS[:30], KEYS[0]])
    assert [len(each.body["RequestItems"]["readings"]) for each in server.asked] == [25, 5, 5]


async def test_a_batch_that_is_never_done_is_unavailable() -> None:
    async with scripted(reading_some(0)) as server, table_on(server) as table:
        with pytest.raises(StoreUnavailable, match="no capacity"):
            await table.batch_get(KEYS[:1])
    async with scripted(deleting_some(0)) as server, table_on(server) as table:
        with pytest.raises(StoreUnavailable, match="no capacity"):
            await table.delete(KEYS[:1])


@pytest.mark.parametrize("consistent", [True, False])
async def test_a_query_goes_on_over_a_page_that_holds_nothing(*, consistent: bool) -> None:
    pages: tuple[Reply, ...] = (
        {"Items": [WIRE], "LastEvaluatedKey": WIRE_KEY},
        {"Items": [], "LastEvaluatedKey": WIRE_KEY},
        {"Items": [WIRE]},
    )
    async with scripted(in_sequence(*pages)) as server, table_on(server) as table:
        assert [page async for page in table.query("user#ada", "a", "z", consistent=consistent, page=1)] == [
            [(KEY, ITEM)]
        ] * 2
    assert {(each.body["ConsistentRead"], each.body["Limit"]) for each in server.asked} == {(consistent, 1)}
    assert [each.body.get("ExclusiveStartKey") for each in server.asked] == [None, WIRE_KEY, WIRE_KEY]


async def test_nothing_to_do_is_not_asked() -> None:
    async with scripted(in_sequence({})) as server, table_on(server) as table:
        assert await table.batch_get([]) == {}
        assert [page async for page in table.query("pk", "b", "a")] == []
        await table.delete([])
    assert server.asked == []


async def test_an_attribute_is_set_or_removed_not_both() -> None:
    both: list[Write] = [Update(KEY, {"v": 1, "claim": "x"}, ("claim",), ())]
    async with scripted(in_sequence({})) as server, table_on(server) as table:
        with pytest.raises(ValueError, match="not both"):
            await table.transact(both)


async def test_no_word_is_reserved_in_what_is_asked() -> None:
    async with scripted(in_sequence({})) as server, table_on(server) as table:
        await table.write(Update(KEY, {"name": "x", "value": 1}, ("size",), (Exists(),)))
    body = server.asked[0].body
    assert body["UpdateExpression"] == "SET #a0 = :v0, #a1 = :v1 REMOVE #a2"
    assert body["ConditionExpression"] == "attribute_exists(pk)"
    assert body["ExpressionAttributeNames"] == {"#a0": "name", "#a1": "value", "#a2": "size"}


def without_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


async def test_an_emulator_needs_no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_credentials(monkeypatch, tmp_path)
    async with (
        scripted(in_sequence({})) as server,
        client.open_transport(server.endpoint, REGION, aioboto3.Session()) as opened,
    ):
        await DynamoTable(opened, "readings").get(KEY)
    assert "Credential=anybody/" in server.asked[0].headers["Authorization"]
