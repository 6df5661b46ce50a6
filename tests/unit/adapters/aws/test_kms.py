"""Wrapped keys, asked of moto's KMS over loopback by the real AWS library."""

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import boto3
import pytest

from bg_ingest.adapters.aws.kms import ENCRYPTION_CONTEXT, open_kms
from bg_ingest.adapters.aws.session import get_session
from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.errors import KeyUnavailable, SealBroken
from tests.fakes.dynamodb import BrokenReply, ErrorReply, Reply, in_sequence, scripted
from tests.harness.hygiene import exception_chain

REGION, ELSEWHERE = "eu-central-1", "eu-west-1"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def kms(moto_server: str, aws: Callable[[str], None]) -> Iterator[Any]:
    """Give AWS's own client, and have ours ask the same server."""
    aws(moto_server)
    client = boto3.client("kms", region_name=REGION)
    yield client
    client.close()


def new_kms_key(client: Any) -> str:
    return str(client.create_key()["KeyMetadata"]["KeyId"])


def wrapped_by(client: Any, context: Mapping[str, str] = ENCRYPTION_CONTEXT, size: int = 32) -> tuple[bytes, bytes]:
    """Return a key, plain and wrapped, as KMS makes it for anybody."""
    made = client.generate_data_key(KeyId=new_kms_key(client), NumberOfBytes=size, EncryptionContext=dict(context))
    return made["Plaintext"], made["CiphertextBlob"]


async def unwrapped(wrapped: bytes, region: str | None = REGION) -> bytes:
    async with open_kms(region, get_session()) as kms:
        return await kms.unwrap(wrapped, "Key 2 of TOKEN_ENCRYPTION_KEYS")


async def refusal(wrapped: bytes, region: str | None = REGION) -> str:
    with pytest.raises(KeyUnavailable) as refused:
        await unwrapped(wrapped, region)
    assert [*exception_chain(refused.value)] == [refused.value], "others would be shown with it"
    said = str(refused.value)
    assert said.startswith(("Key 2 of TOKEN_ENCRYPTION_KEYS", "A key "))
    assert base64.b64encode(wrapped).decode() not in said
    assert said.count("\n") == 0
    return said


async def test_a_new_key_is_wrapped_and_unwraps_to_the_same_one_each_time(kms: Any) -> None:
    kms.create_alias(AliasName="alias/bg-ingest", TargetKeyId=new_kms_key(kms))
    async with open_kms(REGION, get_session()) as ours:
        wrapped, other = await ours.new_key("alias/bg-ingest"), await ours.new_key("alias/bg-ingest")
    key = await unwrapped(wrapped)
    assert key not in wrapped
    sealed = AesGcmSealer([key]).seal(b"a grant", b"row")
    assert AesGcmSealer([await unwrapped(wrapped)]).open(sealed, b"row") == b"a grant"
    with pytest.raises(SealBroken):
        AesGcmSealer([await unwrapped(other)]).open(sealed, b"row")


async def test_neither_the_key_nor_what_wraps_it_is_logged(kms: Any, caplog: pytest.LogCaptureFixture) -> None:
    plain, wrapped = wrapped_by(kms)
    caplog.clear()
    assert await unwrapped(wrapped) == plain
    for each in (plain, wrapped):
        assert base64.b64encode(each).decode() not in caplog.text
        assert repr(each)[2:-1] not in caplog.text


async def test_a_key_wrapped_for_something_else_is_refused(kms: Any) -> None:
    for context in (
        {},
        {"application": "bg-ingest"},
        {**ENCRYPTION_CONTEXT, "purpose": "another"},
        {**ENCRYPTION_CONTEXT, "more": "x"},
    ):
        _, wrapped = wrapped_by(kms, context)
        assert "wrapped for something else" in await refusal(wrapped)


