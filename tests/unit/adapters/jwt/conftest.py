"""A verifier of the tokens of a fake issuer, in virtual time."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from bg_ingest.adapters.jwt.verifier import JwtVerifier
from bg_ingest.domain.access import TokenClaims
from tests.conftest import on
from tests.fakes.issuer import AUDIENCE, ISSUER, FakeIssuer
from tests.harness.service import LoopClock

anyio_backend = on("asyncio")


class Verifier:
    def __init__(self, *, discovered: bool = True, keys_url: str | None = None) -> None:
        self.clock = LoopClock()
        self.issuer = FakeIssuer(self.clock.now, discovered=discovered)
        self.tokens = JwtVerifier(self.issuer.http, self.clock, issuer=ISSUER, audience=AUDIENCE, keys_url=keys_url)

    def seconds(self, away: float) -> int:
        return int((self.clock.now() + timedelta(seconds=away)).timestamp())

    async def verify(self, token: str | None = None, **claims: Any) -> TokenClaims | None:
        return await self.tokens.verify(self.issuer.token(**claims) if token is None else token)


@pytest.fixture
async def ours() -> AsyncIterator[Verifier]:
    verifier = Verifier()
    async with verifier.issuer.http:
        yield verifier
