"""Which webhooks are let in: those whose sender is known, so many at a time and so many a second."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from math import ceil
from typing import Any, NamedTuple, TypeAlias

import anyio
from litestar import Request

from bg_ingest.api.auth import Limits, bearer_of
from bg_ingest.api.bodies import body_of
from bg_ingest.api.errors import Refused, refusal
from bg_ingest.api.signatures import TOLERANCE, Claim, Signatures
from bg_ingest.domain.allowance import Allowance
from bg_ingest.domain.credentials import Proof
from bg_ingest.services.receive import Receiving

LARGEST_WEBHOOK = 1_048_576
"""Bytes: about ten days of a 5-minute sensor."""

TOO_LARGE = "A webhook has 1 MiB at most: send its records in several."

MOST_AT_ONCE = 64
"""Webhooks under way: a flood of them takes 64 MiB at most, and leaves the other routes their share."""

MOST_AT_WORK = 4
"""Of them, those that ask the store at the same time; the others wait, and reads need not wait behind all of them."""

Asked: TypeAlias = Request[Any, Any, Any]


class Let(NamedTuple):
    """A webhook that was let in: by what, and under which id its sender knows it, where it has one."""

    proof: Proof
    webhook_id: str | None


class Gate:
    """Lets in what is proven to come from who may send, by the bytes as they came."""

    def __init__(self, signing_secrets: Sequence[str], limits: Limits | None) -> None:
        self._signatures = Signatures(signing_secrets)
        self._allowance = Allowance(*limits) if limits else None
        self._inside = 0
        self._at_work = anyio.Semaphore(MOST_AT_WORK)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place among those under way."""
        if self._inside >= MOST_AT_ONCE:
            detail = "Too many webhooks are under way: send it again in a moment."
            raise refusal(503, "too-many-webhooks", detail, {"Retry-After": "1"})
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    @asynccontextmanager
    async def work(self) -> AsyncIterator[None]:
        """Wait for one's turn with the store.

        Counted by the second only here: whoever cannot prove who they are uses up nothing of those who can.
        """
        wait = self._allowance.take("webhooks", anyio.current_time()) if self._allowance else 0
        if wait > 0:
            detail = "More webhooks came than this replica takes: send it again as Retry-After says."
            raise refusal(429, "too-many-requests", detail, {"Retry-After": str(ceil(wait))})
        async with self._at_work:
            yield

    async def admit(self, request: Asked, claim: Claim, receiving: Receiving) -> Let:
        """Refuse what is too large or unproven; where the headers alone cannot be right no body is read."""
        if (request.content_length or 0) > LARGEST_WEBHOOK:
            raise refusal(413, "too-large", TOO_LARGE)
        signed = claim.is_whole and receiving.takes(Proof.SIGNATURE)
        token = bearer_of(request.scope)
        if token is not None and not signed and receiving.takes(Proof.BEARER):
            if not await receiving.senders.vouch(token):
                raise _unknown_sender()
            await body_of(request, too_large=TOO_LARGE)
            return Let(Proof.BEARER, None)  # a token says nothing of the id beside it
        await self._check_signature(request, claim, receiving)
        return Let(Proof.SIGNATURE, claim.webhook_id)

    async def _check_signature(self, request: Asked, claim: Claim, receiving: Receiving) -> None:
        sent_at = claim.sent_at
        if sent_at is None or not claim.is_whole or not receiving.takes(Proof.SIGNATURE):
            raise _unproven(receiving)
        if abs(receiving.now() - sent_at) > TOLERANCE:
            detail = "It was signed more than 5 minutes from now: sign it again, and compare the clocks."
            raise refusal(401, "stale-signature", detail)
        if not self._signatures.vouch(claim, await body_of(request, too_large=TOO_LARGE)):
            raise _unproven(receiving)


def _unknown_sender() -> Refused:
    detail = "The token is none of WEBHOOK_JWT_ISSUER for us, has ended, or has not the scope that webhooks need."
    return refusal(401, "not-authenticated", detail, {"WWW-Authenticate": 'Bearer error="invalid_token"'})


def _unproven(receiving: Receiving) -> Refused:
    if not receiving.takes(Proof.SIGNATURE):
        detail = "Send Authorization: Bearer with a token of WEBHOOK_JWT_ISSUER: signatures are not taken here."
        return refusal(401, "not-authenticated", detail, {"WWW-Authenticate": "Bearer"})
    detail = "Sign the request as Standard Webhooks has it, by a secret of this service's WEBHOOK_SIGNING_SECRETS."
    return refusal(
        401, "invalid-signature", detail, {"WWW-Authenticate": "Bearer"} if receiving.takes(Proof.BEARER) else None
    )
