"""Authentication of webhooks: signatures by Standard Webhooks 1.0, or bearer tokens of WEBHOOK_JWT_ISSUER.

The specification's own library is not used: it reads the system's clock, decodes the body as text, and rejects a
whole list of signatures for one malformed part.
"""

import base64
import hmac
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from math import ceil
from typing import Any, NamedTuple, NoReturn, TypeAlias

import anyio
import msgspec
from litestar import Request

from bg_ingest.api.auth import Limits, bearer_token
from bg_ingest.api.problems import ProblemError, build_problem
from bg_ingest.api.validation import read_body
from bg_ingest.api.webhook_slots import MAX_WEBHOOK_BYTES, WebhookSlot, WebhookSlots, WriteSlots
from bg_ingest.domain.access import WebhookProof
from bg_ingest.domain.call_budget import RateLimiter
from bg_ingest.services.pauses import pause
from bg_ingest.services.polling.webhooks import WebhookReceiver

TOLERANCE = timedelta(minutes=5)
"""Largest difference between the sender's clock and ours."""

_VERSION = b"v1,"
_SECONDS = re.compile(r"[0-9]{1,11}")


class SignatureHeaders(msgspec.Struct, frozen=True):
    """The three signature headers, decoded as Latin-1; to be trusted only after verification."""

    webhook_id: str
    timestamp: str
    signatures: str

    @property
    def is_complete(self) -> bool:
        return bool(self.webhook_id and self.timestamp and self.signatures)

    @property
    def sent_at(self) -> datetime | None:
        """Time of the signature; None if the timestamp is no whole number of seconds."""
        if _SECONDS.fullmatch(self.timestamp) is None:
            return None
        return datetime.fromtimestamp(int(self.timestamp), UTC)


