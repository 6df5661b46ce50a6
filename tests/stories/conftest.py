"""asyncio only, as in the server; actors alone are tested on both backends."""

from tests.conftest import on

anyio_backend = on("asyncio")
