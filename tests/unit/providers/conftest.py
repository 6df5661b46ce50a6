"""One backend, because clients of providers have no racing tasks."""

from tests.conftest import on

anyio_backend = on("asyncio")
