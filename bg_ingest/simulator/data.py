"""Data endpoints in the shapes of Dexcom's v3: egvs of a window, and dataRange (times of the oldest and newest)."""

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import msgspec
from litestar import get
from litestar.response.base import ASGIResponse

from bg_ingest.simulator.faults import Damage, Damaged, Duplicated, Endpoint, Fault, Shuffled
from bg_ingest.simulator.grants import Grant
from bg_ingest.simulator.options import hex_of, key_of
from bg_ingest.simulator.readings import TrueReading
from bg_ingest.simulator.replies import (
    Reply,
    ReplyResponse,
    SimulatorDependency,
    SimulatorRequest,
    carry_out,
    fault_body,
)
from bg_ingest.simulator.simulator import Simulator

MAX_WINDOW = timedelta(days=30)
_DAMAGE: dict[Damage, dict[str, object]] = {
    "no_value": {"value": None},
    "unknown_unit": {"unit": "unknown"},
    "garbage_time": {"system_time": "yesterday-ish", "display_time": ""},
    "new_words": {"trend": "sideways", "display_device": "smartwatch", "transmitter_generation": "g9"},
    "no_transmitter": {"transmitter_id": ""},
}


class Record(msgspec.Struct, rename="camel", kw_only=True):
    """One record of the egvs endpoint. Its types are wider than Dexcom's, because faults insert invalid values."""

    record_id: str
    system_time: str
    display_time: str
    transmitter_id: str | None
    transmitter_ticks: int
    value: float | None
    status: str | None
    trend: str
    trend_rate: float | None
    unit: str = "mg/dL"
    rate_unit: str = "mg/dL/min"
    display_device: str
    transmitter_generation: str


class Timestamps(msgspec.Struct, rename="camel"):
    system_time: str
    display_time: str


def user_id(seed: int, client_id: str, user: str) -> str:
    """Return Dexcom's id of a user: 64 hexadecimal digits, different for every client."""
    return hex_of(seed, "user", client_id, user)


def record(seed: int, user: str, reading: TrueReading) -> Record:
    """Return the record of a reading. Its id looks random, is reproducible, and does not depend on the value."""
    timestamps = to_timestamps(reading)
    identity = f"{seed}/{user}/{timestamps.system_time}/{reading.transmitter_id}/{reading.display_device}".encode()
    return Record(
        record_id=str(UUID(bytes=hashlib.blake2b(identity, digest_size=16).digest(), version=4)),
        system_time=timestamps.system_time,
        display_time=timestamps.display_time,
        transmitter_id=reading.transmitter_id,
        transmitter_ticks=reading.transmitter_ticks,
        value=reading.glucose_mg_dl,
        status=reading.flag.value,
        trend=reading.trend,
        trend_rate=reading.trend_rate,
        display_device=reading.display_device,
        transmitter_generation=reading.generation,
    )


def to_timestamps(reading: TrueReading) -> Timestamps:
    """Return system time with Z and display time with UTC offset. A receiver sends neither Z nor offset."""
    zone = timezone(timedelta(seconds=reading.utc_offset_seconds))
    system = reading.measured_at.isoformat(timespec="seconds")
    display = reading.measured_at.astimezone(zone).isoformat(timespec="seconds")
    if reading.display_device == "receiver":
        return Timestamps(system[:19], display[:19])
    return Timestamps(f"{system[:19]}Z", display)


def parse_instant(text: str) -> datetime:
    """Parse a startDate or endDate: `2025-02-06T09:12:35`, read as UTC. Raises ValueError for any other form."""
    if len(text) != 19:
        raise ValueError(text)
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)


def apply_page_faults(records: Sequence[Record], faults: Sequence[Fault], seed: int) -> list[Record]:
    """Return the records of a page with the faults applied. Pure."""
    changed = list(records)
    for fault in faults:
        match fault:
            case Duplicated():
                changed += changed[::3]
            case Shuffled():
                random.Random(seed).shuffle(changed)
            case Damaged(every=every, ways=ways):
                for number, index in enumerate(range(every - 1, len(changed), every)):
                    damage = _DAMAGE[ways[number % len(ways)]]
                    changed[index] = msgspec.structs.replace(changed[index], **damage)
    return changed


@get("/v3/users/self/egvs")
async def readings(request: SimulatorRequest, simulator: SimulatorDependency) -> ASGIResponse:
    dates = [str(request.query_params.get(name, "")) for name in ("startDate", "endDate")]
    return ReplyResponse(await get_egvs(simulator, _authorization(request), *dates))


@get("/v3/users/self/dataRange")
async def extent(request: SimulatorRequest, simulator: SimulatorDependency) -> ASGIResponse:
    return ReplyResponse(await get_data_range(simulator, _authorization(request)))


def _authorization(request: SimulatorRequest) -> str:
    return request.headers.get("authorization", "")


async def get_egvs(simulator: Simulator, authorization: str, *dates: str) -> Reply:
    """Return readings by system time, both ends included, newest first; 400 unless the dates span 0 to 30 days."""

    def work(grant: Grant, call_faults: Sequence[Fault]) -> Reply:
        try:
            start, end = (parse_instant(date) for date in dates)
        except ValueError:
            return Reply(400, fault_body("startDate and endDate must be YYYY-MM-DDThh:mm:ss", "InvalidDate"))
        if not timedelta() <= end - start <= MAX_WINDOW:
            return Reply(400, fault_body("The window must be between 0 and 30 days", "InvalidWindow"))
        seed = simulator.options.seed
        shown = simulator.truth(grant.user, start, end, simulator.now())
        records = [record(seed, grant.user, reading) for reading in reversed(shown)]
        records = apply_page_faults(records, call_faults, key_of(seed, start, end))
        return _reply(simulator, grant, "egv", {"records": records})

    return await _for_bearer(simulator, authorization, "egvs", work)


async def get_data_range(simulator: Simulator, authorization: str) -> Reply:
    """Return the times of the oldest and newest visible reading.

    Only readings are simulated, so `calibrations` and `events` are null.
    `lastSyncTime` is ignored: Dexcom itself advises against it.
    """

    def work(grant: Grant, _: Sequence[Fault]) -> Reply:
        bounds = simulator.extent(grant.user, simulator.now())
        shown = {"start": to_timestamps(bounds[0]), "end": to_timestamps(bounds[1])} if bounds else None
        return _reply(simulator, grant, "dataRange", {"calibrations": None, "egvs": shown, "events": None})

    return await _for_bearer(simulator, authorization, "dataRange", work)


async def _for_bearer(
    simulator: Simulator, authorization: str, endpoint: Endpoint, work: Callable[[Grant, Sequence[Fault]], Reply]
) -> Reply:
    grant = simulator.grants.bearer(authorization.removeprefix("Bearer "))

    def work_if_authorized(call_faults: Sequence[Fault]) -> Reply:
        if grant is None or not authorization.startswith("Bearer ") or grant.number not in simulator.grants.alive:
            challenge = {"www-authenticate": 'Bearer error="invalid_token"'}
            return Reply(401, fault_body("Invalid Access Token", "InvalidAccessToken"), challenge)
        return work(grant, call_faults)

    return await carry_out(simulator, endpoint, grant.user if grant else None, work_if_authorized)


def _reply(simulator: Simulator, grant: Grant, record_type: str, content: Mapping[str, object]) -> Reply:
    dexcom_user_id = user_id(simulator.options.seed, grant.client_id, grant.user)
    common = {"recordType": record_type, "recordVersion": "3.0", "userId": dexcom_user_id}
    return Reply(200, msgspec.json.encode({**common, **content}))
