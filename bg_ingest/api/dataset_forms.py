"""Forms of a dataset: Parquet, Arrow, NDJSON, CSV, the presets, and the manifest alone."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from functools import lru_cache
from operator import attrgetter
from typing import Any

import msgspec
from litestar.openapi import spec

from bg_ingest.api.formats import ARROW, JSON, NDJSON, PARQUET, ColumnarFormat, Format, cells_format, encode_stream
from bg_ingest.api.openapi import COLUMNAR_FORMS, FULL_READING, with_views
from bg_ingest.api.presets import PresetName, encode_preset
from bg_ingest.api.views import FULL, FULL_NAMES, VERSION_NAMES, VERSIONS, View
from bg_ingest.domain.datasets import Manifest
from bg_ingest.domain.local_time import Zone
from bg_ingest.ports import ColumnarEncoder
from bg_ingest.services.queries.datasets import Dataset, UserRows

JSON_TYPE = JSON.media_type

MANIFEST = {
    "schema": 1,
    "made_by": "bg-ingest 0.1.0",
    "as_of": "2026-02-01T06:00:00Z",
    "from": "2026-01-01T00:00:00Z",
    "to": "2026-02-01T00:00:00Z",
    "versions": "last",
    "devices": "one",
    "rows": 17856,
    "users": [{"user_id": "ada", "rows": 8928, "change": 211}, {"user_id": "ben", "rows": 8928, "change": 190}],
    "digest": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
}


def documented_forms() -> type[spec.Operation]:
    line = msgspec.json.encode({"user_id": "ada"} | FULL_READING).decode() + "\n"
    csv_example = "user_id,timestamp,glucose_mg_dl,…\r\nada,2025-04-26T14:30:00Z,110,…\r\n"
    return with_views({**COLUMNAR_FORMS, NDJSON.media_type: line, "text/csv": csv_example})


def _names(*, all_versions: bool) -> tuple[str, ...]:
    return ("user_id", *(VERSION_NAMES if all_versions else FULL_NAMES))


@lru_cache
def formats(*, all_versions: bool) -> tuple[Format | ColumnarFormat, ...]:
    """Return the formats of a dataset, the default first."""
    return PARQUET, ARROW, NDJSON, cells_format(_names(all_versions=all_versions)), JSON


def encode(
    dataset: Dataset, form: Format | ColumnarFormat, encoder: ColumnarEncoder, preset: PresetName | None, zone: Zone
) -> AsyncGenerator[bytes]:
    """Yield the whole file."""
    if preset:
        return encode_preset(dataset.batches(), preset, zone)
    if isinstance(form, ColumnarFormat):
        return encoder.encode(form.form, dataset.columns, dataset.column_batches(), dataset.metadata)
    if form is JSON:
        return _encode_manifest(dataset)
    to_cells = _cells_of(VERSIONS, VERSION_NAMES) if dataset.request.all_versions else _cells_of(FULL, FULL_NAMES)
    if form is NDJSON:
        return encode_stream(_iter_lines(dataset, to_cells), list, form)
    return encode_stream(dataset.batches(), to_cells, form)


def _cells_of(view: View, names: Sequence[str]) -> Callable[[UserRows], list[tuple[Any, ...]]]:
    """Return a function that maps a batch to rows of cells: the user id, and the public fields of a reading."""
    cells = attrgetter(*names)
    return lambda batch: [(batch.user, *cells(row)) for row in view.present(batch.rows)]


async def _iter_lines(
    dataset: Dataset, to_cells: Callable[[UserRows], list[tuple[Any, ...]]]
) -> AsyncGenerator[Sequence[Any]]:
    names = _names(all_versions=dataset.request.all_versions)
    async with aclosing(dataset.batches()) as batches:
        async for batch in batches:
            yield [dict(zip(names, cells, strict=True)) for cells in to_cells(batch)]
    yield [{"kind": "end"} | _to_builtins(dataset.manifest)]


async def _encode_manifest(dataset: Dataset) -> AsyncGenerator[bytes]:
    """Yield the fields of the manifest that are known before the first row, and the others after the last row.

    The answer starts before the reads, because a disconnect of the client ends the reads only in a started answer.
    """
    known = {name: value for name, value in _to_builtins(dataset.manifest).items() if name != "users"}
    yield msgspec.json.encode(known)[:-1] + b","
    yield b""  # `StreamBody` starts an answer at its second piece
    async with aclosing(dataset.batches()) as batches:
        async for _ in batches:
            pass
    rest = {name: value for name, value in _to_builtins(dataset.manifest).items() if name not in known}
    yield msgspec.json.encode(rest)[1:]


def _to_builtins(manifest: Manifest) -> dict[str, Any]:
    built: dict[str, Any] = msgspec.to_builtins(manifest)
    return built
