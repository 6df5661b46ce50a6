"""Keys and types of answers: audit, export, timeline, erasure, and the state of a replica."""

import json
import re
from collections.abc import Iterator
from typing import Any

import anyio

from bg_ingest.domain.connections import PollDefaults
from bg_ingest.simulator import SimulatorOptions
from tests.harness.service import PROVIDER, open_service
from tests.snapshots.compare import merged, shape
from tests.snapshots.life import Life


async def after_life(life: Life) -> dict[str, Any]:
    """Return the shapes of the answers about Ada at the end of the scripted life."""
    api = life.home.service.api
    exported = await api.get("/api/users/ada/export")
    assert exported.status_code == 200, exported.text
    kinds: dict[str, list[Any]] = {}
    for line in exported.text.splitlines():
        row = json.loads(line)
        kinds.setdefault(row["kind"], []).append(shape(row))
    audit = await api.get("/api/audit", params={"user": "ada", "from": "2026-03-01", "to": "2026-03-04"})
    assert audit.status_code == 200, audit.text
    timeline = await api.get(f"/api/users/ada/connections/{PROVIDER}/timeline")
    events = timeline.json()
    words = sorted({text for text in _texts(events) if re.fullmatch("[a-z_]+", text)})
    erased = await api.delete("/api/users/ada")
    assert erased.status_code == 200, erased.text
    return {
        "export": {kind: merged(rows) for kind, rows in kinds.items()},
        "audit": shape(audit.json()),
        "audit actions": sorted({row["action"] for row in audit.json()}),
        "timeline": shape(events),
        "timeline words": words,
        "erasure": shape(erased.json()),
    }


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


async def of_replica() -> dict[str, Any]:
    """Return the shapes of ``/api/workers`` and of the health checks of a running replica, with its actors' names."""
    async with open_service(
        over_http=True, simulated=SimulatorOptions(cadence_minutes=15), defaults=PollDefaults(backfill_days=1)
    ) as home:
        starting = (await home.api.get("/health/ready")).json()
        async with home.running():
            await home.connect("ada")
            await anyio.sleep(30)
            workers = (await home.api.get("/api/workers")).json()
            live, ready = (await home.api.get("/health/live")).json(), (await home.api.get("/health/ready")).json()
        return {
            "workers": shape(workers),
            "actors": sorted(actor["name"] for actor in workers["actors"]),
            "starting": {"shape": shape(starting), "reasons": sorted(starting.get("reasons", ()))},
            "live": live,
            "ready": shape(ready),
        }
