"""Exactly one AWS session in a process."""

import ast
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aioboto3
import boto3
import pytest

from bg_ingest.adapters.aws.session import get_session
from bg_ingest.adapters.clock import SystemClock
from bg_ingest.observability.registry import MetricsRegistry
from bg_ingest.settings import Settings, get_settings
from bg_ingest.wiring.keys import build_sealer, create_sealing_key
from bg_ingest.wiring.store import create_table, open_table

ROOT = Path(__file__).parents[4]
REGION = "eu-central-1"
FACTORY = "bg_ingest/adapters/aws/session.py"
SESSION_MAKERS = {"Session", "AioSession", "get_session", "setup_default_session"}


def creations(text: str) -> list[int]:
    """Return the lines of a module that create a session of an AWS library, or that import one which does so itself."""
    lines = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names=names):
                imported = [alias.name for alias in names]
            case ast.ImportFrom(module=str(origin), names=names):
                imported = [f"{origin}.{alias.name}" for alias in names]
            case ast.Call(func=ast.Attribute(value=ast.Name(id="aioboto3" | "boto3" | "botocore" | "aiobotocore"))):
                imported = ["boto3"]
            case _:
                continue
        for name in imported:
            package, _, rest = name.partition(".")
            made = package in {"aioboto3", "botocore", "aiobotocore"} and bool(SESSION_MAKERS & {*rest.split(".")})
            if package == "boto3" or made or name.startswith(("botocore.session", "aiobotocore.session")):
                lines.append(node.lineno)
    return lines


@pytest.mark.slow
def test_no_other_module_creates_a_session() -> None:
    modules = [path for folder in ("bg_ingest", "workers") for path in (ROOT / folder).rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix() for path in [*modules, ROOT / "app.py"] if creations(path.read_text())}
    assert found == {FACTORY}


@pytest.mark.parametrize(
    "text",
    [
        "import boto3",
        "from boto3.session import Session",
        "import aioboto3\naioboto3.Session()",
        "from aioboto3 import Session",
        "import aiobotocore.session",
        "from aiobotocore.session import get_session",
        "from botocore.session import Session",
    ],
)
def test_the_scan_finds_each_way_to_create_one(text: str) -> None:
    assert creations(text)
    assert not creations("import aioboto3\ndef run(session: aioboto3.Session) -> None: ...")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def created(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return the sessions that are created from now on."""
    sessions: list[object] = []

    class CountedSession(aioboto3.Session):  # type: ignore[misc]  # aioboto3 has no types
        def __init__(self) -> None:
            super().__init__()
            sessions.append(self)

    monkeypatch.setattr(aioboto3, "Session", CountedSession)
    return sessions


@pytest.fixture
def kms_key(moto_server: str, aws: Callable[[str], None]) -> Iterator[str]:
    aws(moto_server)
    client: Any = boto3.client("kms", region_name=REGION)
    yield str(client.create_key()["KeyMetadata"]["KeyId"])
    client.close()


@pytest.fixture
def secret(kms_key: str) -> Iterator[Callable[[dict[str, str]], str]]:
    """Keep settings in Secrets Manager and return the name of the secret."""
    assert kms_key
    client: Any = boto3.client("secretsmanager", region_name=REGION)

    def put(settings: dict[str, str]) -> str:
        client.create_secret(Name="bg/one-session", SecretString=json.dumps(settings))
        return "bg/one-session"

    yield put
    client.delete_secret(SecretId="bg/one-session", ForceDeleteWithoutRecovery=True)
    client.close()


async def test_secret_keys_table_and_administration_share_one_session(
    kms_key: str,
    secret: Callable[[dict[str, str]], str],
    created: list[object],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Settings load inside a running event loop here, as in commands."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    name = secret({"DYNAMODB_TABLE": "one-session", "TOKEN_ENCRYPTION_KEYS": await create_sealing_key(kms_key, REGION)})
    monkeypatch.setenv("SECRET_NAME", name)
    monkeypatch.setenv("AWS_REGION", REGION)
    get_settings.cache_clear()
    try:
        settings = get_settings()
    finally:
        get_settings.cache_clear()
    sealer = await build_sealer(settings)
    assert sealer.open(sealer.seal(b"a grant", b"row"), b"row") == b"a grant"
    assert "was created" in (await create_table(settings))[0]
    async with open_table(settings, SystemClock(), MetricsRegistry()) as table:
        assert await table.get(("pk", "sk")) is None
    assert created == [get_session()]
