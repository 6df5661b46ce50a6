"""One backend, as the server has: actors alone are tested on both."""

from tests.conftest import on

anyio_backend = on("asyncio")