class SignatureVerifier:
    """Verifies signatures by secrets of the form `whsec_<base64>`; several are valid at once, for rotation."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._keys = [_key(secret) for secret in secrets]

    def __reduce__(self) -> NoReturn:
        raise TypeError("signing secrets are not pickled")

    def find_secret(self, signature_headers: SignatureHeaders, body: bytes) -> str | None:
        """Return the fingerprint of the secret that has signed these headers and body, or None.

        Malformed parts are ignored.
        """
        covered = f"{signature_headers.webhook_id}.{signature_headers.timestamp}."
        signed = covered.encode("latin-1") + body
        expected = [(base64.b64encode(hmac.digest(key, signed, "sha256")), key) for key in self._keys]
        parts = signature_headers.signatures.encode("latin-1").split(b" ")
        given = [part.removeprefix(_VERSION) for part in parts if part.startswith(_VERSION)]
        keys = [key for signature in given for valid, key in expected if hmac.compare_digest(signature, valid)]
        return fingerprint_of(keys[0]) if keys else None


def fingerprint_of(key: bytes) -> str:
    """Return a short name of a secret for the audit. It allows no conclusion on the key, which is random."""
    return sha256(b"bg-ingest webhook secret" + key).hexdigest()[:16]


def _key(secret: str) -> bytes:
    encoded = secret.removeprefix("whsec_").translate(str.maketrans("-_", "+/")).rstrip("=")
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4))


TOO_LARGE = "A webhook has 1 MiB at most: send its records in several webhooks."

_RATE_KEY = "webhooks"

AnyRequest: TypeAlias = Request[Any, Any, Any]


class VerifiedSender(NamedTuple):
    """Kind of proof of an admitted webhook, its webhook-id (None unless the proof covers it), and its credential."""

    proof: WebhookProof
    webhook_id: str | None
    credential: str
    """``token:<sub>``, or ``signature:<fingerprint of the secret>``."""


class WebhookGuard:
    """Admits webhooks of verified senders. A signature covers the raw bytes of the body."""

    def __init__(self, signing_secrets: Sequence[str], limits: Limits | None) -> None:
        self._signature_verifier = SignatureVerifier(signing_secrets)
        self._rate_limiter = RateLimiter(*limits) if limits else None
        self._slots = WebhookSlots()
        self._write_slots = WriteSlots()

    def check_room(self) -> None:
        """Refuse a webhook with 429 or 503 before its verification if it would be refused afterwards anyway.

        This check is cheaper than the verification.
        """
        if self._rate_limiter:
            _refuse_excess(self._rate_limiter.wait(_RATE_KEY, anyio.current_time()))
        self._slots.check_room_for_verified()

    @contextmanager
    def reserve_slot(self, request: AnyRequest) -> Iterator[WebhookSlot]:
        """Count the webhook as in progress during the ``with`` statement; 503 if there is no room for its bytes."""
        with self._slots.reserve(request.content_length) as slot:
            request.receive = slot.count_received(request.receive)
            yield slot

    @asynccontextmanager
    async def wait_for_store(self, size: int) -> AsyncIterator[None]:
        """Wait until a webhook of this size may be parsed and stored; 429 above the rate limit.

        The rate is counted here, after verification, so that unverified senders use up nothing of the limit.
        """
        if self._rate_limiter:
            _refuse_excess(self._rate_limiter.acquire(_RATE_KEY, anyio.current_time()))
        async with self._write_slots.wait(size):
            await pause()
            yield

    async def verify_sender(
        self,
        request: AnyRequest,
        slot: WebhookSlot,
        signature_headers: SignatureHeaders,
        webhook_receiver: WebhookReceiver,
    ) -> VerifiedSender:
        """Refuse a too large or unverified webhook. The body is not read if the headers are wrong already."""
        sender = await self._find_sender(request, signature_headers, webhook_receiver)
        self._slots.mark_verified(slot)
        return sender

    async def _find_sender(
        self, request: AnyRequest, signature_headers: SignatureHeaders, webhook_receiver: WebhookReceiver
    ) -> VerifiedSender:
        if (request.content_length or 0) > MAX_WEBHOOK_BYTES:
            raise build_problem(413, "too-large", TOO_LARGE)
        signed = signature_headers.is_complete and webhook_receiver.accepts(WebhookProof.SIGNATURE)
        token = bearer_token(request.scope)
        if token is not None and not signed and webhook_receiver.accepts(WebhookProof.BEARER):
            claims = await webhook_receiver.sender_tokens.verify(token)
            if claims is None:
                raise _unknown_sender()
            await read_body(request, too_large=TOO_LARGE)
            # the token does not cover the id in the header
            return VerifiedSender(WebhookProof.BEARER, None, claims.caller.name)
        fingerprint = await self._verify_signature(request, signature_headers, webhook_receiver)
        return VerifiedSender(WebhookProof.SIGNATURE, signature_headers.webhook_id, f"signature:{fingerprint}")

    async def _verify_signature(
        self, request: AnyRequest, signature_headers: SignatureHeaders, webhook_receiver: WebhookReceiver
    ) -> str:
        """Return the fingerprint of the secret."""
        sent_at = signature_headers.sent_at
        if sent_at is None or not signature_headers.is_complete or not webhook_receiver.accepts(WebhookProof.SIGNATURE):
            raise _missing_proof(webhook_receiver)
        if abs(webhook_receiver.now() - sent_at) > TOLERANCE:
            detail = (
                "The signature is more than 5 minutes old or ahead: sign the request again, and compare the clocks."
            )
            raise build_problem(401, "stale-signature", detail)
        body = await read_body(request, too_large=TOO_LARGE)
        fingerprint = self._signature_verifier.find_secret(signature_headers, body)
        if fingerprint is None:
            raise _missing_proof(webhook_receiver)
        return fingerprint


def _refuse_excess(wait: float) -> None:
    if wait > 0:
        detail = "This replica receives too many webhooks: send this one again after the seconds in Retry-After."
        raise build_problem(429, "too-many-requests", detail, {"Retry-After": str(ceil(wait))})


def _unknown_sender() -> ProblemError:
    detail = "Send a token of WEBHOOK_JWT_ISSUER for this service that has not expired and has the scope for webhooks."
    return build_problem(401, "not-authenticated", detail, {"WWW-Authenticate": 'Bearer error="invalid_token"'})


def _missing_proof(webhook_receiver: WebhookReceiver) -> ProblemError:
    if not webhook_receiver.accepts(WebhookProof.SIGNATURE):
        detail = "Send Authorization: Bearer with a token of WEBHOOK_JWT_ISSUER: signatures are not accepted here."
        return build_problem(401, "not-authenticated", detail, {"WWW-Authenticate": "Bearer"})
    detail = "Sign the request by Standard Webhooks, with a secret of this service's WEBHOOK_SIGNING_SECRETS."
    headers = {"WWW-Authenticate": "Bearer"} if webhook_receiver.accepts(WebhookProof.BEARER) else None
    return build_problem(401, "invalid-signature", detail, headers)
