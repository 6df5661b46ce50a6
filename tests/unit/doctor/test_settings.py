"""The doctor tells where nobody can come in, and where anybody can."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bg_ingest.doctor.finding import Verdict
from bg_ingest.doctor.settings import check_access
from bg_ingest.domain.access import Scope
from bg_ingest.settings import Settings
from tests.fakes.clock import NOON
from tests.harness.service import ServiceHarness, open_service

PRODUCTION = {
    "environment": "production",
    "aws_region": "eu-central-1",
    "dynamodb_table": "bg",
    "rabbitmq_url": "amqps://u:p@host/v",
    "dexcom_client_id": "id",
    "dexcom_client_secret": "secret",
    "dexcom_redirect_uri": "https://host/api/oauth/dexcom/callback",
    "token_encryption_keys": f"{'A' * 43}=",
}
ISSUER = {"jwt_issuer": "https://issuer.test", "jwt_audience": "bg"}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's settings reaches a test."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


async def make_key(service: ServiceHarness, ends_at: datetime | None = None) -> str:
    made = await service.services.api_keys.create("dashboard", [Scope.ADMIN], ends_at=ends_at)
    return made.key.id


async def access_finding(service: ServiceHarness, **settings: Any) -> tuple[Verdict, str]:
    (found,) = await check_access(Settings(**settings), service.services.store.keys, NOON)
    assert bool(found.advice) is (found.verdict is not Verdict.OK)
    return found.verdict, found.found


async def test_outside_development_somebody_must_be_able_to_come_in() -> None:
    async with open_service() as service:
        verdict, said = await access_finding(service, **PRODUCTION)
        assert (verdict, "no client has access" in said) == (Verdict.WARNING, True)
        assert (await access_finding(service, **PRODUCTION, **ISSUER))[0] is Verdict.OK
        assert (await access_finding(service, **PRODUCTION, api_bootstrap_key=f"bgi_first_{'s' * 43}"))[0] is Verdict.OK
        await make_key(service, ends_at=NOON)
        assert (await access_finding(service, **PRODUCTION))[0] is Verdict.WARNING, "it has ended"
        key = await make_key(service, ends_at=NOON + timedelta(days=1))
        assert await access_finding(service, **PRODUCTION) == (Verdict.OK, "access by: API keys (1)")
        await service.services.api_keys.revoke(key)
        assert (await access_finding(service, **PRODUCTION))[0] is Verdict.WARNING


async def test_in_development_everybody_may_come_in_from_this_machine_only() -> None:
    async with open_service() as service:
        assert (await access_finding(service))[0] is Verdict.OK
        verdict, said = await access_finding(service, api_open=True)
        assert (verdict, "0.0.0.0:5001" in said) == (Verdict.WARNING, True)
        assert (await access_finding(service, api_open=True, **ISSUER))[0] is Verdict.OK
        key = await make_key(service)
        assert (await access_finding(service, api_open=True))[0] is Verdict.OK
        await service.services.api_keys.revoke(key)
        verdict, said = await access_finding(service)
        assert (verdict, "no client has access" in said) == (Verdict.WARNING, True), (
            "once a key was made, the API wants one"
        )
