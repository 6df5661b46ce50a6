"""POST webhook: readings pushed by holders of a signing secret or of a token of WEBHOOK_JWT_ISSUER."""

from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, TypeAlias

from litestar import Router, post
from litestar.openapi.spec import Example, OpenAPIMediaType, Operation, Reference, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import HeaderParameter

from bg_ingest.api.dependencies import RouteOptions, User
from bg_ingest.api.headers import request_header
from bg_ingest.api.openapi import USER_PROBLEMS, responses
from bg_ingest.api.problems import ProblemError, build_problem, to_problem
from bg_ingest.api.schemas import WebhookResult
from bg_ingest.api.users import mark_credential
from bg_ingest.api.validation import validate_request
from bg_ingest.api.webhook_auth import TOO_LARGE, AnyRequest, SignatureHeaders, WebhookGuard
from bg_ingest.api.webhook_slots import MAX_WEBHOOK_BYTES
from bg_ingest.domain.access import AuditAction
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.polling import PollResult
from bg_ingest.domain.unpacking import UnpackedTooLarge, gunzip
from bg_ingest.errors import ProviderMisbehaved
from bg_ingest.services import Services
from bg_ingest.services.polling.webhooks import WebhookReceiver

WebhookId: TypeAlias = Annotated[
    str | None, HeaderParameter(name="webhook-id", description="The same at each repetition. Also named `svix-id`.")
]
Timestamp: TypeAlias = Annotated[
    str | None, HeaderParameter(name="webhook-timestamp", description="Epoch seconds, at most 5 minutes from now.")
]
Signature: TypeAlias = Annotated[
    str | None, HeaderParameter(name="webhook-signature", description="`v1,<base64>`, or several with spaces between.")
]


@dataclass  # without it, __post_init__ is not called
class WebhookOperation(Operation):
    """Describes the body. Litestar must not decode it, because the signature covers its bytes."""

    def __post_init__(self) -> None:
        record = {"systemTime": "2025-04-26T14:30:00Z", "displayTime": "2025-04-26T16:30:00+02:00", "value": 110}
        device = {"transmitterId": "ab12…", "transmitterGeneration": "g7", "displayDevice": "iOS", "unit": "mg/dL"}
        envelope = {"recordType": "egv", "recordVersion": "3.0", "userId": "cd34…"}
        examples: dict[str, Example | Reference] = {
            "readings": Example(value=envelope | {"records": [record | device]}),
            "poll now": Example(value=envelope | {"records": []}),
        }
        content = OpenAPIMediaType(schema=Schema(type=OpenAPIType.OBJECT), examples=examples)
        self.request_body = RequestBody(
            {"application/json": content}, "The provider's own page, at most 1 MiB; gzip is accepted.", True
        )


async def refuse_excess(request: AnyRequest) -> None:
    """Refuse a webhook beyond the limits, before Litestar resolves the arguments of the handler.

    Nothing is validated yet, so that an unverified sender cannot learn whether the path or the query is valid. The
    handler validates after it has verified the sender.
    """
    state = request.app.state
    guard: WebhookGuard = state.webhook_guard
    try:
        guard.check_room()
    except ProblemError as error:
        state.services.observer.webhook_rejected(error.problem.type)
        raise


@post(
    "/{user_id:str}/webhook",
    summary="Push readings",
    status_code=HTTPStatus.ACCEPTED,
    opt=RouteOptions(public=True, any_origin=True, audited_as=AuditAction.PUSH).opt(),
    security=[{}],
    before_request=refuse_excess,
    request_max_body_size=MAX_WEBHOOK_BYTES,
    operation_class=WebhookOperation,
    responses=responses(
        "All records are stored. For a repeated webhook-id all numbers are 0.",
        WebhookResult,
        WebhookResult(2),
        problems=(*USER_PROBLEMS, 408, 413, 415, 429),
        status=202,
        public=True,
    ),
)
async def webhook(
    request: AnyRequest,
    user_id: User,
    webhook_id: WebhookId = None,
    timestamp: Timestamp = None,
    signature: Signature = None,
) -> WebhookResult:
    """Needs a signature of Standard Webhooks over the raw body, or a token. A page without records requests a poll."""
    # not injected as a dependency, because Litestar starts a task for each one if there are several
    services: Services = request.app.state.services
    signature_headers = _signature_headers(request, webhook_id, timestamp, signature)
    try:
        result = await _receive(request, user_id, services.webhook_receiver, signature_headers)
    except Exception as error:
        services.observer.webhook_rejected(to_problem(request, error).problem.type)
        raise
    return WebhookResult(result.recorded, result.duplicates, result.revised, result.quarantined)


async def _receive(
    request: AnyRequest,
    user: UserId,
    webhook_receiver: WebhookReceiver,
    signature_headers: SignatureHeaders,
) -> PollResult:
    webhook_guard: WebhookGuard = request.app.state.webhook_guard
    with webhook_guard.reserve_slot(request) as slot:
        sender = await webhook_guard.verify_sender(request, slot, signature_headers, webhook_receiver)
        mark_credential(request.scope, sender.credential)
        await validate_request(request)
        body, encoding = await request.body(), request_header(request.scope, b"content-encoding")
        # the unpacked size is not known yet
        async with webhook_guard.wait_for_store(MAX_WEBHOOK_BYTES if encoding else len(body)):
            content = _unpack(body, encoding)
            try:
                return await webhook_receiver.receive(user, sender.webhook_id, content, sender.proof)
            except ProviderMisbehaved:
                detail = "The body is no page of records: compare it with GET /schema."
                raise build_problem(400, "invalid-body", detail) from None


def _signature_headers(
    request: AnyRequest, webhook_id: str | None, timestamp: str | None, signature: str | None
) -> SignatureHeaders:
    """Return the three headers, by the names of Standard Webhooks or, if these are absent, by those of Svix."""
    if webhook_id is timestamp is signature is None:
        aliases = (b"svix-id", b"svix-timestamp", b"svix-signature")
        webhook_id, timestamp, signature = (request_header(request.scope, name) for name in aliases)
    return SignatureHeaders(webhook_id or "", timestamp or "", signature or "")


def _unpack(body: bytes, encoding: str) -> bytes:
    """Unpack a gzip body; it has the same limit after unpacking as before."""
    encoding = encoding.strip().lower()
    if encoding in {"identity", ""}:
        return body
    if encoding not in {"gzip", "x-gzip"}:
        detail = "The body has another encoding than gzip: send it as gzip, or without Content-Encoding."
        raise build_problem(415, "unsupported-media-type", detail, {"Accept-Encoding": "gzip"})
    try:
        return gunzip(body, MAX_WEBHOOK_BYTES)
    except UnpackedTooLarge:
        raise build_problem(413, "too-large", TOO_LARGE) from None
    except ValueError:
        detail = "The Content-Encoding is gzip, but the body is not: pack it again, and sign the packed bytes."
        raise build_problem(400, "invalid-body", detail) from None


router = Router("/api/bg", route_handlers=[webhook], tags=["webhooks"])
