"""Distribution of the tests over the worker processes of a run with ``--dist loadscope``.

Tests that share servers or a browser run in one process, which starts them once. A module of unit tests runs in one
process, because the scheduler's work per test grows with the number of units. The other tests are distributed one by
one. The longest units begin first, so that all processes end at about the same time.

The marks ``xdist_group`` have no effect here: pytest-xdist 3.8 does not find them in pytest 9.2.
"""

from collections.abc import Iterator

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

FOLDERS = ("tests/integration/", "tests/browser/", "tests/contracts/")
"""Folders that run in one process each."""

MODULES = ("tests/unit/", "tests/docs/")

ORDER = (*FOLDERS, "tests/snapshots/", "tests/long/", "tests/fuzz/", "tests/properties/", "tests/stories/", "")


def unit_of(node_id: str) -> str:
    """Return the name of the unit of a test: all tests of a unit run in one process."""
    folder = next((name for name in FOLDERS if node_id.startswith(name)), None)
    return folder or (node_id.partition("::")[0] if node_id.startswith(MODULES) else node_id)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    result = yield
    items.sort(key=lambda item: next(place for place, name in enumerate(ORDER) if item.nodeid.startswith(name)))
    return result


class UnitScheduling(LoadScopeScheduling):  # type: ignore[misc]
    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> UnitScheduling | None:
    return UnitScheduling(config, log) if config.getvalue("dist") == "loadscope" else None
