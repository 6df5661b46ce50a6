"""Errors of a table on a DynamoDB that throttles, conflicts, refuses or is another service, over either transport."""

from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute

from bg_ingest.errors import ItemTooLarge, StoreError, StoreUnavailable, TransactionConflict
from bg_ingest.ports.table import Absent, Check, ConditionFailed, Delete, Exists, Put, Update, Write
from tests.fakes.dynamodb import BrokenReply, ErrorReply, Reply, ScriptedDynamo, in_sequence, scripted
from tests.unit.adapters.dynamodb.conftest import TableOn

KEY, OTHER = ("user#ada", "head"), ("user#ada", "grant")
WIRE = {"pk": {"S": "user#ada"}, "sk": {"S": "head"}, "v": {"N": "1"}, "raw": {"B": "AP8="}, "yes": {"BOOL": True}}
ITEM = {"v": 1, "raw": b"\x00\xff", "yes": True}
THROTTLED = ErrorReply("ThrottlingException")
NOT_SO = ErrorReply("ConditionalCheckFailedException")
WRITES: list[Write] = [Put(KEY, {"v": 1}, (Absent(),)), Check(OTHER, (Exists(),))]


TOO_LARGE = "Item size to update has exceeded the maximum allowed size"


def cancelled(*reasons: str | dict[str, Any]) -> ErrorReply:
    expected_detail = [each if isinstance(each, dict) else {"Code": each} for each in reasons]
    return ErrorReply("TransactionCanceledException", more={"CancellationReasons": expected_detail})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trouble", "expected_detail"),
    [
        (THROTTLED, "ThrottlingException"),
        (ErrorReply("ProvisionedThroughputExceededException"), "ProvisionedThroughputExceededException"),
        (ErrorReply("InternalServerError", 500), "InternalServerError"),
        (ErrorReply("ExpiredTokenException"), "ExpiredTokenException"),
        (BrokenReply.RESET, "does not answer"),
        (BrokenReply.SILENCE, "SocketTimeoutError|ReadTimeoutError"),
    ],
)
async def test_what_does_not_pass_is_unavailable_and_says_why_but_nothing_of_what_was_asked(
    table_on: TableOn, trouble: Reply, expected_detail: str
) -> None:
    async with scripted(in_sequence(trouble)) as server, table_on(server) as table:
        for call in (
            table.get(KEY),
            table.write(Put(KEY, {"v": 1})),
            table.transact(WRITES),
        ):
            with pytest.raises(StoreUnavailable, match=expected_detail) as raised:
                await call
            assert not [word for word in ("secret", "ada", "head") if word in str(raised.value)]
            assert raised.value.__suppress_context__
        assert len(server.asked) <= 12


async def test_a_server_that_is_not_there_is_unavailable(table_on: TableOn) -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)  # noqa: S610 - anyio's method
    server = ScriptedDynamo(in_sequence({}))
    server.endpoint = f"http://127.0.0.1:{port}"
    async with table_on(server) as table:
        with pytest.raises(StoreUnavailable, match=r"does not answer: (ClientConnector|EndpointConnection)Error"):
            await table.get(KEY)


async def test_a_missing_table_is_reported_with_the_remedy(table_on: TableOn) -> None:
    async with scripted(in_sequence(ErrorReply("ResourceNotFoundException"))) as server, table_on(server) as table:
        with pytest.raises(StoreError, match="no table readings: run `bg-ingest tables create`"):
            await table.get(KEY)


async def test_an_endpoint_that_is_some_other_server_is_refused(table_on: TableOn) -> None:
    async with scripted(in_sequence(BrokenReply.NONSENSE)) as server, table_on(server) as table:
        with pytest.raises(StoreError, match="is it DynamoDB"):
            await table.get(KEY)


async def test_a_request_that_is_not_valid_is_not_worth_repeating(table_on: TableOn) -> None:
    async with scripted(in_sequence(ErrorReply("ValidationException"))) as server, table_on(server) as table:
        with pytest.raises(StoreError) as raised:
            await table.get(KEY)
        assert not isinstance(raised.value, StoreUnavailable)


async def test_a_condition_shows_the_item_it_met(table_on: TableOn) -> None:
    refusal = ErrorReply(NOT_SO.code, more={"Item": WIRE})
    async with scripted(in_sequence(refusal, NOT_SO)) as server, table_on(server) as table:
        for current in (ITEM, None):
            with pytest.raises(ConditionFailed) as failed:
                await table.write(Delete(KEY, (Exists(),)))
            assert failed.value.current == {0: current}


@pytest.mark.parametrize("trouble", [BrokenReply.RESET, ErrorReply("InternalServerError", 500)])
async def test_a_condition_that_fails_after_a_lost_reply_may_have_met_our_own_write(
    table_on: TableOn, trouble: Reply
) -> None:
    async with scripted(in_sequence(trouble, NOT_SO)) as server, table_on(server) as table:
        with pytest.raises(StoreUnavailable, match="it is unknown whether a write happened"):
            await table.write(Put(KEY, {"v": 1}, (Absent(),)))


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
        (cancelled("None", {"Code": "ValidationError", "Message": TOO_LARGE}), ItemTooLarge, None),
        (ErrorReply("ValidationException", more={"message": TOO_LARGE}), ItemTooLarge, None),
        (cancelled(), StoreUnavailable, None),
        (ErrorReply("TransactionConflictException"), TransactionConflict, None),
        (ErrorReply("TransactionInProgressException"), StoreUnavailable, None),
    ],
)
async def test_a_cancelled_transaction_says_what_to_do(
    table_on: TableOn, refusal: ErrorReply, error: type[StoreError], current: dict[int, object] | None
) -> None:
    async with scripted(in_sequence(refusal)) as server, table_on(server) as table:
        with pytest.raises(StoreError) as raised:
            await table.transact(WRITES)
    assert type(raised.value) is error
    assert getattr(raised.value, "current", None) == current


async def test_a_single_write_may_conflict_with_a_transaction(table_on: TableOn) -> None:
    async with scripted(in_sequence(ErrorReply("TransactionConflictException"))) as server, table_on(server) as table:
        with pytest.raises(TransactionConflict):
            await table.write(Update(KEY, {"v": 1}, (), ()))
