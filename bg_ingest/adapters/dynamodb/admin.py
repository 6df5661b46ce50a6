"""Creation and inspection of the table by an operator. The service itself needs no AWS permission for them."""

from collections.abc import Iterator
from typing import Any

import aioboto3
import anyio

from bg_ingest.adapters.dynamodb.aioboto3_transport import open_transport
from bg_ingest.adapters.dynamodb.errors import translate_errors
from bg_ingest.adapters.dynamodb.transport import Answer, DynamoError, Transport
from bg_ingest.errors import StoreError, StoreUnavailable

EXPIRY = {"Enabled": True, "AttributeName": "expires_at"}
EXPIRY_ON = {"ENABLED", "ENABLING"}
KEY_SCHEMA = [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}]
KEY_TYPES = [{"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": "sk", "AttributeType": "S"}]

READY_TIMEOUT, CHECK_INTERVAL_SECONDS = 120.0, 0.5
"""Seconds. AWS creates a table in about 10 s. Sometimes backups can be enabled only a minute later."""

UNSUPPORTED_CODES = {"UnknownOperationException", "UnsupportedOperation", "NotImplemented", "InvalidAction"}
"""Error codes of emulators for an operation that they do not implement."""

DENIED_CODES = {"AccessDeniedException", "UnauthorizedOperation"}

NOT_READY_CODES = {"ResourceInUseException", "ContinuousBackupsUnavailableException", "LimitExceededException"}
"""Codes of AWS for a table that is still being created or changed."""


async def create_table(endpoint: str | None, region: str | None, table: str, session: aioboto3.Session) -> list[str]:
    """Create the table, or correct the options of an existing one; a second run changes nothing.

    Returns a sentence for each step. StoreError: the table belongs to another service, because it has other keys or
    another expiry attribute.
    """
    async with open_transport(endpoint, region, session) as transport:
        creation = TableCreation(transport, table)
        with anyio.move_on_after(READY_TIMEOUT), translate_errors(table):
            steps = (creation.ensure_table, creation.ensure_expiry, creation.ensure_protection, creation.ensure_backups)
            return [await step() for step in steps]
    raise StoreUnavailable(f"Table {table} was not ready within {READY_TIMEOUT:.0f} seconds: try again.")


class TableCreation:
    """Steps of a creation. Each reads the present state, changes it if necessary, and returns a sentence about it."""

    def __init__(self, transport: Transport, name: str) -> None:
        self._transport = transport
        self._name = name

    async def ensure_table(self) -> str:
        table = await self._describe()
        sentence = f"Table {self._name} already exists." if table else await self._create()
        while table is None or table["TableStatus"] == "CREATING":
            await anyio.sleep(CHECK_INTERVAL_SECONDS)
            table = await self._describe()
        types = sorted(table["AttributeDefinitions"], key=lambda definition: str(definition["AttributeName"]))
        if table["KeySchema"] != KEY_SCHEMA or types != KEY_TYPES:
            raise StoreError(f"Table {self._name} has other keys than this service uses: choose another table name.")
        return sentence

    async def ensure_expiry(self) -> str:
        answer = await _ask(self._transport, "DescribeTimeToLive", self._name)
        if answer is None:
            return "This server does not delete expired items."
        expiry = answer["TimeToLiveDescription"]
        if expiry["TimeToLiveStatus"] in EXPIRY_ON:
            if expiry["AttributeName"] != EXPIRY["AttributeName"]:
                raise StoreError(
                    f"Table {self._name} deletes items by {expiry['AttributeName']} "
                    f"instead of {EXPIRY['AttributeName']}: choose another table name."
                )
            return "Expired items are already deleted."
        await self._change("UpdateTimeToLive", TimeToLiveSpecification=EXPIRY)
        return "Expired items are now deleted."

    async def ensure_protection(self) -> str:
        if await self._is_protected():
            return "The table is protected from deletion."
        await self._change("UpdateTable", DeletionProtectionEnabled=True)
        if await self._is_protected():
            return "The table is now protected from deletion."
        return "This server does not protect tables from deletion."

    async def ensure_backups(self) -> str:
        answer = await _ask(self._transport, "DescribeContinuousBackups", self._name)
        if answer is not None and _is_recoverable(answer):
            return "Point-in-time recovery is already on."
        specification = {"PointInTimeRecoveryEnabled": True}
        answer = await self._change("UpdateContinuousBackups", PointInTimeRecoverySpecification=specification)
        return "This server has no point-in-time recovery." if answer is None else "Point-in-time recovery is now on."

    async def _create(self) -> str:
        try:
            options = {"BillingMode": "PAY_PER_REQUEST", "DeletionProtectionEnabled": True}
            keys = {"KeySchema": KEY_SCHEMA, "AttributeDefinitions": KEY_TYPES}
            await self._transport.call("CreateTable", TableName=self._name, **options, **keys)
        except DynamoError as error:
            if error.code != "ResourceInUseException":
                raise
            return f"Table {self._name} is being created by another process."
        return f"Table {self._name} was created, billed by request."

    async def _is_protected(self) -> bool:
        return bool((await self._describe() or {}).get("DeletionProtectionEnabled"))

    async def _describe(self) -> dict[str, Any] | None:
        try:
            answer = await self._transport.call("DescribeTable", TableName=self._name)
        except DynamoError as error:
            if error.code == "ResourceNotFoundException":
                return None
            raise
        return dict(answer["Table"])

    async def _change(self, operation: str, **request: object) -> Answer | None:
        """Repeat the request while the table is still being created or changed."""
        while True:
            try:
                return await _ask(self._transport, operation, self._name, **request)
            except DynamoError as error:
                if error.code not in NOT_READY_CODES:
                    raise
            await anyio.sleep(CHECK_INTERVAL_SECONDS)


