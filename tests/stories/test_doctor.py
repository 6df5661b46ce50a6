"""One fault after the other in a sound set-up: ``doctor`` fails, and its text names the fault.

Faults of the broker beside an unreachable one are in ``tests/integration/test_rabbitmq_topology.py``.
"""

import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute

from bg_ingest.adapters.clock import SystemClock
from bg_ingest.adapters.dynamodb.admin import KEY_SCHEMA, KEY_TYPES
from bg_ingest.adapters.sealing import AesGcmSealer
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.commands.setup import run_checks
from bg_ingest.doctor import Finding, Verdict
from bg_ingest.domain.access import AUDIT_KEY_BYTES, audit_key_seal_data
from bg_ingest.settings import Settings
from bg_ingest.store import Store, check_layout
from tests.fakes.dynamodb import ErrorReply, RecordedRequest, Reply, scripted
from tests.harness.sample_values import commit_connection

pytestmark = pytest.mark.slow

DYNAMO = {"aws_region": "us-east-1", "dynamodb_table": "readings"}
NOWHERE = "http://127.0.0.1:1"

Fault: TypeAlias = Callable[[Path], AbstractAsyncContextManager[Mapping[str, Any]]]
"""Sets up everything and breaks one part; yields the settings."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aws: Callable[[str], None]) -> None:
    monkeypatch.chdir(tmp_path)
    aws(NOWHERE)


def given(**settings: Any) -> Fault:
    @asynccontextmanager
    async def settings_alone(_: Path) -> AsyncIterator[Mapping[str, Any]]:
        yield settings

    return settings_alone


def dynamo(answer: Callable[[RecordedRequest], Reply]) -> Fault:
    @asynccontextmanager
    async def server(_: Path) -> AsyncIterator[Mapping[str, Any]]:
        async with scripted(answer) as running:
            yield {**DYNAMO, "dynamodb_endpoint": running.endpoint}

    return server


def refuse(code: str, operation: str = "") -> Fault:
    """Return an error for the operation, or for all."""

    def answer(request: RecordedRequest) -> Reply:
        if operation in {"", request.operation}:
            return ErrorReply(code)
        return {} if request.operation == "GetItem" else ErrorReply("UnknownOperationException")

    return dynamo(answer)


def table_of(schema: object = KEY_SCHEMA, types: object = KEY_TYPES) -> dict[str, Any]:
    return {"KeySchema": schema, "AttributeDefinitions": types, "TableStatus": "ACTIVE"}


def describe(**table: Any) -> Fault:
    return dynamo(
        lambda request: (
            {"Table": table_of(**table)}
            if request.operation == "DescribeTable"
            else ErrorReply("UnknownOperationException")
        )
    )


@asynccontextmanager
async def http_server(answer: bytes) -> AsyncIterator[str]:
    """Answer every request; yield the URL."""

    async def respond(stream: ByteStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(answer)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, respond)
        yield f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"  # noqa: S610 - anyio's method
        group.cancel_scope.cancel()


def provider_at(url: str) -> dict[str, Any]:
    return {"dexcom_client_id": "id", "dexcom_client_secret": "secret", "dexcom_api_base_url": url}


def provider_clock(skew: timedelta) -> Fault:
    @asynccontextmanager
    async def server(_: Path) -> AsyncIterator[Mapping[str, Any]]:
        date = format_datetime((SystemClock().now() + skew).astimezone(UTC), usegmt=True)
        answer = f"HTTP/1.1 401 Unauthorized\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n"
        async with http_server(answer.encode()) as url:
            yield provider_at(url)

    return server


def proxy(answer: bytes | None) -> Fault:
    """Set a proxy that gives this answer, or that is not there."""

    @asynccontextmanager
    async def server(_: Path) -> AsyncIterator[Mapping[str, Any]]:
        async with AsyncExitStack() as stack:
            address = NOWHERE if answer is None else await stack.enter_async_context(http_server(answer))
            with pytest.MonkeyPatch.context() as environment:
                environment.setenv("HTTP_PROXY", address)
                yield provider_at("http://provider.test")

    return server


def stored(write: Callable[[Store], Any]) -> Fault:
    """Write to the file of the store before the check; the keys in use are those of the settings."""

    @asynccontextmanager
    async def file(folder: Path) -> AsyncIterator[Mapping[str, Any]]:
        async with open_table(folder / "bg-ingest.sqlite", SystemClock()) as table:
            await check_layout(table)
            await write(Store(table, SystemClock()))
        yield {"data_dir": folder}

    return file


async def seal_the_audit_key_with_another_key(store: Store) -> None:
    sealer = AesGcmSealer([bytes(32)])
    await store.audit.hash_key(sealer.seal(bytes(AUDIT_KEY_BYTES), audit_key_seal_data("bg-ingest")))


FAULTS: dict[str, tuple[Fault, str, str]] = {
    "broker unreachable": (given(rabbitmq_url="amqp://u:p@127.0.0.1:1/"), "broker", "Connect call failed"),
    "DynamoDB unreachable": (given(**DYNAMO, dynamodb_endpoint=NOWHERE), "store", "does not answer"),
    "no right": (refuse("AccessDeniedException"), "store", "a right on table readings"),
    "no right to write": (refuse("AccessDeniedException", "PutItem"), "store", "PutItem"),
    "wrong AWS credentials": (refuse("UnrecognizedClientException"), "table", "AWS credentials"),
    "AWS signature of another time": (refuse("InvalidSignatureException"), "table", "clock"),
    "another table": (
        describe(schema=[{"AttributeName": "id", "KeyType": "HASH"}]),
        "table",
        "belongs to another service",
    ),
    "numbers as keys": (
        describe(types=[{"AttributeName": name, "AttributeType": "N"} for name in ("pk", "sk")]),
        "table",
        "belongs to another service",
    ),
    "no DynamoDB": (dynamo(lambda _: {}), "table", "is it DynamoDB"),
    "keys of other grants": (stored(commit_connection), "keys", "stored grants do not open"),
    "key of another audit": (stored(seal_the_audit_key_with_another_key), "keys", "audit does not open"),
    "provider unreachable": (given(**provider_at(NOWHERE)), "provider", "127.0.0.1"),
    "clock behind": (provider_clock(timedelta(minutes=9)), "clock", "behind dexcom"),
    "clock ahead": (provider_clock(-timedelta(minutes=9)), "clock", "ahead of dexcom"),
    "no proxy": (proxy(None), "provider", "the proxy of HTTP_PROXY"),
    "proxy with password": (
        proxy(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n"),
        "provider",
        "the proxy of HTTP_PROXY",
    ),
    "issuer unreachable": (given(jwt_issuer=NOWHERE, jwt_audience="bg"), "issuer", "JWT_ISSUER"),
    "issuer of senders unreachable": (
        given(webhook_jwt_issuer=NOWHERE, webhook_jwt_audience="bg"),
        "issuer",
        "WEBHOOK_JWT_ISSUER",
    ),
}


async def run_doctor(fault: Fault, folder: Path) -> list[Finding]:
    async with fault(folder) as settings:
        return await run_checks(Settings(**settings))


async def test_a_sound_set_up_has_no_failure(tmp_path: Path) -> None:
    assert {finding.verdict for finding in await run_doctor(given(), tmp_path)} <= {Verdict.OK, Verdict.WARNING}


@pytest.mark.parametrize(("fault", "check", "says"), FAULTS.values(), ids=list(FAULTS))
async def test_doctor_fails_for_each_fault_and_names_it(fault: Fault, check: str, says: str, tmp_path: Path) -> None:
    failed = [finding for finding in await run_doctor(fault, tmp_path) if finding.verdict is Verdict.FAILED]
    texts = [f"{finding.found}: {finding.advice}" for finding in failed if finding.check == check]
    assert any(says in text for text in texts), failed
    assert all(finding.advice for finding in failed)


async def test_a_missing_exporter_of_traces_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bg_ingest.observability.tracing", None)
    findings = await run_doctor(given(traces_endpoint=NOWHERE), tmp_path)
    (failed,) = [finding for finding in findings if finding.verdict is Verdict.FAILED]
    assert (failed.check, "pip install" in failed.found) == ("traces", True)


async def test_changes_that_nothing_publishes_are_a_warning(tmp_path: Path) -> None:
    (waiting,) = [
        finding for finding in await run_doctor(stored(commit_connection), tmp_path) if finding.check == "outbox"
    ]
    assert (waiting.verdict, "since" in waiting.found) == (Verdict.WARNING, True)
