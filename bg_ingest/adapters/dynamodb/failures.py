"""What a client raises, as what a table may raise. Texts name error codes, never what was asked or answered."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from aiohttp import ClientError as ConnectionFailed
from botocore.exceptions import BotoCoreError

from bg_ingest.adapters.dynamodb.client import Refused
from bg_ingest.adapters.dynamodb.items import Wire, item_of
from bg_ingest.adapters.table.protocol import ConditionFailed, Item
from bg_ingest.errors import Conflicted, StoreError, StoreUnavailable

NO_CAPACITY = {"ThrottlingError", "ProvisionedThroughputExceeded"}
"""Reasons of a cancelled transaction that pass, and are not tried again by the client."""


@contextmanager
def translated(table: str) -> Iterator[None]:
    """Raise StoreErrors for whatever a client raises in the body."""
    try:
        yield
    except Refused as refused:
        raise _meaning(refused, table) from None
    except msgspec.DecodeError:
        raise StoreUnavailable("What answers speaks otherwise than DynamoDB does: is it DynamoDB?") from None
    except (BotoCoreError, ConnectionFailed, OSError) as unanswered:
        raise StoreUnavailable(f"DynamoDB does not answer: {type(unanswered).__name__}.") from None


def _meaning(refused: Refused, table: str) -> StoreError:
    match refused.code:
        case "ConditionalCheckFailedException":
            return _condition_failed(refused)
        case "TransactionCanceledException":
            return _cancelled(refused.answer.get("CancellationReasons", ()))
        case "TransactionConflictException":
            return Conflicted()
        case "ResourceNotFoundException":
            return StoreError(f"There is no table {table}: run `bg-ingest tables create`.")
        case "ValidationException":
            return StoreError("DynamoDB says that a request is not valid: this is a bug.")
        case code:
            return StoreUnavailable(f"DynamoDB says {code}.")


def _condition_failed(refused: Refused) -> StoreError:
    """After a repetition nobody knows whether the first try was the one that broke the condition.

    Transactions do not have this: all tries of one have the same token.
    """
    if refused.tries > 1:
        return StoreUnavailable("DynamoDB did not answer at once: whether a write happened is not known.")
    return ConditionFailed({0: _met(refused.answer)})


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
