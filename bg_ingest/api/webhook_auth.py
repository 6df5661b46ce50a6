"""Standard Webhooks 1.0: whether a request was sent by who has one of our secrets, and when.

The specification's own library is not used: it asks the system's clock, reads the body as text, and one malformed
part spoils a whole list of signatures.
"""

import base64
import hmac
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any, NamedTuple, NoReturn, TypeAlias

import anyio
import msgspec
from litestar import Request

from bg_ingest.api.auth import Limits, bearer_token
from bg_ingest.api.problems import ProblemError, build_problem
from bg_ingest.api.validation import read_body
from bg_ingest.domain.access import WebhookProof
from bg_ingest.domain.rate_limit import RateLimiter
from bg_ingest.services.polling.webhooks import WebhookReceiver

TOLERANCE = timedelta(minutes=5)
"""How far the sender's clock may be from ours, either way."""

_PREFIX = "whsec_"

_VERSION = b"v1,"

_SECONDS = re.compile(r"[0-9]{1,11}")

_TO_STANDARD = str.maketrans("-_", "+/")


class SignatureHeaders(msgspec.Struct, frozen=True):
    """What the three headers say, their bytes read as Latin-1; believed once the signature is found right."""

    webhook_id: str
    timestamp: str
    signatures: str

    @property
    def is_complete(self) -> bool:
        """Whether all three were sent."""
        return bool(self.webhook_id and self.timestamp and self.signatures)

    @property
    def sent_at(self) -> datetime | None:
        """When it was signed; None when the timestamp is no whole number of seconds."""
        if _SECONDS.fullmatch(self.timestamp) is None:
            return None
        return datetime.fromtimestamp(int(self.timestamp), UTC)


class SignatureVerifier:
    """Verifies by secrets in the form ``whsec_<base64>``: any of them may have signed, for rotation."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._keys = [_key(secret) for secret in secrets]

    def __reduce__(self) -> NoReturn:
        raise TypeError("signing secrets are not pickled")

    def verify(self, signature_headers: SignatureHeaders, body: bytes) -> bool:
        """Tell whether one of our secrets has signed this claim and body; parts that are no signatures are ignored."""
        signed = b".".join(
            (signature_headers.webhook_id.encode("latin-1"), signature_headers.timestamp.encode("latin-1"), body)
        )
        right = [base64.b64encode(hmac.digest(key, signed, "sha256")) for key in self._keys]
        parts = signature_headers.signatures.encode("latin-1").split(b" ")
        given = [part.removeprefix(_VERSION) for part in parts if part.startswith(_VERSION)]
        return any(hmac.compare_digest(one, other) for one in given for other in right)


def _key(secret: str) -> bytes:
    encoded = secret.removeprefix(_PREFIX).translate(_TO_STANDARD).rstrip("=")
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4))


MAX_WEBHOOK_BYTES = 1_048_576
"""Bytes: about ten days of a 5-minute sensor."""

TOO_LARGE = "A webhook has 1 MiB at most: send its records in several."

MAX_CONCURRENT_WEBHOOKS = 64
"""Webhooks under way: a flood of them takes 64 MiB at most, and leaves the other routes their share."""

MAX_CONCURRENT_WRITES = 4
"""Of them, those that ask the store at the same time; the others wait, and reads need not wait behind all of them."""

AnyRequest: TypeAlias = Request[Any, Any, Any]


class VerifiedSender(NamedTuple):
    """A webhook that was let in: by what, and under which id its sender knows it, where it has one."""

    proof: WebhookProof
    webhook_id: str | None


class WebhookGuard:
    """Lets in what is proven to come from who may send, by the bytes as they came."""

    def __init__(self, signing_secrets: Sequence[str], limits: Limits | None) -> None:
        self._signature_verifier = SignatureVerifier(signing_secrets)
        self._rate_limiter = RateLimiter(*limits) if limits else None
        self._running = 0
        self._write_slots = anyio.Semaphore(MAX_CONCURRENT_WRITES)

    @asynccontextmanager
    async def reserve_slot(self) -> AsyncIterator[None]:
        """Hold a place among those under way."""
        if self._running >= MAX_CONCURRENT_WEBHOOKS:
            detail = "Too many webhooks are under way: send it again in a moment."
            raise build_problem(503, "too-many-webhooks", detail, {"Retry-After": "1"})
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    @asynccontextmanager
    async def wait_for_store(self) -> AsyncIterator[None]:
        """Wait for one's turn with the store.

        Counted by the second only here: whoever cannot prove who they are uses up nothing of those who can.
        """
        wait = self._rate_limiter.acquire("webhooks", anyio.current_time()) if self._rate_limiter else 0
        if wait > 0:
            detail = "More webhooks came than this replica takes: send it again as Retry-After says."
            raise build_problem(429, "too-many-requests", detail, {"Retry-After": str(ceil(wait))})
        async with self._write_slots:
            yield

    async def verify_sender(
        self, request: AnyRequest, signature_headers: SignatureHeaders, webhook_receiver: WebhookReceiver
    ) -> VerifiedSender:
        """Refuse what is too large or unproven; where the headers alone cannot be right no body is read."""
        if (request.content_length or 0) > MAX_WEBHOOK_BYTES:
            raise build_problem(413, "too-large", TOO_LARGE)
        signed = signature_headers.is_complete and webhook_receiver.accepts(WebhookProof.SIGNATURE)
        token = bearer_token(request.scope)
        if token is not None and not signed and webhook_receiver.accepts(WebhookProof.BEARER):
            if not await webhook_receiver.sender_tokens.verify(token):
                raise _unknown_sender()
            await read_body(request, too_large=TOO_LARGE)
            return VerifiedSender(WebhookProof.BEARER, None)  # a token says nothing of the id beside it
        await self._verify_signature(request, signature_headers, webhook_receiver)
        return VerifiedSender(WebhookProof.SIGNATURE, signature_headers.webhook_id)

    async def _verify_signature(
        self, request: AnyRequest, signature_headers: SignatureHeaders, webhook_receiver: WebhookReceiver
    ) -> None:
        sent_at = signature_headers.sent_at
        if sent_at is None or not signature_headers.is_complete or not webhook_receiver.accepts(WebhookProof.SIGNATURE):
            raise _missing_proof(webhook_receiver)
        if abs(webhook_receiver.now() - sent_at) > TOLERANCE:
            detail = "It was signed more than 5 minutes from now: sign it again, and compare the clocks."
            raise build_problem(401, "stale-signature", detail)
        if not self._signature_verifier.verify(signature_headers, await read_body(request, too_large=TOO_LARGE)):
            raise _missing_proof(webhook_receiver)


def _unknown_sender() -> ProblemError:
    detail = "The token is none of WEBHOOK_JWT_ISSUER for us, has ended, or has not the scope that webhooks need."
    return build_problem(401, "not-authenticated", detail, {"WWW-Authenticate": 'Bearer error="invalid_token"'})


def _missing_proof(webhook_receiver: WebhookReceiver) -> ProblemError:
    if not webhook_receiver.accepts(WebhookProof.SIGNATURE):
        detail = "Send Authorization: Bearer with a token of WEBHOOK_JWT_ISSUER: signatures are not taken here."
        return build_problem(401, "not-authenticated", detail, {"WWW-Authenticate": "Bearer"})
    detail = "Sign the request as Standard Webhooks has it, by a secret of this service's WEBHOOK_SIGNING_SECRETS."
    return build_problem(
        401,
        "invalid-signature",
        detail,
        {"WWW-Authenticate": "Bearer"} if webhook_receiver.accepts(WebhookProof.BEARER) else None,
    )
