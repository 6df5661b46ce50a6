"""Looking at a table without changing it."""

import aioboto3

from bg_ingest.adapters.dynamodb.client import Answer, Client, Refused, open_client
from bg_ingest.adapters.dynamodb.failures import translated
from bg_ingest.adapters.dynamodb.tables import EXPIRY, KEYS, LACKING
from bg_ingest.errors import StoreError

DENIED = {"AccessDeniedException", "UnauthorizedOperation"}


async def inspected(
    endpoint: str | None, region: str | None, table: str, *, aws: aioboto3.Session | None = None
) -> list[tuple[str, bool]]:
    """Return what was found, each with whether it is as it should be; StoreError when there is no such table."""
    async with open_client(endpoint, region, aws or aioboto3.Session()) as client:
        with translated(table):
            described = await _asked(client, "DescribeTable", table)
            expiry = await _asked(client, "DescribeTimeToLive", table)
            backups = await _asked(client, "DescribeContinuousBackups", table)
    return [*_of_table(described, table), *_of_expiry(expiry), *_of_backups(backups)]


def _of_table(answer: Answer | None, table: str) -> list[tuple[str, bool]]:
    if answer is None:
        return [("this identity may not describe the table; the service does not need to", True)]
    found = answer["Table"]
    if found["KeySchema"] != KEYS:
        raise StoreError(f"Table {table} has other keys than pk and sk: it is another service's.")
    status = str(found["TableStatus"])
    protected = bool(found.get("DeletionProtectionEnabled"))
    return [
        (f"{table} is {status.lower()}", status in {"ACTIVE", "UPDATING"}),
        ("it is protected from deletion" if protected else "it is not protected from deletion", protected),
    ]


def _of_expiry(answer: Answer | None) -> list[tuple[str, bool]]:
    if answer is None:
        return []
    found = answer["TimeToLiveDescription"]
    on = found["TimeToLiveStatus"] in {"ENABLED", "ENABLING"} and found["AttributeName"] == EXPIRY["AttributeName"]
    return [("what expired is deleted" if on else "nothing that expired is deleted: it is paid for for ever", on)]


def _of_backups(answer: Answer | None) -> list[tuple[str, bool]]:
    if answer is None:
        return []
    found = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
    on = found.get("PointInTimeRecoveryStatus") == "ENABLED"
    return [("it can be set back to any second" if on else "it has no point-in-time recovery", on)]


async def _asked(client: Client, operation: str, table: str) -> Answer | None:
    """Return None where the server does not have the operation, or does not let us."""
    try:
        return await client.call(operation, TableName=table)
    except Refused as refused:
        if refused.code in LACKING | DENIED:
            return None
        raise
