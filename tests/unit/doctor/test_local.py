"""Access of clients to the API, and limits of the machine."""

import resource
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bg_ingest.doctor import Finding, Verdict
from bg_ingest.doctor.local import check_access, check_machine
from bg_ingest.domain.access import Scope
from bg_ingest.server import MAX_FILES
from bg_ingest.settings import Settings
from tests.fakes.clock import NOON
from tests.harness.cli import environment
from tests.harness.service import ServiceHarness, open_service
from tests.harness.settings import KEY

PRODUCTION = {
    "environment": "production",
    "aws_region": "eu-central-1",
    "dynamodb_table": "bg",
    "rabbitmq_url": "amqps://u:p@host/v",
    "dexcom_client_id": "id",
    "dexcom_client_secret": "secret",
    "dexcom_redirect_uri": "https://host/api/oauth/dexcom/callback",
    "token_encryption_keys": KEY,
}
ISSUER = {"jwt_issuer": "https://issuer.test", "jwt_audience": "bg"}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Isolate tests from the settings of this machine."""
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


async def test_outside_development_a_credential_must_exist() -> None:
    async with open_service() as service:
        verdict, text = await access_finding(service, **PRODUCTION)
        assert (verdict, "no client has access" in text) == (Verdict.WARNING, True)
        assert (await access_finding(service, **PRODUCTION, **ISSUER))[0] is Verdict.OK
        assert (await access_finding(service, **PRODUCTION, api_bootstrap_key=f"bgi_first_{'s' * 43}"))[0] is Verdict.OK
        await make_key(service, ends_at=NOON)
        assert (await access_finding(service, **PRODUCTION))[0] is Verdict.WARNING, "the validity of the key has ended"
        key = await make_key(service, ends_at=NOON + timedelta(days=1))
        assert await access_finding(service, **PRODUCTION) == (Verdict.OK, "access by: API keys (1)")
        await service.services.api_keys.revoke(key)
        assert (await access_finding(service, **PRODUCTION))[0] is Verdict.WARNING


async def test_in_development_the_api_is_open_to_this_machine_only() -> None:
    async with open_service() as service:
        assert (await access_finding(service))[0] is Verdict.OK
        verdict, text = await access_finding(service, api_open=True)
        assert (verdict, "0.0.0.0:5001" in text) == (Verdict.WARNING, True)
        assert (await access_finding(service, api_open=True, **ISSUER))[0] is Verdict.OK
        key = await make_key(service)
        assert (await access_finding(service, api_open=True))[0] is Verdict.OK
        await service.services.api_keys.revoke(key)
        verdict, text = await access_finding(service)
        assert (verdict, "no client has access" in text) == (Verdict.WARNING, True), (
            "once a key was made, the API requires one"
        )


def verdicts(findings: list[Finding]) -> dict[str, Verdict]:
    return {each.check: each.verdict for each in findings}


def test_too_few_files_are_a_warning_that_names_what_the_server_takes(tmp_path: Path) -> None:
    """The server raises its own limit, so only the hard limit counts."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = most if most > 0 else MAX_FILES
    assert verdicts(check_machine(enough, None)) == {"limits": Verdict.OK}
    limited = f"ulimit -n {min(enough, MAX_FILES) - 1}; exec '{sys.executable}' -m bg_ingest.cli doctor --json"
    shown = subprocess.run(
        ["sh", "-c", limited], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert f"raise it to {MAX_FILES}: ulimit -n" in shown.stdout


def test_the_disk_is_checked_before_its_folder_is_made(tmp_path: Path) -> None:
    assert verdicts(check_machine(0, tmp_path / "not" / "yet")).keys() == {"limits", "disk"}
