"""Sealing keys of the settings."""

from collections.abc import Callable

import pytest

from bg_ingest.errors import SealBroken
from bg_ingest.setting_types import parse_sealing_key
from bg_ingest.settings import Settings
from bg_ingest.wiring.keys import build_sealer, create_sealing_key
from tests.conftest import on
from tests.harness.settings import KEY, OTHER_KEY
from tests.harness.settings import folder as folder  # noqa: PLC0414 - fixtures
from tests.harness.settings import load as load  # noqa: PLC0414 - fixtures

Load = Callable[..., Settings]

anyio_backend = on("asyncio")


async def test_the_first_key_seals_and_all_open(load: Load) -> None:
    before = await build_sealer(load(TOKEN_ENCRYPTION_KEYS=KEY))
    after = await build_sealer(load(TOKEN_ENCRYPTION_KEYS=f"{OTHER_KEY},{KEY}"))
    sealed = before.seal(b"a token", b"bound to")
    assert after.open(sealed, b"bound to") == b"a token"
    with pytest.raises(SealBroken):
        before.open(after.seal(b"a token", b"bound to"), b"bound to")


async def test_development_seals_with_its_own_key(load: Load) -> None:
    settings = load()
    sealed = (await build_sealer(settings)).seal(b"a token", b"bound to")
    assert settings.key_file.exists()
    assert (await build_sealer(load())).open(sealed, b"bound to") == b"a token"


async def test_a_new_key_is_one_that_the_setting_accepts(load: Load) -> None:
    keys = [await create_sealing_key(None, None) for _ in range(2)]
    assert len(set(keys)) == 2
    assert all(parse_sealing_key(key) for key in keys)
    assert load(TOKEN_ENCRYPTION_KEYS=",".join(keys)).token_encryption_keys
