"""Creation and inspection of a table on incomplete and slow servers, and of a table of another service."""

from typing import Any

import pytest

from bg_ingest.adapters.dynamodb import admin as tables
from bg_ingest.adapters.dynamodb.admin import KEY_SCHEMA, KEY_TYPES, create_table, inspect_table
from bg_ingest.errors import StoreError, StoreUnavailable
from tests.fakes.dynamodb import AWS, REGION, ErrorReply, RecordedRequest, Reply, scripted

GONE = ErrorReply("ResourceNotFoundException")
TABLE = {"TableStatus": "ACTIVE", "KeySchema": KEY_SCHEMA, "AttributeDefinitions": KEY_TYPES}
RECOVERY = "PointInTimeRecoveryDescription"
WHOLE: dict[str, Reply] = {
    "DescribeTable": {"Table": {**TABLE, "DeletionProtectionEnabled": True}},
    "DescribeTimeToLive": {"TimeToLiveDescription": {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}},
    "DescribeContinuousBackups": {"ContinuousBackupsDescription": {RECOVERY: {"PointInTimeRecoveryStatus": "ENABLED"}}},
}
"""Answers of a server with a complete table."""
UNSET: dict[str, Reply] = {
    "DescribeTimeToLive": {"TimeToLiveDescription": {"TimeToLiveStatus": "DISABLED"}},
    "DescribeContinuousBackups": {
        "ContinuousBackupsDescription": {RECOVERY: {"PointInTimeRecoveryStatus": "DISABLED"}}
    },
}
INSPECTING = {"DescribeTable", "DescribeTimeToLive", "DescribeContinuousBackups"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "CHECK_INTERVAL_SECONDS", 0.001)
    monkeypatch.setattr(tables, "READY_TIMEOUT", 2)


async def making(**replies: Reply | list[Reply]) -> tuple[list[str], list[str]]:
    """Make a table; return the report and the changes. Several replies are given in order, the last one repeatedly."""
    answers: dict[str, Reply | list[Reply]] = {**WHOLE, **replies}
    changed: list[str] = []

    def answer(asked: RecordedRequest) -> Reply:
        if asked.operation not in INSPECTING:
            changed.append(asked.operation)
        reply = answers.get(asked.operation, {})
        if isinstance(reply, list):
            return reply.pop(0) if len(reply) > 1 else reply[0]
        return reply

    async with scripted(answer) as server:
        return await create_table(server.endpoint, REGION, "readings", AWS), changed


async def test_where_all_is_done_nothing_is_changed() -> None:
    report, changed = await making()
    assert (len(report), changed) == (4, [])


async def test_a_table_is_waited_for_while_it_is_made_and_while_its_backups_cannot_be_set() -> None:
    creating: Reply = {"Table": {**TABLE, "TableStatus": "CREATING"}}
    unprotected: Reply = {"Table": TABLE}
    busy, not_yet = ErrorReply("ResourceInUseException"), ErrorReply("ContinuousBackupsUnavailableException")
    report, changed = await making(
        **UNSET,
        DescribeTable=[GONE, creating, creating, unprotected, unprotected, WHOLE["DescribeTable"]],
        UpdateTable=[busy, {}],
        UpdateContinuousBackups=[not_yet, not_yet, {}],
    )
    assert changed == [
        "CreateTable",
        "UpdateTimeToLive",
        *["UpdateTable"] * 2,
        *["UpdateContinuousBackups"] * 3,
    ]
    assert report == [
        "Table readings was created, billed by request.",
        "Expired items are now deleted.",
        "The table is now protected from deletion.",
        "Point-in-time recovery is now on.",
    ]


async def test_of_two_who_make_it_at_once_both_find_it() -> None:
    taken = ErrorReply("ResourceInUseException")
    report, _ = await making(DescribeTable=[GONE, WHOLE["DescribeTable"]], CreateTable=taken)
    assert "by another process" in report[0]


async def test_a_missing_server_feature_is_reported_and_is_no_error() -> None:
    unsupported = ErrorReply("UnknownOperationException")
    report, _ = await making(
        DescribeTable={"Table": TABLE},
        DescribeTimeToLive=unsupported,
        UpdateTable=unsupported,
        DescribeContinuousBackups=unsupported,
        UpdateContinuousBackups=unsupported,
    )
    assert report[1:] == [
        "This server does not delete expired items.",
        "This server does not protect tables from deletion.",
        "This server has no point-in-time recovery.",
    ]


@pytest.mark.parametrize(
    ("replies", "expected_detail"),
    [
        ({"DescribeTable": {"Table": {**TABLE, "KeySchema": KEY_SCHEMA[:1]}}}, "other keys"),
        ({"DescribeTable": {"Table": {**TABLE, "AttributeDefinitions": []}}}, "other keys"),
        (
            {"DescribeTimeToLive": {"TimeToLiveDescription": {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}}},
            "by ttl instead of expires_at",
        ),
    ],
)
async def test_the_table_of_another_program_is_refused_and_unchanged(
    replies: dict[str, Any], expected_detail: str
) -> None:
    with pytest.raises(StoreError, match=expected_detail):
        await making(**replies)


async def test_a_missing_right_to_make_tables_is_reported() -> None:
    with pytest.raises(StoreUnavailable, match="AccessDeniedException"):
        await making(DescribeTable=GONE, CreateTable=ErrorReply("AccessDeniedException"))


@pytest.mark.slow
async def test_a_table_that_does_not_get_ready_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "READY_TIMEOUT", 0.2)
    with pytest.raises(StoreUnavailable, match="not ready within"):
        await making(DescribeTable={"Table": {**TABLE, "TableStatus": "CREATING"}})


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
