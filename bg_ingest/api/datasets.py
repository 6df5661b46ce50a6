"""Datasets: the readings of many users in one file, as of a whole second at least a minute ago."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from litestar import Request, Response, Router, post
from litestar.params import Body
from msgspec import Meta

from bg_ingest.api import dataset_forms, query, statistics_query
from bg_ingest.api.auth import caller_of
from bg_ingest.api.dependencies import RouteOptions, Use
from bg_ingest.api.formats import choose_format
from bg_ingest.api.headers import attachment
from bg_ingest.api.openapi import responses
from bg_ingest.api.presets import PRESET_FORMATS, PresetName
from bg_ingest.api.problems import build_problem
from bg_ingest.api.streaming import StreamedResponse
from bg_ingest.api.users import mark_users
from bg_ingest.api.validation import check_user
from bg_ingest.domain.access import AuditAction, Scope
from bg_ingest.domain.datasets import DatasetRequest, ceil_to_second, newest_final_second
from bg_ingest.domain.ids import UserId
from bg_ingest.domain.local_time import Zone
from bg_ingest.ports import ColumnarEncoder
from bg_ingest.services.queries.datasets import DatasetQueries
from bg_ingest.services.queries.readings import ReadingQueries

AnyRequest: TypeAlias = Request[Any, Any, Any]

MAX_USERS = 1_000
MAX_DATASETS = 2
"""Datasets that a replica writes at once: each may read years of many users."""


class DatasetSlots:
    """The datasets in progress."""

    def __init__(self) -> None:
        self._used = 0

    @contextmanager
    def take(self) -> Iterator[None]:
        """Count a dataset as in progress; 503 if too many are."""
        if self._used >= MAX_DATASETS:
            detail = f"At most {MAX_DATASETS} datasets are written at once: try again in a minute."
            raise build_problem(503, "too-busy", detail, {"Retry-After": "60"})
        self._used += 1
        try:
            yield
        finally:
            self._used -= 1


class DatasetBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """Users and window of a dataset. By default `as_of` is a minute ago in whole seconds, and `to` is `as_of`."""

    users: Annotated[list[str], Meta(min_length=1, max_length=MAX_USERS)]
    from_: str
    to: str | None = None
    as_of: str | None = None
    versions: Literal["last", "all"] | None = None
    devices: Literal["one", "all"] | None = None
    preset: PresetName | None = None
    zone: str | None = None


@post(
    "/dataset",
    operation_id="dataset",
    summary="Readings of many users in one file",
    status_code=200,
    operation_class=dataset_forms.documented_forms(),
    responses=responses(
        "The rows, ordered by user id. As JSON the manifest alone.",
        dict[str, Any],
        dataset_forms.MANIFEST,
        problems=(400, 401, 404, 406, 408, 413, 415, 503),
    ),
)
async def dataset(
    request: AnyRequest,
    datasets: Use[DatasetQueries],
    reader: Use[ReadingQueries],
    columnar: Use[ColumnarEncoder],
    dataset_slots: Use[DatasetSlots],
    data: Annotated[DatasetBody, Body()],
) -> Response[Any]:
    """As of a whole second at least a minute ago. The same `as_of` gives the same rows. Parquet by default."""
    forms = (
        (PRESET_FORMATS[data.preset],) if data.preset else dataset_forms.formats(all_versions=data.versions == "all")
    )
    form = choose_format(request, forms)
    zone = statistics_query.parse_zone(data.zone)
    parsed = _parse(data, reader, zone)
    await _check_users(request, datasets, parsed.users)
    answer = dataset_forms.encode(datasets.open(parsed), form, columnar, data.preset, zone)
    extra = {} if form.media_type == dataset_forms.JSON_TYPE else attachment("dataset", parsed.window, form.media_type)
    headers = {"Cache-Control": "no-store", "Vary": "Accept", **extra}
    return StreamedResponse(_in_slot(dataset_slots, answer), media_type=form.media_type, headers=headers)


async def _in_slot(slots: DatasetSlots, answer: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    with slots.take():
        async with aclosing(answer):
            async for chunk in answer:
                yield chunk


def _parse(data: DatasetBody, reader: ReadingQueries, zone: Zone) -> DatasetRequest:
    for user in data.users:
        check_user(user)
    if len(set(data.users)) < len(data.users):
        raise build_problem(400, "invalid-body", "'users' has an id more than once: send each once.")
    all_versions = query.has_all_versions(data.versions, None, data.devices)
    if all_versions and data.preset:
        detail = "A preset has one value of each reading: leave 'versions' out."
        raise build_problem(400, "invalid-versions", detail)
    start = statistics_query.parse_bound("from", data.from_, zone)
    if start is None:
        raise build_problem(400, "invalid-time", "'from' is empty: send the start of the window, such as 2026-01-01.")
    now = reader.now()
    _, as_of = query.parse_as_of(data.as_of or f"{newest_final_second(now):%Y-%m-%dT%H:%M:%SZ}", None, now)
    as_of = as_of.replace(microsecond=0)
    end = statistics_query.parse_bound("to", data.to, zone)
    window = query.requested_window(ceil_to_second(start), ceil_to_second(end) if end else as_of, as_of)
    return DatasetRequest(
        tuple(UserId(user) for user in sorted(data.users)),
        window,
        as_of,
        all_versions,
        all_versions or data.devices == "all",
    )


async def _check_users(request: AnyRequest, datasets: DatasetQueries, users: Sequence[UserId]) -> None:
    """Refuse the request with the same problem for unknown users and for users that the credential may not access."""
    caller = caller_of(request.scope)
    forbidden = {user for user in users if caller is None or not caller.may_access(user)}
    unknown = await datasets.find_unknown([user for user in users if user not in forbidden])
    if forbidden or unknown:
        mark_users(request.scope, forbidden)
        request.scope["state"]["refused"] = bool(forbidden)
        missing = tuple(user for user in users if user in forbidden or user in unknown)
        detail = "Some users are unknown: leave out those that this problem lists in 'users', or connect them first."
        raise build_problem(404, "unknown-users", detail, users=missing)
    mark_users(request.scope, users)


router = Router(
    "/api",
    route_handlers=[dataset],
    tags=["many users"],
    opt=RouteOptions(scope=Scope.READINGS_READ, many_users=True, audited_as=AuditAction.READ).opt(),
)
