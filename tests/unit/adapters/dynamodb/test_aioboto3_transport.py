"""Answers and errors of aioboto3's client in the form of the port ``Transport``; all else: ``test_transport.py``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from bg_ingest.adapters.dynamodb.aioboto3_transport import open_transport
from bg_ingest.adapters.dynamodb.transport import DynamoError, Transport
from tests.fakes.dynamodb import AWS, REGION, BrokenReply, ErrorReply, Reply, in_sequence, scripted

NOT_SO = "ConditionalCheckFailedException"


@asynccontextmanager
async def answering(*replies: Reply) -> AsyncIterator[Transport]:
    async with scripted(in_sequence(*replies)) as server, open_transport(server.endpoint, REGION, AWS) as transport:
        yield transport


async def test_numbers_are_texts_and_bytes_are_bytes() -> None:
    async with answering({"Item": {"number": {"N": "1"}, "raw": {"B": "AP8="}}}) as transport:
        answer = await transport.call("GetItem", TableName="readings", Key={"pk": {"S": "a"}, "sk": {"S": "b"}})
    assert answer["Item"] == {"number": {"N": "1"}, "raw": {"B": b"\x00\xff"}}


@pytest.mark.parametrize(
    ("replies", "code", "tries", "is_retryable"),
    [
        ([ErrorReply("ValidationException")], "ValidationException", 1, False),
        ([ErrorReply("ThrottlingException")], "ThrottlingException", 3, True),
        (
            [BrokenReply.RESET, ErrorReply("ConditionalCheckFailedException")],
            "ConditionalCheckFailedException",
            2,
            False,
        ),
        ([BrokenReply.BUSY], "HTTP 502", 3, True),
    ],
)
async def test_an_error_has_dynamodbs_code_and_the_number_of_tries(
    replies: list[Reply], code: str, tries: int, *, is_retryable: bool
) -> None:
    async with answering(*replies) as transport:
        with pytest.raises(DynamoError) as raised:
            await transport.call("DescribeTable", TableName="readings")
    assert (raised.value.code, raised.value.tries, raised.value.is_retryable) == (code, tries, is_retryable)


async def test_the_reasons_of_a_cancelled_transaction_are_in_the_answer() -> None:
    reasons = [{"Code": "None"}, {"Code": "ConditionalCheckFailed", "Item": {"raw": {"B": "AP8="}}}]
    reply = ErrorReply("TransactionCanceledException", more={"CancellationReasons": reasons})
    async with answering(reply) as transport:
        with pytest.raises(DynamoError) as raised:
            await transport.call("TransactWriteItems", TransactItems=[], ClientRequestToken="token")
    none, failed = raised.value.answer["CancellationReasons"]
    assert (none["Code"], failed["Item"]) == ("None", {"raw": {"B": b"\x00\xff"}})


async def test_the_page_of_a_web_server_is_no_empty_answer() -> None:
    async with answering(BrokenReply.NONSENSE) as transport:
        with pytest.raises(msgspec.DecodeError):
            await transport.call("DescribeTable", TableName="readings")
