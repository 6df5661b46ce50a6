"""What a client raises, as what a table may raise. Texts name error codes, never what was asked or answered."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from aiohttp import ClientError as ConnectionFailed
from botocore.exceptions import BotoCoreError

from bg_ingest.adapters.dynamodb.codec import Wire, decode_item
from bg_ingest.adapters.dynamodb.transport import DynamoError
from bg_ingest.errors import StoreError, StoreUnavailable, TransactionConflict
from bg_ingest.ports.table import ConditionFailed, Item

CAPACITY_REASONS = {"ThrottlingError", "ProvisionedThroughputExceeded"}
"""Reasons of a cancelled transaction that pass, and are not tried again by the client."""


@contextmanager
def translate_errors(table: str) -> Iterator[None]:
    """Raise StoreErrors for whatever a client raises in the body."""
    try:
        yield
    except DynamoError as refused:
        raise _to_error(refused, table) from None
    except msgspec.DecodeError:
        raise StoreUnavailable("What answers speaks otherwise than DynamoDB does: is it DynamoDB?") from None
    except (BotoCoreError, ConnectionFailed, OSError) as unanswered:
        raise StoreUnavailable(f"DynamoDB does not answer: {type(unanswered).__name__}.") from None


def _to_error(refused: DynamoError, table: str) -> StoreError:
    match refused.code:
        case "ConditionalCheckFailedException":
            return _to_condition_failed(refused)
        case "TransactionCanceledException":
            return _to_transaction_error(refused.answer.get("CancellationReasons", ()))
        case "TransactionConflictException":
            return TransactionConflict()
        case "ResourceNotFoundException":
            return StoreError(f"There is no table {table}: run `bg-ingest tables create`.")
        case "ValidationException":
            return StoreError("DynamoDB says that a request is not valid: this is a bug.")
        case code:
            return StoreUnavailable(f"DynamoDB says {code}.")


def _to_condition_failed(refused: DynamoError) -> StoreError:
    """After a repetition nobody knows whether the first try was the one that broke the condition.

    Transactions do not have this: all tries of one have the same token.
    """
    if refused.tries > 1:
        return StoreUnavailable("DynamoDB did not answer at once: whether a write happened is not known.")
    return ConditionFailed({0: _current(refused.answer)})


def _to_transaction_error(reasons: Sequence[Mapping[str, Any]]) -> StoreError:
    """Conditions come first: no repetition helps against those."""
    failed = {index: _current(each) for index, each in enumerate(reasons) if each["Code"] == "ConditionalCheckFailed"}
    codes = {each["Code"] for each in reasons} - {"None"}
    if failed:
        return ConditionFailed(failed)
    if not codes or codes & CAPACITY_REASONS:
        return StoreUnavailable(f"DynamoDB cancelled a transaction: {', '.join(sorted(codes)) or 'no reason given'}.")
    if "TransactionConflict" in codes:
        return TransactionConflict()
    return StoreError(f"DynamoDB refuses a transaction ({', '.join(sorted(codes))}): this is a bug.")


def _current(failed: Mapping[str, Any]) -> Item | None:
    wire: Wire | None = failed.get("Item")
    return decode_item(wire)[1] if wire else None
