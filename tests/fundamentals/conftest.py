"""One backend, as the server has, save where replicas race."""

from tests.conftest import on

anyio_backend = on("asyncio")
