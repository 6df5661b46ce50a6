"""``bg-ingest keys rotate-encryption`` on a file, as an operator runs it."""

import base64
import json
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from bg_ingest.adapters.sealing import KeyRing
from bg_ingest.adapters.sqlite import open_table
from bg_ingest.adapters.table.store import TableStore
from bg_ingest.domain.grants import Credentials, Secret
from bg_ingest.services.grants import Grants
from tests.contracts.values import connection, stepping
from tests.fakes.clock import NOON, SetClock
from tests.fakes.plenty import Plenty
from tests.test_cli import bg_ingest

OLD, NEW = bytes(range(32)), bytes(range(32, 64))


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """Keep one grant, sealed by the old key."""
    clock = SetClock()
    async with open_table(tmp_path / "bg-ingest.sqlite", clock) as table:
        store = TableStore(table, clock)
        grants = Grants(store.connections, {}, Plenty(), KeyRing([OLD]), clock, "bg-ingest")
        credentials = Credentials(Secret("access"), Secret("refresh"), NOON + timedelta(hours=2))
        after = connection()
        sealed = grants.first(after.id, after.generation, credentials)
        await store.readings.commit(stepping(None, None, after, grant=sealed))
    return tmp_path


def rotate(folder: Path, *keys: bytes, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    ring = ",".join(base64.b64encode(key).decode() for key in keys)
    return bg_ingest(folder, "keys", "rotate-encryption", *flags, DATA_DIR=str(folder), TOKEN_ENCRYPTION_KEYS=ring)


async def test_it_says_when_the_old_keys_may_go(folder: Path) -> None:
    done = rotate(folder, NEW, OLD)
    assert (done.returncode, "may be removed" in done.stdout) == (0, True), done.stderr
    again = rotate(folder, NEW, flags=("--json",))
    assert again.returncode == 0
    assert json.loads(again.stdout) == {"sealed": 1, "resealed": 0, "busy": 0, "unopened": 0, "complete": True}


async def test_it_refuses_to_say_so_while_something_does_not_open(folder: Path) -> None:
    done = rotate(folder, NEW)
    assert done.returncode == 1
    assert "may be removed" not in done.stdout + done.stderr
    assert "Keep all keys" in done.stderr
