import sys

import pytest

from bg_ingest.errors import IngestError
from bg_ingest.wiring import open_tracing


async def test_without_the_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bg_ingest.observability.tracing", None)
    with pytest.raises(IngestError, match="pip install"):
        async with open_tracing("http://localhost:4318/v1/traces"):
            pass
    async with open_tracing(None) as nothing:
        assert not nothing
