"""Webhooks with a token of the operator's own issuer."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import httpx
import pytest

from bg_ingest.adapters.jwt import JwtVerifier
from bg_ingest.api.auth import Access
from bg_ingest.api.webhook_auth import fingerprint_of
from bg_ingest.domain.access import Scope, WebhookProof
from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.ids import UserId
from bg_ingest.errors import ProviderMisbehaved
from bg_ingest.services.polling.webhooks import SenderTokens
from tests.fakes.faults import Fault, FaultyCalls
from tests.fakes.issuer import AUDIENCE, ISSUER, FakeIssuer, key
from tests.harness.service import PROVIDER, ServiceHarness, open_service
from tests.harness.webhook_sender import envelope, record, records
from tests.unit.api.test_webhooks import HOUR_AGO, MAX_BODY_BYTES, ZEROS, SlowBody, account, assert_problem

SCOPE = "webhooks:write"
BOTH, BEARER = frozenset(WebhookProof), frozenset({WebhookProof.BEARER})


class TokenSender:
    """A client of the operator's issuer, and the service that it pushes to."""

    def __init__(self, service: ServiceHarness) -> None:
        self.service = service
        self.issuer = FakeIssuer(service.clock.now)

    def replace_senders(self) -> None:
        """Make the service accept the tokens of this issuer."""
        verifier = JwtVerifier(self.issuer.http, self.service.clock, issuer=ISSUER, audience=AUDIENCE)
        receiver = replace(self.service.services.webhook_receiver, sender_tokens=SenderTokens(verifier, SCOPE))
        self.service.replace_services(webhook_receiver=receiver)

    async def push(self, body: bytes, token: str | None = None, user: str = "ada", **headers: str) -> httpx.Response:
        token = self.issuer.token(sub="partner", scope=SCOPE) if token is None else token
        others = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.service.api.post(
            f"/api/bg/{user}/webhook", content=body, headers={"Authorization": f"Bearer {token}"} | others
        )


async def open_partner(proofs: frozenset[WebhookProof], **given: Any) -> AsyncIterator[TokenSender]:
    async with open_service(defaults=PollDefaults(backfill_days=0), proofs={PROVIDER: proofs}, **given) as service:
        partner = TokenSender(service)
        partner.replace_senders()
        async with partner.issuer.http:
            await service.connect("ada")
            yield partner


@pytest.fixture
async def partner() -> AsyncIterator[TokenSender]:
    async for each in open_partner(BOTH):
        yield each


@pytest.fixture
async def only_tokens() -> AsyncIterator[TokenSender]:
    async for each in open_partner(BEARER):
        yield each


async def test_a_token_with_the_scope_lets_in(partner: TokenSender) -> None:
    body = envelope(await account(partner.service), records(HOUR_AGO, 2))
    answer = await partner.push(body)
    assert (answer.status_code, answer.json()) == (202, ZEROS | {"stored": 2})
    assert len(await partner.service.stored_readings("ada")) == 2


async def test_a_token_that_is_not_right_does_not(partner: TokenSender) -> None:
    body = envelope(await account(partner.service), records(HOUR_AGO, 2))
    now, token = partner.service.clock.now().timestamp(), partner.issuer.token
    for wrong in (
        "",
        "x",
        token(scope="readings:read"),
        token(scope=None),
        token(scope=f"{SCOPE}x"),
        token(scope=SCOPE, aud="another"),
        token(scope=SCOPE, iss="https://evil.example/"),
        token(scope=SCOPE, exp=int(now) - 31),
        token(scope=SCOPE, nbf=int(now) + 62),
        token(scope=SCOPE, by=key("another"), header={"kid": "first"}),
        "bgi_first_" + "s" * 43,
    ):
        answer = await partner.push(body, wrong)
        assert_problem(answer, 401, "not-authenticated")
        assert "Bearer" in answer.headers["www-authenticate"]
    assert await partner.service.stored_readings("ada") == []


async def test_a_key_of_the_api_pushes_nothing(partner: TokenSender) -> None:
    made = await partner.service.services.api_keys.create("all", list(Scope))
    answer = await partner.push(envelope(await account(partner.service)), made.text.reveal())
    assert_problem(answer, 401, "not-authenticated")


async def test_nothing_is_read_of_a_body_whose_sender_is_unknown(partner: TokenSender) -> None:
    body = SlowBody(b" " * 1_000)
    headers = {"authorization": "Bearer x"}
    request = httpx.Request("POST", "https://ingest.test/api/bg/ada/webhook", headers=headers, stream=body)
    assert_problem(await partner.service.api.send(request), 401, "not-authenticated")
    assert body.sent <= 1_000


async def test_signed_webhooks_are_taken_beside_it_unless_only_tokens_are(
    partner: TokenSender, only_tokens: TokenSender
) -> None:
    signed = envelope(await account(partner.service), records(HOUR_AGO, 1))
    assert (await partner.service.push("ada", signed)).status_code == 202
    signed = envelope(await account(only_tokens.service), records(HOUR_AGO, 1))
    assert_problem(await only_tokens.service.push("ada", signed), 401, "not-authenticated")
    assert (await only_tokens.push(signed)).status_code == 202


async def test_a_token_is_refused_if_only_signatures_are_accepted() -> None:
    async for partner in open_partner(frozenset({WebhookProof.SIGNATURE})):
        answer = await partner.push(envelope(await account(partner.service)))
        assert_problem(answer, 401, "invalid-signature")
        assert partner.issuer.asked == []


