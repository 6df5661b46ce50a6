"""What botocore raises, as what a table may raise. Texts name error codes, never what was asked or answered."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from aiohttp import ClientError as ConnectionFailed
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from bg_ingest.adapters.dynamodb.items import Wire, item_of
from bg_ingest.adapters.table.protocol import ConditionFailed, Item
from bg_ingest.errors import Conflicted, StoreError, StoreUnavailable

NO_CAPACITY = {"ThrottlingError", "ProvisionedThroughputExceeded"}
"""Reasons of a cancelled transaction which botocore does not try again by itself."""


@contextmanager
def translated(table: str) -> Iterator[None]:
    """Raise StoreErrors for whatever botocore and aiohttp raise in the body."""
    try:
        yield
    except ClientError as answered:
        raise _meaning(answered.response, table) from None
    except (BotoCoreError, ConnectionFailed, ResponseParserError, OSError) as unanswered:
        raise StoreUnavailable(f"DynamoDB does not answer: {type(unanswered).__name__}.") from None


def _meaning(answer: Mapping[str, Any], table: str) -> StoreError:
    code = answer["Error"]["Code"]
    match code:
        case "ConditionalCheckFailedException":
            return _condition_failed(answer)
        case "TransactionCanceledException":
            return _cancelled(answer.get("CancellationReasons", ()))
        case "TransactionConflictException":
            return Conflicted()
        case "ResourceNotFoundException":
            return StoreError(f"There is no table {table}: run `bg-ingest tables create`.")
        case "ValidationException":
            return StoreError("DynamoDB says that a request is not valid: this is a bug.")
        case _:
            return StoreUnavailable(f"DynamoDB says {code}.")


def _condition_failed(answer: Mapping[str, Any]) -> StoreError:
    """After a repetition nobody knows whether the first try was the one that broke the condition.

    Transactions do not have this: botocore gives all tries of one the same token.
    """
    if answer["ResponseMetadata"].get("RetryAttempts"):
        return StoreUnavailable("DynamoDB did not answer at once: whether a write happened is not known.")
    return ConditionFailed({0: _met(answer)})


def _cancelled(reasons: Sequence[Mapping[str, Any]]) -> StoreError:
    """Conditions come first: no repetition helps against those."""
    failed = {place: _met(each) for place, each in enumerate(reasons) if each["Code"] == "ConditionalCheckFailed"}
    codes = {each["Code"] for each in reasons} - {"None"}
    if failed:
        return ConditionFailed(failed)
    if not codes or codes & NO_CAPACITY:
        return StoreUnavailable(f"DynamoDB cancelled a transaction: {', '.join(sorted(codes)) or 'no reason given'}.")
    if "TransactionConflict" in codes:
        return Conflicted()
    return StoreError(f"DynamoDB refuses a transaction ({', '.join(sorted(codes))}): this is a bug.")


def _met(failed: Mapping[str, Any]) -> Item | None:
    wire: Wire | None = failed.get("Item")
    return item_of(wire)[1] if wire else None
