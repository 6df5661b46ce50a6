"""Data endpoints: egvs by window, and their extent."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec
from litestar import get
from litestar.response.base import ASGIResponse

from bg_ingest.simulator.chance import key_of
from bg_ingest.simulator.faults import Endpoint, Fault, apply_page_faults
from bg_ingest.simulator.grants import Grant
from bg_ingest.simulator.replies import Reply, SimulatorDependency, SimulatorRequest, carry_out, fault_body
from bg_ingest.simulator.simulator import Simulator
from bg_ingest.simulator.wire import Extent, Extents, Page, parse_instant, record, to_timestamps, user_id

MAX_WINDOW = timedelta(days=30)


@get("/v3/users/self/egvs")
async def readings(request: SimulatorRequest, simulator: SimulatorDependency) -> ASGIResponse:
    """Return readings by system time, both ends included, newest first; 400 unless the dates span 0 to 30 days."""
    dates = [str(request.query_params.get(name, "")) for name in ("startDate", "endDate")]

    def work(grant: Grant, call_faults: Sequence[Fault]) -> Reply:
        try:
            start, end = (parse_instant(date) for date in dates)
        except ValueError:
            return Reply(400, fault_body("startDate and endDate must be YYYY-MM-DDThh:mm:ss", "InvalidDate"))
        if not timedelta() <= end - start <= MAX_WINDOW:
            return Reply(400, fault_body("The window must be between 0 and 30 days", "InvalidWindow"))
        return Reply(200, _page(simulator, grant, start, end, call_faults))

    return await _for_bearer(request, simulator, "egvs", work)


@get("/v3/users/self/dataRange")
async def extent(request: SimulatorRequest, simulator: SimulatorDependency) -> ASGIResponse:
    """Return the oldest and newest visible reading. `lastSyncTime` is ignored: Dexcom itself advises against it."""

    def work(grant: Grant, _: Sequence[Fault]) -> Reply:
        ends = simulator.extent(grant.user, simulator.now())
        shown = Extent(to_timestamps(ends[0]), to_timestamps(ends[1])) if ends else None
        return Reply(200, msgspec.json.encode(Extents(user_id=_user_id(simulator, grant), readings=shown)))

    return await _for_bearer(request, simulator, "dataRange", work)


async def _for_bearer(
    request: SimulatorRequest,
    simulator: Simulator,
    endpoint: Endpoint,
    work: Callable[[Grant, Sequence[Fault]], Reply],
) -> ASGIResponse:
    text = request.headers.get("authorization", "")
    grant = simulator.grants.bearer(text.removeprefix("Bearer "))

    def work_if_authorized(call_faults: Sequence[Fault]) -> Reply:
        if grant is None or not text.startswith("Bearer ") or grant.number not in simulator.grants.alive:
            challenge = {"www-authenticate": 'Bearer error="invalid_token"'}
            return Reply(401, fault_body("Invalid Access Token", "InvalidAccessToken"), challenge)
        return work(grant, call_faults)

    return await carry_out(simulator, endpoint, grant.user if grant else None, work_if_authorized)


def _page(simulator: Simulator, grant: Grant, start: datetime, end: datetime, call_faults: Sequence[Fault]) -> bytes:
    seed = simulator.options.seed
    shown = simulator.truth(grant.user, start, end, simulator.now())
    records = [record(seed, grant.user, reading) for reading in reversed(shown)]
    records = apply_page_faults(records, call_faults, key_of(seed, start, end))
    return msgspec.json.encode(Page(user_id=_user_id(simulator, grant), records=records))


def _user_id(simulator: Simulator, grant: Grant) -> str:
    return user_id(simulator.options.seed, grant.client_id, grant.user)