async def test_a_proof_is_good_only_for_the_providers_that_take_it() -> None:
    """The guard accepts a credential of any provider, because the provider of the page is known only later."""
    async for partner in open_partner(frozenset({WebhookProof.SIGNATURE})):
        body = envelope(await account(partner.service), records(HOUR_AGO, 1))
        receiving = partner.service.services.webhook_receiver
        with pytest.raises(ProviderMisbehaved):
            await receiving.receive(UserId("ada"), None, body, WebhookProof.BEARER)
        assert await partner.service.stored_readings("ada") == []
        assert (await receiving.receive(UserId("ada"), "msg_1", body, WebhookProof.SIGNATURE)).recorded == 1


async def test_a_wrong_signature_is_not_mended_by_a_token(partner: TokenSender) -> None:
    body = envelope(await account(partner.service), records(HOUR_AGO, 1))
    now = str(int(partner.service.clock.now().timestamp()))
    answer = await partner.push(body, webhook_id="msg_1", webhook_timestamp=now, webhook_signature="v1,eA==")
    assert_problem(answer, 401, "invalid-signature")


async def test_the_same_body_again_brings_zeros_and_reverts_nothing(partner: TokenSender) -> None:
    first, revised = ([record(HOUR_AGO, value)] for value in (110, 120))
    whose = await account(partner.service)
    await partner.push(envelope(whose, first))
    assert (await partner.push(envelope(whose, revised))).json() == ZEROS | {"revised": 1}
    await anyio.sleep(3600)
    again = await partner.push(envelope(whose, first), webhook_id="another")
    assert (again.status_code, again.json()) == (202, ZEROS)
    (kept,) = await partner.service.stored_readings("ada")
    assert kept.reading.glucose_mg_dl == 120


async def test_a_body_without_records_requests_a_poll_each_time(partner: TokenSender) -> None:
    body = envelope(await account(partner.service))
    async with partner.service.running():
        await anyio.sleep(60)
        for _ in range(2):
            before = partner.service.simulator.calls.total()
            assert (await partner.push(body)).status_code == 202
            await anyio.sleep(10)
            assert partner.service.simulator.calls.total() > before
            await anyio.sleep(120)


async def test_the_page_of_another_user_is_404_with_any_token(partner: TokenSender) -> None:
    await partner.service.connect("bob", "SandboxUser2")
    body = envelope(await account(partner.service), records(HOUR_AGO, 1))
    for user in ("bob", "nobody"):
        assert_problem(await partner.push(body, user=user), 404, "unknown")
    assert await partner.service.stored_readings("bob") == []


async def test_while_the_issuer_is_away_it_is_503_and_the_repeat_is_whole(partner: TokenSender) -> None:
    body = envelope(await account(partner.service), records(HOUR_AGO, 1))
    partner.issuer.failing = 500
    answer = await partner.push(body)
    assert_problem(answer, 503, "issuer-unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    partner.issuer.failing = None
    await anyio.sleep(10)
    assert (await partner.push(body)).json() == ZEROS | {"stored": 1}


async def test_after_a_failed_commit_the_repeat_stores_everything() -> None:
    """The digest of the body is written with its readings: without them, it does not count as seen."""
    down = False

    def plan(_: int) -> Fault | None:
        return Fault.BEFORE if down else None

    async for partner in open_partner(BOTH, around=lambda table: FaultyCalls(table, plan, only={"transact"})):
        body = envelope(await account(partner.service), records(HOUR_AGO, 2))
        down = True
        assert_problem(await partner.push(body), 503, "store-unavailable")
        down = False
        assert (await partner.push(body)).json() == ZEROS | {"stored": 2}
        assert (await partner.push(body)).json() == ZEROS


async def test_too_large_is_413(partner: TokenSender) -> None:
    assert_problem(await partner.push(b" " * (MAX_BODY_BYTES + 1)), 413, "too-large")


async def test_it_is_as_open_to_senders_where_the_api_is_closed() -> None:
    async with open_service(access=Access.CLOSED, proofs={PROVIDER: BEARER}) as service:
        partner = TokenSender(service)
        partner.replace_senders()
        async with partner.issuer.http:
            assert_problem(await partner.push(envelope("x")), 404, "unknown")


async def test_old_bodies_are_forgotten_after_days(partner: TokenSender) -> None:
    body = envelope(await account(partner.service), records(HOUR_AGO, 1))
    await partner.push(body)
    await anyio.sleep(timedelta(days=4, seconds=1).total_seconds())
    assert (await partner.push(body)).json() == ZEROS | {"duplicates": 1}


async def read_credentials(service: ServiceHarness) -> list[tuple[str, str]]:
    await service.services.audit_log.flush()
    records = (await service.api.get("/api/audit?user=ada&to=2026-03-04")).json()
    pushes = "POST /api/bg/{user_id}/webhook"
    return [(record["action"], record["credential"]) for record in records if record["route"] == pushes]


async def test_s10_a_push_is_audited_with_its_senders_hash_or_its_secrets_fingerprint(partner: TokenSender) -> None:
    service = partner.service
    body = envelope(await account(service), records(HOUR_AGO, 1))
    assert (await partner.push(body)).status_code == 202
    assert (await service.push("ada", body)).status_code == 202
    assert (await partner.push(body, "x")).status_code == 401
    assert (await service.push("ada", body, webhook_signature="v1,eA==")).status_code == 401
    recorded = await read_credentials(service)
    actions, credentials = zip(*recorded, strict=True)
    assert sorted(actions) == ["push", "push", "refused"]
    kinds = sorted(credential.partition(":")[::2] for credential in credentials)
    assert [kind for kind, _ in kinds] == ["address", "signature", "token"]
    assert len(dict(kinds)["signature"]) == 16
    assert len(dict(kinds)["token"]) == 32
    assert "partner" not in str(recorded)


def test_s10_each_secret_has_its_own_fingerprint() -> None:
    names = {fingerprint_of(bytes([number]) * 24) for number in range(100)}
    assert len(names) == 100
