"""Where readings come from: one folder per provider, one line per provider here."""

from collections.abc import Callable, Mapping
from typing import Any

import httpx

from bg_ingest.ports import Clock, Provider
from bg_ingest.providers.dexcom.client import Dexcom

REGISTRY: Mapping[str, Callable[[Any, httpx.AsyncClient, Clock], Provider]] = {
    Dexcom.name: Dexcom,
}
"""What builds a provider from its own options, a client of ``http_client()`` and a clock."""
