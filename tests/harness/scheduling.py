"""Distribution of the tests over the worker processes of a run.

A group (``xdist_group``) runs in one process. A module of unit tests too: the scheduler's work per test grows with the
number of units. Other tests, among them the long ones, are distributed one by one.
"""

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadGroupScheduling

MODULES = ("tests/unit/", "tests/docs/")


class ModuleScheduling(LoadGroupScheduling):  # type: ignore[misc]
    def _split_scope(self, nodeid: str) -> str:
        scope = super()._split_scope(nodeid)
        is_grouped = scope != nodeid
        return scope if is_grouped or not nodeid.startswith(MODULES) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ModuleScheduling | None:
    return ModuleScheduling(config, log) if config.getvalue("dist") == "loadgroup" else None
