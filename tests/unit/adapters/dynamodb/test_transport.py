"""Calls over either transport: repetitions, credentials, proxies, signatures, and the units that calls cost."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from types import ModuleType

import aioboto3
import msgspec
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from yarl import URL

from bg_ingest.adapters.dynamodb import transport
from bg_ingest.adapters.dynamodb.table import DynamoTable
from bg_ingest.adapters.dynamodb.transport import CONTENT_TYPE, AwsKeys, MeteredTransport, Signer
from bg_ingest.errors import StoreUnavailable
from bg_ingest.ports.table import Put
from tests.fakes.dynamodb import AWS, REGION, BrokenReply, ErrorReply, RecordedRequest, Reply, in_sequence, scripted
from tests.unit.adapters.dynamodb.conftest import TableOn

KEY = ("user#ada", "head")
WIRE = {"pk": {"S": "user#ada"}, "sk": {"S": "head"}, "v": {"N": "1"}, "raw": {"B": "AP8="}, "yes": {"BOOL": True}}
ITEM = {"v": 1, "raw": b"\x00\xff", "yes": True}
THROTTLED = ErrorReply("ThrottlingException")


@pytest.mark.slow
@pytest.mark.parametrize(
    "trouble", [THROTTLED, ErrorReply("InternalServerError", 500), BrokenReply.RESET, BrokenReply.SILENCE]
)
async def test_case_41_what_passes_is_tried_again(table_on: TableOn, trouble: Reply) -> None:
    async with scripted(in_sequence(trouble, {"Item": WIRE})) as server, table_on(server) as table:
        assert await table.get(KEY) == ITEM
    assert [(each.operation, each.body["ConsistentRead"]) for each in server.asked] == [("GetItem", True)] * 2


async def test_a_proxy_in_front_of_a_server_may_answer_for_it(table_on: TableOn) -> None:
    def busy(_: RecordedRequest) -> Reply:
        return BrokenReply.BUSY

    async with scripted(busy) as server, table_on(server) as table:
        with pytest.raises(StoreUnavailable, match="DynamoDB answers HTTP 502"):
            await table.get(KEY)
    assert len(server.asked) == transport.MAX_TRIES


async def test_a_redirect_is_not_followed_with_what_was_signed_for_us() -> None:
    async with (
        scripted(in_sequence({})) as other,
        scripted(lambda _: BrokenReply.MOVED) as server,
        transport.open_transport(server.endpoint, REGION, AWS) as opened,
    ):
        server.moved_to = other.endpoint
        with pytest.raises(StoreUnavailable, match="DynamoDB answers HTTP 307"):
            await DynamoTable(opened, "readings").get(KEY)
    assert other.asked == []


async def test_what_arrives_bears_the_signature_of_what_arrives() -> None:
    async with scripted(in_sequence({})) as server, transport.open_transport(server.endpoint, REGION, AWS) as opened:
        await DynamoTable(opened, "readings").get(KEY)
    (asked,) = server.asked
    came = {name.lower(): value for name, value in asked.headers.items()}
    signed = ("content-type", "host", "x-amz-date", "x-amz-target")
    headers = {name: came[name] for name in signed}
    request = AWSRequest("POST", server.endpoint, headers, msgspec.json.encode(asked.body))
    request.context["timestamp"] = came["x-amz-date"]
    auth = SigV4Auth(ReadOnlyCredentials("test", "test", None), "dynamodb", REGION)
    expected = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    assert came["authorization"].endswith(f"SignedHeaders={';'.join(signed)}, Signature={expected}")


async def test_a_proxy_of_the_environment_is_asked(transports: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted(in_sequence({"Item": WIRE})) as server:
        monkeypatch.setenv("http_proxy", server.endpoint)
        monkeypatch.setenv("no_proxy", "localhost")
        async with transports.open_transport("http://dynamodb.test", REGION, AWS) as opened:
            assert await DynamoTable(opened, "readings").get(KEY) == ITEM
    assert server.asked[0].headers["Host"] == "dynamodb.test"


@pytest.mark.slow
@pytest.mark.usefixtures("no_credentials")
async def test_aws_itself_is_not_asked_without_credentials(transports: ModuleType) -> None:
    async with transports.open_transport("https://localhost:1", REGION, aioboto3.Session()) as opened:
        with pytest.raises(StoreUnavailable, match="does not answer: NoCredentialsError"):
            await DynamoTable(opened, "readings").get(KEY)


@pytest.mark.slow
@pytest.mark.usefixtures("no_credentials")
async def test_an_emulator_needs_no_credentials(transports: ModuleType) -> None:
    async with (
        scripted(in_sequence({})) as server,
        transports.open_transport(server.endpoint, REGION, aioboto3.Session()) as opened,
    ):
        await DynamoTable(opened, "readings").get(KEY)
    assert "Credential=anybody/" in server.asked[0].headers["Authorization"]


async def test_units_are_reported_by_kind_whether_an_answer_has_one_or_many(transports: ModuleType) -> None:
    asked: list[RecordedRequest] = []

    def answer(question: RecordedRequest) -> Reply:
        asked.append(question)
        one = {"CapacityUnits": 1.5}
        several = question.operation in {"TransactWriteItems", "BatchGetItem"}
        cost = {"ConsumedCapacity": [one, one] if several else one}
        return cost | {"Responses": {}, "Items": []}

    units: Counter[str] = Counter()

    def consumed(kind: str, number: float) -> None:
        units[kind] += int(number * 2)

    async with scripted(answer) as server, transports.open_transport(server.endpoint, REGION, AWS) as opened:
        table = DynamoTable(MeteredTransport(opened, consumed), "readings")
        await table.get(KEY)
        await table.batch_get([KEY])
        assert units == {"read": 3 + 6}
        assert [page async for page in table.query("a", "b", "c")] == [page async for page in table.scan(0, 1)] == []
        assert units == {"read": 3 + 6 + 3 + 3}
        units.clear()
        await table.write(Put(("a", "b"), {"v": 1}))
        await table.transact([Put(("a", "b"), {"v": 1})])
        assert units == {"write": 3 + 6}
    assert len(asked) > 4


AT = datetime(2026, 3, 2, 23, 59, 59, tzinfo=UTC)
KEPT, OF_A_ROLE = AwsKeys("AKIDEXAMPLE", "secret+/=", None), AwsKeys("ASIAEXAMPLE", "other", "token//==")
TARGET = "DynamoDB_20120810.GetItem"


def by_botocore(
    monkeypatch: pytest.MonkeyPatch, url: str, credentials: AwsKeys, body: bytes, at: datetime
) -> dict[str, str]:
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: at.replace(tzinfo=None))
    request = AWSRequest("POST", url, {"Content-Type": CONTENT_TYPE, "X-Amz-Target": TARGET}, body)
    SigV4Auth(credentials, "dynamodb", "eu-central-1").add_auth(request)
    return {name.lower(): str(value) for name, value in request.headers.items()}


@pytest.mark.parametrize("credentials", [KEPT, OF_A_ROLE])
@pytest.mark.parametrize(
    "url",
    [
        "https://dynamodb.eu-central-1.amazonaws.com",
        "http://127.0.0.1:8000",
        "http://[::1]:8000/",
        "https://example.org:443/",
    ],
)
def test_a_signature_is_the_one_that_botocore_makes(
    monkeypatch: pytest.MonkeyPatch, url: str, credentials: AwsKeys
) -> None:
    signer = Signer(URL(url), "eu-central-1")
    for body, at in ((b"{}", AT), ('{"TableName":"é"}'.encode(), AT + timedelta(seconds=2)), (b"", AT)):
        theirs = by_botocore(monkeypatch, url, credentials, body, at)
        ours = signer.headers(credentials, TARGET, body, at)
        assert {name: ours[name] for name in theirs} == theirs


def test_renewed_credentials_sign_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Signer(URL("https://example.org"), "eu-central-1")
    for credentials in (KEPT, OF_A_ROLE, KEPT):
        theirs = by_botocore(monkeypatch, "https://example.org", credentials, b"{}", AT)
        assert signer.headers(credentials, TARGET, b"{}", AT)["authorization"] == theirs["authorization"]