def _is_recoverable(answer: Answer) -> bool:
    recovery = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
    return bool(recovery.get("PointInTimeRecoveryStatus") == "ENABLED")


async def inspect_table(
    endpoint: str | None, region: str | None, table: str, session: aioboto3.Session
) -> list[tuple[str, bool]]:
    """Return a sentence for each finding, with True if no action is needed. StoreError if the table does not exist."""
    codes = UNSUPPORTED_CODES | DENIED_CODES
    async with open_transport(endpoint, region, session) as transport:
        with translate_errors(table):
            described = await _ask(transport, "DescribeTable", table, codes)
            expiry = await _ask(transport, "DescribeTimeToLive", table, codes)
            backups = await _ask(transport, "DescribeContinuousBackups", table, codes)
    try:
        return [*_table_findings(described, table), *_option_findings(expiry, backups)]
    except (KeyError, TypeError):
        raise StoreError("The server at the endpoint answers in another form: is it DynamoDB?") from None


def _option_findings(expiry: Answer | None, backups: Answer | None) -> Iterator[tuple[str, bool]]:
    if expiry is not None:
        options = expiry["TimeToLiveDescription"]
        on = options["TimeToLiveStatus"] in EXPIRY_ON and options["AttributeName"] == EXPIRY["AttributeName"]
        expired = "expired items are deleted"
        yield (expired if on else "expired items are not deleted: they occupy storage permanently"), on
    if backups is not None:
        on = _is_recoverable(backups)
        yield ("it can be restored to any second" if on else "it has no point-in-time recovery"), on


def _table_findings(answer: Answer | None, table: str) -> list[tuple[str, bool]]:
    if answer is None:
        return [("this identity may not describe the table; the service does not need that right", True)]
    description = answer["Table"]
    types = sorted(description.get("AttributeDefinitions", KEY_TYPES), key=str)
    if description["KeySchema"] != KEY_SCHEMA or types != KEY_TYPES:
        raise StoreError(f"Table {table} has other keys than pk and sk of type S: it belongs to another service.")
    status = str(description["TableStatus"])
    protected = bool(description.get("DeletionProtectionEnabled"))
    return [
        (f"{table} is {status.lower()}", status in {"ACTIVE", "UPDATING"}),
        ("it is protected from deletion" if protected else "it is not protected from deletion", protected),
    ]


async def _ask(
    transport: Transport, operation: str, table: str, refusals: set[str] = UNSUPPORTED_CODES, /, **request: object
) -> Answer | None:
    """Call an operation on the table; return None if the error code is in ``refusals``."""
    try:
        return await transport.call(operation, TableName=table, **request)
    except DynamoError as error:
        if error.code in refusals:
            return None
        raise
