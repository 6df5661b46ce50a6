"""Making the table: run by an operator, not by the service, which needs no right to."""

from typing import Any

import aioboto3
import anyio

from bg_ingest.adapters.dynamodb.client import Answer, Client, Refused, open_client
from bg_ingest.adapters.dynamodb.failures import translated
from bg_ingest.adapters.dynamodb.table import DynamoTable
from bg_ingest.adapters.table.store import agree
from bg_ingest.errors import StoreError, StoreUnavailable

EXPIRY = {"Enabled": True, "AttributeName": "expires_at"}

READY_WITHIN, LOOK_EVERY = 120.0, 0.5
"""Seconds: AWS takes some ten to make a table, and sometimes a minute more until its backups can be set."""

KEYS = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
KEY_TYPES = [{"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": "sk", "AttributeType": "S"}]

LACKING = {"UnknownOperationException", "UnsupportedOperation", "NotImplemented", "InvalidAction"}
"""How emulators say that they do not have an operation."""

NOT_YET = {"ResourceInUseException", "ContinuousBackupsUnavailableException", "LimitExceededException"}
"""How AWS says that a table is still being made or changed."""


async def create_table(
    endpoint: str | None, region: str | None, table: str, *, aws: aioboto3.Session | None = None
) -> list[str]:
    """Make the table, or put an existing one right, and agree on its layout; run again, it changes nothing.

    Returns what was found and done, a sentence each. StoreError when it is somebody else's table: it has other keys,
    another expiry attribute or another layout.
    """
    async with open_client(endpoint, region, aws or aioboto3.Session()) as client:
        making = _Making(client, table)
        with anyio.move_on_after(READY_WITHIN), translated(table):
            report = [
                await making.table(),
                await making.expiry(),
                await making.deletion_protection(),
                await making.backups(),
            ]
            await agree(DynamoTable(client, table))
            return report
    raise StoreUnavailable(f"Table {table} was not ready within {READY_WITHIN:.0f} seconds: try again.")


class _Making:
    """Each step looks first, acts where needed, and says what it found or did."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._name = name

    async def table(self) -> str:
        found = await self._described()
        said = f"Table {self._name} was there." if found else await self._make()
        while found is None or found["TableStatus"] == "CREATING":
            await anyio.sleep(LOOK_EVERY)
            found = await self._described()
        types = sorted(found["AttributeDefinitions"], key=lambda each: str(each["AttributeName"]))
        if found["KeySchema"] != KEYS or types != KEY_TYPES:
            raise StoreError(f"Table {self._name} has other keys than the strings pk and sk: use another name.")
        return said

    async def expiry(self) -> str:
        answer = await self._ask("DescribeTimeToLive")
        if answer is None:
            return "This server deletes nothing that expired."
        found = answer["TimeToLiveDescription"]
        if found["TimeToLiveStatus"] in {"ENABLED", "ENABLING"}:
            if found["AttributeName"] != EXPIRY["AttributeName"]:
                raise StoreError(f"Table {self._name} expires by {found['AttributeName']}: use another name.")
            return "Expired items were being deleted."
        await self._change("UpdateTimeToLive", TimeToLiveSpecification=EXPIRY)
        return "Expired items are now deleted."

    async def deletion_protection(self) -> str:
        if await self._is_protected():
            return "The table is protected from deletion."
        await self._change("UpdateTable", DeletionProtectionEnabled=True)
        if await self._is_protected():
            return "The table is now protected from deletion."
        return "This server does not protect tables from deletion."

    async def backups(self) -> str:
        answer = await self._ask("DescribeContinuousBackups")
        if answer is not None and _is_recoverable(answer):
            return "Point-in-time recovery was on."
        wanted = {"PointInTimeRecoveryEnabled": True}
        answer = await self._change("UpdateContinuousBackups", PointInTimeRecoverySpecification=wanted)
        return "This server has no point-in-time recovery." if answer is None else "Point-in-time recovery is now on."

    async def _make(self) -> str:
        try:
            await self._client.call(
                "CreateTable",
                TableName=self._name,
                BillingMode="PAY_PER_REQUEST",
                KeySchema=KEYS,
                AttributeDefinitions=KEY_TYPES,
                DeletionProtectionEnabled=True,
            )
        except Refused as refused:
            if refused.code != "ResourceInUseException":
                raise
            return f"Table {self._name} is being made by somebody else."
        return f"Table {self._name} was made, billed by request."

    async def _is_protected(self) -> bool:
        return bool((await self._described() or {}).get("DeletionProtectionEnabled"))

    async def _described(self) -> dict[str, Any] | None:
        try:
            answer = await self._client.call("DescribeTable", TableName=self._name)
        except Refused as refused:
            if refused.code == "ResourceNotFoundException":
                return None
            raise
        found: dict[str, Any] = answer["Table"]
        return found

    async def _change(self, operation: str, **request: object) -> Answer | None:
        """Ask until the table is ready for it."""
        while True:
            try:
                return await self._ask(operation, **request)
            except Refused as refused:
                if refused.code not in NOT_YET:
                    raise
            await anyio.sleep(LOOK_EVERY)

    async def _ask(self, operation: str, **request: object) -> Answer | None:
        """Return None where the server does not have the operation."""
        try:
            return await self._client.call(operation, TableName=self._name, **request)
        except Refused as refused:
            if refused.code in LACKING:
                return None
            raise


def _is_recoverable(answer: Answer) -> bool:
    found = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
    return bool(found.get("PointInTimeRecoveryStatus") == "ENABLED")
