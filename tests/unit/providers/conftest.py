"""Clients of providers do one thing after another: one backend is enough."""

from tests.conftest import on

anyio_backend = on("asyncio")
