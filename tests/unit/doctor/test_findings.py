"""What the doctor finds in good and in broken set-ups."""

import re
import resource
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from bg_ingest.adapters.dynamodb.admin import inspect_table
from bg_ingest.adapters.dynamodb.table import DynamoTable
from bg_ingest.adapters.dynamodb.transport import open_transport
from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.doctor.finding import Finding, Verdict
from bg_ingest.doctor.machine import check_machine
from bg_ingest.doctor.provider import check_provider
from bg_ingest.doctor.store import RIGHTS, check_keys, check_rights
from bg_ingest.errors import StoreError
from bg_ingest.providers.http import http_client
from bg_ingest.server import MAX_FILES
from tests.fakes.clock import NOON, SetClock
from tests.fakes.dynamodb import AWS, REGION, ErrorReply, RecordedRequest, Reply, scripted
from tests.fakes.faults import Fault, FaultyCalls, at
from tests.harness.cli import environment
from tests.harness.service import open_service
from tests.unit.adapters.dynamodb.test_admin import UNSET, WHOLE

ROOT = Path(__file__).parents[3]
URL = "https://provider.test/readings"


def verdicts(findings: list[Finding]) -> dict[str, Verdict]:
    return {each.check: each.verdict for each in findings}


async def check_answer(answer: httpx.Response | Exception, now: datetime = NOON) -> list[Finding]:
    def answered(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with http_client(httpx.MockTransport(answered)) as http:
        return await check_provider("acme", URL, http, SetClock(now))


def dated_answer(at: datetime, status: int = 401) -> httpx.Response:
    return httpx.Response(status, headers={"date": format_datetime(at.astimezone(UTC), usegmt=True)})


@pytest.mark.parametrize(
    ("skew", "verdict", "said"),
    [(0, Verdict.OK, "0 seconds"), (40, Verdict.WARNING, "40 seconds ahead"), (-400, Verdict.FAILED, "seconds behind")],
)
async def test_the_clock_is_held_against_the_providers(skew: int, verdict: Verdict, said: str) -> None:
    provider, clock = await check_answer(dated_answer(NOON), NOON + timedelta(seconds=skew))
    assert provider.verdict is Verdict.OK, "that it wants credentials shows that it is there"
    assert clock.verdict is verdict
    assert said in clock.found
    assert bool(clock.advice) is (verdict is not Verdict.OK)


async def test_an_unreachable_or_failing_provider_is_reported() -> None:
    (unreachable,) = await check_answer(httpx.ConnectError("no way"))
    assert (unreachable.verdict, bool(unreachable.advice)) == (Verdict.FAILED, True)
    assert verdicts(await check_answer(dated_answer(NOON, 503)))["provider"] is Verdict.WARNING
    assert verdicts(await check_answer(httpx.Response(200))) == {"provider": Verdict.OK}, "no date, no clock"


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
    """Return what AWS wants of the identity that asks this."""
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
        assert found.verdict is Verdict.OK, "the service does not need it"
    else:
        assert found.verdict is Verdict.FAILED
        assert lacking in found.advice


def test_the_rights_are_those_of_the_calls_that_are_made_and_stand_in_the_docs() -> None:
    source = (ROOT / "bg_ingest/adapters/dynamodb/table.py").read_text("utf-8")
    calls = {*re.findall(r'(?:\.call|_pages)\(\s*"(\w+)"', source)} - {"TransactWriteItems"}
    assert {*RIGHTS, "Scan"} == calls | {*IN_TRANSACTION.values()}
    operating = (ROOT / "docs/operating/README.md").read_text("utf-8")
    (row,) = re.findall(r"^\| DynamoDB \|.*$", operating, re.MULTILINE)
    assert {*RIGHTS, "Scan"} <= {*re.findall(r"`(\w+)`", row)}


async def test_looking_leaves_nothing_behind() -> None:
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


def test_too_few_files_are_a_warning_that_names_what_the_server_takes(tmp_path: Path) -> None:
    """The server raises its own limit, so what cannot be raised counts."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = most if most > 0 else MAX_FILES
    assert verdicts(check_machine(enough, None)) == {"limits": Verdict.OK}
    limited = f"ulimit -n {min(enough, MAX_FILES) - 1}; exec '{sys.executable}' -m bg_ingest.cli doctor --json"
    shown = subprocess.run(
        ["sh", "-c", limited], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert f"raise it to {MAX_FILES}: ulimit -n" in shown.stdout


def test_the_disk_is_checked_before_its_folder_is_made(tmp_path: Path) -> None:
    assert verdicts(check_machine(0, tmp_path / "not" / "yet")).keys() == {"limits", "disk"}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_table_is_described_as_it_is() -> None:
    replies: dict[str, Reply] = dict(WHOLE)
    asked: list[str] = []

    def answer(question: RecordedRequest) -> Reply:
        asked.append(question.operation)
        return replies[question.operation]

    async with scripted(answer) as server:
        whole = await inspect_table(server.endpoint, REGION, "readings", AWS)
        assert [right for _, right in whole] == [True] * 4
        replies.update(UNSET)
        bare = await inspect_table(server.endpoint, REGION, "readings", AWS)
        assert [right for _, right in bare] == [True, True, False, False]
        replies["DescribeTimeToLive"] = replies["DescribeContinuousBackups"] = ErrorReply("AccessDeniedException")
        assert [right for _, right in await inspect_table(server.endpoint, REGION, "readings", AWS)] == [True, True]
        replies["DescribeTable"] = ErrorReply("ResourceNotFoundException")
        with pytest.raises(StoreError, match="tables create"):
            await inspect_table(server.endpoint, REGION, "readings", AWS)
    assert all(operation.startswith("Describe") for operation in asked)
