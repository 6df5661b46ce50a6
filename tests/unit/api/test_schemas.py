"""Answers about a user with readings match GET /schema; refusals are tested by schemathesis."""

import re
from datetime import timedelta
from typing import Any

import anyio
import jsonschema  # type: ignore[import-untyped]  # ships no types
import pytest

from bg_ingest.domain.connections import PollDefaults
from bg_ingest.simulator.faults import Late
from tests.harness.service import PROVIDER, START, ServiceHarness, open_service

HOUR = timedelta(hours=1)
CONNECTION = f"/api/users/ada/connections/{PROVIDER}"
SPAN = {"from": (START - timedelta(days=1)).isoformat(), "to": START.isoformat()}

REQUESTS = [
    ("GET", "/api/bg/ada/latest", {}),
    ("GET", "/api/bg/ada", SPAN),
    ("GET", "/api/bg/ada", SPAN | {"view": "full"}),
    ("GET", "/api/bg/ada/gaps", SPAN),
    ("GET", "/api/bg/ada/completeness", SPAN),
    ("GET", "/api/users/ada/connections", {}),
    ("GET", CONNECTION, {}),
    ("GET", f"{CONNECTION}/timeline", {}),
    ("POST", f"{CONNECTION}/verify", SPAN),
    ("POST", f"{CONNECTION}/poll", {}),
    ("GET", "/api/users/ada/export", {}),
    ("GET", "/api/audit", {"user": "ada"}),
    ("GET", "/api/workers", {}),
    ("GET", "/health/ready", {}),
    ("GET", "/health/live", {}),
    ("DELETE", CONNECTION, {}),
    ("DELETE", "/api/users/ada", {}),
]


@pytest.mark.slow
async def test_every_good_answer_fits_its_schema() -> None:
    async with open_service(defaults=PollDefaults(backfill_days=2)) as service:
        service.simulator.add_fault(Late(start=START - 9 * HOUR, end=START - 6 * HOUR, shown_at=START + 90 * 24 * HOUR))
        await service.connect("ada")
        async with service.running():
            await anyio.sleep(7200)
            schema = (await service.api.get("/schema")).json()
            for method, path, parameters in REQUESTS:
                await assert_fits(service, schema, method, path, parameters)


async def assert_fits(
    service: ServiceHarness, schema: dict[str, Any], method: str, path: str, parameters: dict[str, str]
) -> None:
    given = {"json": parameters} if method == "POST" and parameters else {"params": parameters}
    answer = await service.api.request(method, path, **given)  # type: ignore[arg-type]  # one or the other
    assert answer.is_success, (path, answer.text)
    described = schema["paths"][template_of(schema, path)][method.lower()]["responses"][str(answer.status_code)]
    assert bool(answer.content) == ("content" in described), (path, "a body if and only if one is described")
    if answer.content:
        media_type = answer.headers["content-type"].partition(";")[0]
        form = described["content"][media_type]["schema"]
        whole = jsonschema.Draft202012Validator({**form, "components": schema["components"]})
        whole.validate(answer.text if media_type == "application/x-ndjson" else answer.json())


def template_of(schema: dict[str, Any], path: str) -> str:
    known: list[str] = list(schema["paths"])
    return next(
        each for each in [path, *known] if each in known and re.fullmatch(re.sub(r"{\w+}", "[^/]+", each), path)
    )
