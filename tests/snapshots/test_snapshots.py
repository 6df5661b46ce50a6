"""Public and stored forms of the service, compared with the files in ``data/``.

Nothing that is stored or seen from outside changes unnoticed. ``UPDATE_SNAPSHOTS=1`` rewrites the files.
"""

from pathlib import Path

import pytest

from tests.conftest import on
from tests.snapshots import answers, command_line, interface, key_strings, observed, packed, published
from tests.snapshots.compare import assert_snapshot
from tests.snapshots.life import lived
from tests.snapshots.setting_table import SettingsTable
from tests.snapshots.stored_values import Rendering

anyio_backend = on("asyncio")


def test_keys_are_as_stored() -> None:
    assert_snapshot(
        "01_keys",
        {
            "keys": key_strings.produced_keys(),
            "ranges": key_strings.ranges(),
            "parsed": key_strings.parsed(),
            "shards": key_strings.shards(),
        },
    )


async def test_items_of_a_scripted_life_are_as_stored() -> None:
    async with lived() as life:
        rendering = Rendering(life.known)
        stages = {
            name: {"written": rendering.items(stage.written), "deleted": rendering.items(stage.deleted)}
            for name, stage in life.stages.items()
        }
        assert_snapshot("02_items", stages)


def test_packed_and_sealed_bytes_are_as_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    segments = packed.segments()
    assert_snapshot("03_packed", {"segments": segments, "sealed": packed.sealed(monkeypatch)})


def test_settings_accept_and_refuse_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = SettingsTable(monkeypatch, tmp_path)
    assert_snapshot("04_settings", {"settings": table.rows(), "situations": table.situations()})


async def test_the_api_has_the_same_routes_parameters_and_answers() -> None:
    assert_snapshot("05_openapi", {"openapi": await interface.openapi(), "statuses": await interface.routes()})


def test_problem_types_are_the_same() -> None:
    assert_snapshot("06_problems", interface.problem_types())


def test_events_are_published_byte_by_byte_as_before() -> None:
    assert_snapshot("07_events", {"published": published.events(), "asyncapi": published.asyncapi()})


async def test_metrics_and_log_lines_have_the_same_names() -> None:
    async with lived() as life:
        assert_snapshot(
            "08_observability",
            {
                "metrics": observed.metrics(life.home.service.metrics.registry),
                "metrics of a running replica": await observed.of_running_replica(),
                "error outcomes": observed.error_outcomes(),
                "log lines": observed.log_lines(),
            },
        )


def test_commands_take_the_same_options_and_exit_alike(tmp_path: Path) -> None:
    assert_snapshot(
        "09_commands", {"commands": command_line.commands(), "exit codes": command_line.exit_codes(tmp_path)}
    )


async def test_answers_have_the_same_fields() -> None:
    async with lived() as life:
        of_ada = await answers.after_life(life)
    assert_snapshot("10_answers", of_ada | await answers.of_replica())
