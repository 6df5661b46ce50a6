"""Webhooks whose sender brings a token of the operator's own issuer."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anyio
import httpx
import pytest

from bg_ingest.adapters.tokens import IssuerTokens
from bg_ingest.api.auth import Access
from bg_ingest.domain.connections import Defaults
from bg_ingest.domain.credentials import Proof, Scope
from bg_ingest.domain.ids import UserId
from bg_ingest.errors import ProviderMisbehaved
from bg_ingest.services.senders import Senders
from tests.api.test_webhook import HOUR_AGO, LARGEST, ZEROS, Trickle, account, assert_problem
from tests.fakes.faults import Fault, Faulty
from tests.fakes.issuer import AUDIENCE, ISSUER, Issuer, key
from tests.house import PROVIDER, House, house
from tests.sender import envelope, record, records

SCOPE = "webhooks:write"
BOTH, BEARER = frozenset(Proof), frozenset({Proof.BEARER})


class Partner:
    """A client of the operator's issuer, and the service that it pushes to."""

    def __init__(self, home: House) -> None:
        self.home = home
        self.issuer = Issuer(home.clock.now)

    @property
    def senders(self) -> Senders:
        return Senders(IssuerTokens(self.issuer.http, self.home.clock, issuer=ISSUER, audience=AUDIENCE), SCOPE)

    async def push(self, body: bytes, token: str | None = None, user: str = "ada", **headers: str) -> httpx.Response:
        token = self.issuer.token(sub="partner", scope=SCOPE) if token is None else token
        others = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.home.api.post(
            f"/api/bg/{user}/webhook", content=body, headers={"Authorization": f"Bearer {token}"} | others
        )


async def opened(proofs: frozenset[Proof], **given: Any) -> AsyncIterator[Partner]:
    async with house(defaults=Defaults(backfill_days=0), proofs={PROVIDER: proofs}, **given) as home:
        partner = Partner(home)
        home.services.receiving.senders = partner.senders
        async with partner.issuer.http:
            await home.connect("ada")
            yield partner


@pytest.fixture
async def partner() -> AsyncIterator[Partner]:
    async for each in opened(BOTH):
        yield each


@pytest.fixture
async def only_tokens() -> AsyncIterator[Partner]:
    async for each in opened(BEARER):
        yield each


async def test_a_token_with_the_scope_lets_in(partner: Partner) -> None:
    body = envelope(await account(partner.home), records(HOUR_AGO, 2))
    answer = await partner.push(body)
    assert (answer.status_code, answer.json()) == (202, ZEROS | {"stored": 2})
    assert len(await partner.home.stored("ada")) == 2


async def test_a_token_that_is_not_right_does_not(partner: Partner) -> None:
    body = envelope(await account(partner.home), records(HOUR_AGO, 2))
    now, token = partner.home.clock.now().timestamp(), partner.issuer.token
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
    assert await partner.home.stored("ada") == []


async def test_a_key_of_the_api_pushes_nothing(partner: Partner) -> None:
    made = await partner.home.services.keyring.make("all", list(Scope))
    answer = await partner.push(envelope(await account(partner.home)), made.text.reveal())
    assert_problem(answer, 401, "not-authenticated")


async def test_nothing_is_read_of_a_body_whose_sender_is_unknown(partner: Partner) -> None:
    body = Trickle(b" " * 1_000)
    headers = {"authorization": "Bearer x"}
    request = httpx.Request("POST", "https://ingest.test/api/bg/ada/webhook", headers=headers, stream=body)
    assert_problem(await partner.home.api.send(request), 401, "not-authenticated")
    assert body.sent <= 1_000


async def test_signed_webhooks_are_taken_beside_it_unless_only_tokens_are(
    partner: Partner, only_tokens: Partner
) -> None:
    signed = envelope(await account(partner.home), records(HOUR_AGO, 1))
    assert (await partner.home.push("ada", signed)).status_code == 202
    signed = envelope(await account(only_tokens.home), records(HOUR_AGO, 1))
    assert_problem(await only_tokens.home.push("ada", signed), 401, "not-authenticated")
    assert (await only_tokens.push(signed)).status_code == 202


async def test_where_only_signatures_are_taken_a_token_lets_nobody_in() -> None:
    async for partner in opened(frozenset({Proof.SIGNATURE})):
        answer = await partner.push(envelope(await account(partner.home)))
        assert_problem(answer, 401, "invalid-signature")
        assert partner.issuer.asked == []


