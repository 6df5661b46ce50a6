"""POST webhook: readings pushed to us, by whoever has a signing secret."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, TypeAlias

from litestar import Request, Response, Router, post
from litestar.di import Provide
from litestar.openapi.spec import Example, OpenAPIMediaType, Operation, Reference, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import HeaderParameter

from bg_ingest.api.audit import PUSHES
from bg_ingest.api.auth import PUBLIC
from bg_ingest.api.bodies import body_of
from bg_ingest.api.checks import check
from bg_ingest.api.deps import Use, User
from bg_ingest.api.documented import answers, problems
from bg_ingest.api.errors import Refused, refusal
from bg_ingest.api.schemas import Received, received_of
from bg_ingest.api.signatures import TOLERANCE, Claim, Signatures
from bg_ingest.errors import ProviderMisbehaved
from bg_ingest.services.receive import Receiving

LARGEST_WEBHOOK = 1_048_576
"""Bytes: about ten days of a 5-minute sensor."""

TOO_LARGE = "A webhook has 1 MiB at most: send its records in several."

MOST_AT_ONCE = 64
"""Webhooks under way: a flood of them takes 64 MiB at most, and leaves the other routes their share."""

Asked: TypeAlias = Request[Any, Any, Any]
WebhookId: TypeAlias = Annotated[
    str | None, HeaderParameter(name="webhook-id", description="Stays the same when it is sent again.")
]
Timestamp: TypeAlias = Annotated[
    str | None, HeaderParameter(name="webhook-timestamp", description="Epoch seconds, at most 5 minutes from now.")
]
Signature: TypeAlias = Annotated[
    str | None, HeaderParameter(name="webhook-signature", description="`v1,<base64>`, or several with spaces between.")
]


class Gate:
    """Lets in what is signed, and so many at a time."""

    def __init__(self, signing_secrets: Sequence[str]) -> None:
        self.signatures = Signatures(signing_secrets)
        self._inside = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        if self._inside >= MOST_AT_ONCE:
            detail = "Too many webhooks are under way: send it again in a moment."
            raise refusal(503, "too-many-webhooks", detail, {"Retry-After": "1"})
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1


@dataclass  # else nobody calls __post_init__
class WithBody(Operation):
    """Describes the body, which Litestar must not read: the signature is of its bytes."""

    def __post_init__(self) -> None:
        record = {"systemTime": "2025-04-26T14:30:00Z", "displayTime": "2025-04-26T16:30:00+02:00", "value": 110}
        device = {"transmitterId": "ab12…", "transmitterGeneration": "g7", "displayDevice": "iOS", "unit": "mg/dL"}
        envelope = {"recordType": "egv", "recordVersion": "3.0", "userId": "cd34…"}
        examples: dict[str, Example | Reference] = {
            "readings": Example(value=envelope | {"records": [record | device]}),
            "look now": Example(value=envelope | {"records": []}),
        }
        content = OpenAPIMediaType(schema=Schema(type=OpenAPIType.OBJECT), examples=examples)
        self.request_body = RequestBody({"application/json": content}, "The provider's own page, at most 1 MiB.", True)


async def later(_: Asked) -> None:
    """Check nothing yet: who has not signed is not told either what is wrong with the path."""


@post(
    "/{user_id:str}/webhook",
    operation_id="webhook",
    summary="Push readings",
    status_code=HTTPStatus.ACCEPTED,
    opt=PUBLIC | PUSHES,
    security=[{}],
    before_request=later,
    request_max_body_size=LARGEST_WEBHOOK,
    operation_class=WithBody,
    responses={
        202: answers(
            Received, Received(2), description="All of it is durable; the same webhook-id again brings zeros."
        ),
        **problems(400, 401, 404, 408, 413, 503, guarded=False),
    },
)
async def webhook(
    request: Asked,
    user_id: User,
    gate: Use[Gate],
    receiving: Use[Receiving],
    webhook_id: WebhookId = None,
    timestamp: Timestamp = None,
    signature: Signature = None,
) -> Response[Received]:
    """Signed as Standard Webhooks has it, over the raw body. A page without records means: look now."""
    with gate.place():
        claim = Claim(webhook_id or "", timestamp or "", signature or "")
        await _admit(request, gate.signatures, claim, receiving)
        await check(request)
        try:
            outcome = await receiving.receive(user_id, claim.webhook_id, await request.body())
        except ProviderMisbehaved:
            raise refusal(400, "invalid-body", "The body is no page of records: compare it with GET /schema.") from None
    return Response(received_of(outcome), headers={"Cache-Control": "no-store"})


async def _admit(request: Asked, signatures: Signatures, claim: Claim, receiving: Receiving) -> None:
    """Refuse what is too large, unsigned or stale; where the headers alone cannot be right no body is read."""
    if (request.content_length or 0) > LARGEST_WEBHOOK:
        raise _too_large()
    sent_at = claim.sent_at
    if sent_at is None or not claim.webhook_id or not claim.signatures:
        raise _unsigned()
    if abs(receiving.now() - sent_at) > TOLERANCE:
        detail = "It was signed more than 5 minutes from now: sign it again, and compare the clocks."
        raise refusal(401, "stale-signature", detail)
    if not signatures.vouch(claim, await body_of(request, too_large=TOO_LARGE)):
        raise _unsigned()


def _too_large() -> Refused:
    return refusal(413, "too-large", TOO_LARGE)


def _unsigned() -> Refused:
    detail = "Sign the request as Standard Webhooks has it, by a secret of this service's WEBHOOK_SIGNING_SECRETS."
    return refusal(401, "invalid-signature", detail)


def router(signing_secrets: Sequence[str]) -> Router:
    gate = Gate(signing_secrets)
    return Router(
        "/api/bg",
        route_handlers=[webhook],
        dependencies={"gate": Provide(lambda: gate, sync_to_thread=False)},
        tags=["webhooks"],
    )
