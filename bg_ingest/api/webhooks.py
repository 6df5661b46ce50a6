"""POST webhook: readings pushed to us, by whoever has a signing secret or a token of the senders' issuer."""

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, TypeAlias

from litestar import Response, Router, post
from litestar.di import Provide
from litestar.openapi.spec import Example, OpenAPIMediaType, Operation, Reference, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import HeaderParameter

from bg_ingest.api.audit import PUSHES
from bg_ingest.api.auth import PUBLIC, Limits
from bg_ingest.api.checks import check
from bg_ingest.api.deps import Use, User
from bg_ingest.api.documented import answers, problems
from bg_ingest.api.errors import refusal, refused_for
from bg_ingest.api.gate import LARGEST_WEBHOOK, Asked, Gate
from bg_ingest.api.schemas import Received, received_of
from bg_ingest.api.signatures import Claim
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.outcomes import Outcome
from bg_ingest.errors import ProviderMisbehaved
from bg_ingest.services.receive import Receiving

WebhookId: TypeAlias = Annotated[
    str | None, HeaderParameter(name="webhook-id", description="Stays the same when it is sent again.")
]
Timestamp: TypeAlias = Annotated[
    str | None, HeaderParameter(name="webhook-timestamp", description="Epoch seconds, at most 5 minutes from now.")
]
Signature: TypeAlias = Annotated[
    str | None, HeaderParameter(name="webhook-signature", description="`v1,<base64>`, or several with spaces between.")
]


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
        **problems(400, 401, 404, 408, 413, 429, 503, guarded=False),
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
    """Signed as Standard Webhooks has it, over the raw body, or with a token. A page without records: look now."""
    claim = Claim(webhook_id or "", timestamp or "", signature or "")
    try:
        outcome = await _received(request, user_id, gate, receiving, claim)
    except Exception as error:
        receiving.turned_away(refused_for(request, error).problem.type)
        raise
    return Response(received_of(outcome), headers={"Cache-Control": "no-store"})


async def _received(request: Asked, user: UserId, gate: Gate, receiving: Receiving, claim: Claim) -> Outcome:
    async with gate.place():
        let = await gate.admit(request, claim, receiving)
        await check(request)
        async with gate.work():
            try:
                return await receiving.receive(user, let.webhook_id, await request.body(), let.proof)
            except ProviderMisbehaved:
                detail = "The body is no page of records: compare it with GET /schema."
                raise refusal(400, "invalid-body", detail) from None


def router(signing_secrets: Sequence[str], limits: Limits | None) -> Router:
    gate = Gate(signing_secrets, limits)
    return Router(
        "/api/bg",
        route_handlers=[webhook],
        dependencies={"gate": Provide(lambda: gate, sync_to_thread=False)},
        tags=["webhooks"],
    )