async def test_a_proof_is_good_only_for_the_providers_that_take_it() -> None:
    """The gate lets in what any provider takes; whose page it is is known later."""
    async for partner in opened(frozenset({Proof.SIGNATURE})):
        body = envelope(await account(partner.home), records(HOUR_AGO, 1))
        receiving = partner.home.services.receiving
        with pytest.raises(ProviderMisbehaved):
            await receiving.receive(UserId("ada"), None, body, Proof.BEARER)
        assert await partner.home.stored("ada") == []
        assert (await receiving.receive(UserId("ada"), "msg_1", body, Proof.SIGNATURE)).recorded == 1


async def test_a_wrong_signature_is_not_mended_by_a_token(partner: Partner) -> None:
    body = envelope(await account(partner.home), records(HOUR_AGO, 1))
    now = str(int(partner.home.clock.now().timestamp()))
    answer = await partner.push(body, webhook_id="msg_1", webhook_timestamp=now, webhook_signature="v1,eA==")
    assert_problem(answer, 401, "invalid-signature")


async def test_the_same_body_again_brings_zeros_and_reverts_nothing(partner: Partner) -> None:
    first, revised = ([record(HOUR_AGO, value)] for value in (110, 120))
    whose = await account(partner.home)
    await partner.push(envelope(whose, first))
    assert (await partner.push(envelope(whose, revised))).json() == ZEROS | {"revised": 1}
    await anyio.sleep(3600)
    again = await partner.push(envelope(whose, first), webhook_id="another")
    assert (again.status_code, again.json()) == (202, ZEROS)
    (kept,) = await partner.home.stored("ada")
    assert kept.reading.glucose_mg_dl == 120


async def test_a_body_without_records_asks_to_look_each_time(partner: Partner) -> None:
    body = envelope(await account(partner.home))
    async with partner.home.running():
        await anyio.sleep(60)
        for _ in range(2):
            before = partner.home.simulator.calls.total()
            assert (await partner.push(body)).status_code == 202
            await anyio.sleep(10)
            assert partner.home.simulator.calls.total() > before
            await anyio.sleep(120)


async def test_somebody_elses_page_is_404_with_any_token(partner: Partner) -> None:
    await partner.home.connect("bob", "SandboxUser2")
    body = envelope(await account(partner.home), records(HOUR_AGO, 1))
    for user in ("bob", "nobody"):
        assert_problem(await partner.push(body, user=user), 404, "unknown")
    assert await partner.home.stored("bob") == []


async def test_while_the_issuer_is_away_it_is_503_and_the_repeat_is_whole(partner: Partner) -> None:
    body = envelope(await account(partner.home), records(HOUR_AGO, 1))
    partner.issuer.failing = 500
    answer = await partner.push(body)
    assert_problem(answer, 503, "issuer-unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    partner.issuer.failing = None
    await anyio.sleep(10)
    assert (await partner.push(body)).json() == ZEROS | {"stored": 1}


async def test_after_a_crash_before_the_note_the_repeat_is_taken_for_what_it_is() -> None:
    """What was stored is durable, its digest was not noted: the same body again finds its readings known."""
    down = False

    def plan(_: int) -> Fault | None:
        return Fault.BEFORE if down else None

    async for partner in opened(BOTH, around=lambda table: Faulty(table, plan, only={"write"})):
        body = envelope(await account(partner.home), records(HOUR_AGO, 2))
        down = True
        assert_problem(await partner.push(body), 503, "store-unavailable")
        down = False
        assert (await partner.push(body)).json() == ZEROS | {"duplicates": 2}


async def test_too_large_is_413(partner: Partner) -> None:
    assert_problem(await partner.push(b" " * (LARGEST + 1)), 413, "too-large")


async def test_it_is_as_open_to_senders_where_the_api_is_closed() -> None:
    async with house(access=Access.CLOSED, proofs={PROVIDER: BEARER}) as home:
        partner = Partner(home)
        home.services.receiving.senders = partner.senders
        async with partner.issuer.http:
            assert_problem(await partner.push(envelope("x")), 404, "unknown")


async def test_old_bodies_are_forgotten_after_days(partner: Partner) -> None:
    body = envelope(await account(partner.home), records(HOUR_AGO, 1))
    await partner.push(body)
    await anyio.sleep(timedelta(days=4, seconds=1).total_seconds())
    assert (await partner.push(body)).json() == ZEROS | {"duplicates": 1}