async def test_no_altered_byte_goes_unnoticed(kms: Any) -> None:
    _, wrapped = wrapped_by(kms)
    async with open_kms(REGION, get_session()) as ours:
        for index in range(len(wrapped)):
            altered = bytearray(wrapped)
            altered[index] ^= 1
            with pytest.raises(KeyUnavailable, match=r"InvalidCiphertextException|AccessDeniedException"):
                await ours.unwrap(bytes(altered), "Key 1")
    assert "altered" in await refusal(wrapped[:-1])


async def test_a_key_that_is_not_there_is_refused_with_the_right_to_ask_for(kms: Any) -> None:
    _, wrapped = wrapped_by(kms)
    assert "allow this identity kms:Decrypt on the KMS key, and check AWS_REGION" in await refusal(wrapped, ELSEWHERE)


async def test_a_key_of_another_length_is_no_key(kms: Any) -> None:
    _, wrapped = wrapped_by(kms, size=16)
    assert "no key of 32 bytes" in await refusal(wrapped)


async def test_no_new_key_by_a_name_that_nobody_has(kms: Any) -> None:
    async with open_kms(REGION, get_session()) as ours:
        with pytest.raises(KeyUnavailable, match=r"NotFoundException\): name a KMS key of this account and region"):
            await ours.new_key("alias/nobody")


@pytest.mark.parametrize(
    ("reply", "advice"),
    [
        (ErrorReply("AccessDeniedException"), "allow this identity kms:Decrypt on the KMS key, and check AWS_REGION"),
        (ErrorReply("DisabledException"), "enable the KMS key"),
        (ErrorReply("KMSInvalidStateException"), "enable the KMS key, or cancel its deletion"),
        (ErrorReply("ThrottlingException"), "try again"),
        (ErrorReply("UnrecognizedClientException"), "AWS credentials"),
        (BrokenReply.NONSENSE, "AWS_ENDPOINT_URL"),
        (BrokenReply.RESET, "network"),
        ({}, "AWS_ENDPOINT_URL"),
        ({"Plaintext": "c2hvcnQ="}, "create one with bg-ingest keys create-encryption --kms"),
    ],
)
async def test_whatever_the_answer_it_becomes_a_sentence_that_says_what_to_do(
    aws: Callable[[str], None], reply: Reply, advice: str
) -> None:
    """As AWS documents them; moto says none of these."""
    async with scripted(in_sequence(reply)) as server:
        aws(server.endpoint)
        said = await refusal(b"w" * 184)
    assert advice in said
    assert "about a secret" not in said, "what KMS says may quote what it was asked"
    assert {each.body["EncryptionContext"]["application"] for each in server.asked} == {"bg-ingest"}


@pytest.mark.parametrize(
    ("reply", "advice"),
    [
        (ErrorReply("AccessDeniedException"), "allow this identity kms:GenerateDataKeyWithoutPlaintext"),
        (ErrorReply("ValidationException"), "name a KMS key"),
        ({}, "is it AWS KMS"),
    ],
)
async def test_why_no_new_key_is_made_is_said_too(aws: Callable[[str], None], reply: Reply, advice: str) -> None:
    async with scripted(in_sequence(reply)) as server:
        aws(server.endpoint)
        async with open_kms(REGION, get_session()) as ours:
            with pytest.raises(KeyUnavailable, match=advice):
                await ours.new_key("alias/any")


@pytest.mark.usefixtures("unreachable_aws")
async def test_where_nobody_answers_the_network_is_named() -> None:
    said = await refusal(b"w" * 184)
    assert "(EndpointConnectionError): check the network, AWS_REGION and the AWS credentials" in said


@pytest.mark.usefixtures("kms")
async def test_where_no_region_is_set_that_is_said() -> None:
    assert "(NoRegionError): set AWS_REGION." in await refusal(b"w" * 184, None)


@pytest.mark.parametrize("endpoint", ["nonsense", "http://[h"])
async def test_an_address_that_is_none_is_no_traceback(aws: Callable[[str], None], endpoint: str) -> None:
    aws(endpoint)
    assert await refusal(b"w" * 184)
