"""Translation of a transport's errors into those of ``Table``. Texts name error codes, never a request or response."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from aiohttp import ClientError as ConnectionFailed
from botocore.exceptions import BotoCoreError
from botocore.exceptions import ClientError as CredentialsRefused

from bg_ingest.adapters.aws.session import error_code
from bg_ingest.adapters.dynamodb.codec import Wire, decode_item
from bg_ingest.adapters.dynamodb.transport import DynamoError
from bg_ingest.errors import ItemTooLarge, StoreError, StoreUnavailable, TableMissing, TransactionConflict
from bg_ingest.ports.table import ConditionFailed, Item

CAPACITY_REASONS = {"ThrottlingError", "ProvisionedThroughputExceeded"}
"""Transient reasons of a cancelled transaction, which transports do not retry."""


_BAD_SIGNATURE = "DynamoDB refuses the AWS credentials, or the clock of this machine ({code})."
_TEXTS = {
    "AccessDeniedException": "DynamoDB denies this identity a right on table {table} ({code}).",
    "ExpiredTokenException": _BAD_SIGNATURE,
    "IncompleteSignatureException": _BAD_SIGNATURE,
    "InvalidSignatureException": _BAD_SIGNATURE,
    "MissingAuthenticationTokenException": _BAD_SIGNATURE,
    "UnrecognizedClientException": _BAD_SIGNATURE,
}
"""Texts by error code. A wrong clock makes a signature invalid, because the signature covers the time."""


@contextmanager
def translate_errors(table: str) -> Iterator[None]:
    """Raise a StoreError for any error of a transport in the body."""
    try:
        yield
    except DynamoError as error:
        raise _to_error(error, table) from None
    except msgspec.DecodeError:
        raise StoreUnavailable("The server at the endpoint does not answer in JSON: is it DynamoDB?") from None
    except CredentialsRefused as error:  # of the service that gives credentials: STS, SSO
        raise StoreUnavailable(f"No AWS credentials for DynamoDB: {error_code(error)}.") from None
    except (BotoCoreError, ConnectionFailed, OSError) as error:
        raise StoreUnavailable(f"DynamoDB does not answer: {type(error).__name__}.") from None


def _to_error(error: DynamoError, table: str) -> StoreError:
    match error.code:
        case "ConditionalCheckFailedException":
            return _to_condition_failed(error)
        case "TransactionCanceledException":
            return _to_transaction_error(error.answer.get("CancellationReasons", ()))
        case "TransactionConflictException":
            return TransactionConflict()
        case "ResourceNotFoundException":
            return TableMissing(f"There is no table {table}: run `bg-ingest tables create`.")
        case "ValidationException":
            is_too_large = _is_about_size(error.answer)
            return ItemTooLarge() if is_too_large else StoreError("DynamoDB calls a request invalid: this is a bug.")
        case code:
            return StoreUnavailable(_TEXTS.get(code, "DynamoDB answers {code}.").format(code=code, table=table))


def _to_condition_failed(error: DynamoError) -> StoreError:
    """Return the error of a failed condition.

    If the call was repeated, an earlier try may have written and so made the condition fail. Transactions cannot have
    this ambiguity, because all tries of one transaction have the same idempotency token.
    """
    if error.tries > 1:
        return StoreUnavailable("The condition of a repeated call failed: it is unknown whether a write happened.")
    return ConditionFailed({0: _current(error.answer)})


def _to_transaction_error(reasons: Sequence[Mapping[str, Any]]) -> StoreError:
    """Prefer failed conditions to other reasons, because a repetition never helps against failed conditions."""
    failed = {
        index: _current(reason) for index, reason in enumerate(reasons) if reason["Code"] == "ConditionalCheckFailed"
    }
    codes = {reason["Code"] for reason in reasons} - {"None"}
    if failed:
        return ConditionFailed(failed)
    if not codes or codes & CAPACITY_REASONS:
        return StoreUnavailable(f"DynamoDB cancelled a transaction: {', '.join(sorted(codes)) or 'no reason given'}.")
    if "TransactionConflict" in codes:
        return TransactionConflict()
    if any(map(_is_about_size, reasons)):
        return ItemTooLarge()
    return StoreError(f"DynamoDB refuses a transaction ({', '.join(sorted(codes))}): this is a bug.")


def _is_about_size(failure: Mapping[str, Any]) -> bool:
    """Return True for an item over 400 KB or a transaction over 4 MB, which have no code of their own."""
    # the direct transport and aioboto3 put the message in different fields
    texts = (failure.get("message"), failure.get("Message"), failure.get("Error", {}).get("Message"))
    message = " ".join(map(str, texts)).lower()
    return "size" in message and "exceed" in message


def _current(failure: Mapping[str, Any]) -> Item | None:
    wire: Wire | None = failure.get("Item")
    return decode_item(wire)[1] if wire else None
