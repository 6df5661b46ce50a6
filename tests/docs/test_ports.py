"""List of the protocols in ``bg_ingest/ports`` with the reason for each, and a check that the reason holds."""

from enum import Enum
from typing import NamedTuple

import pytest

from tests.docs.classes import PORTS, classes, implementations, protocols
from tests.docs.source import ROOT, Module, imported_packages, read_modules, within

PRODUCT, TESTS = read_modules(ROOT), read_modules(ROOT, ["tests"])


class Reason(Enum):
    """Reasons for which a port is a protocol."""

    TWO = "two implementations"
    FAKE = "one implementation and a fake in the tests"
    LIBRARY = "keeps a library out of the services"


class Port(NamedTuple):
    """Row of the list of ports; ``library`` is the package that the port keeps outside."""

    name: str
    reason: Reason
    library: str = ""


PORT_LIST = [
    Port("Table", Reason.TWO),
    Port("Publisher", Reason.TWO),
    Port("Wakeups", Reason.TWO),
    Port("ChangeHints", Reason.TWO),
    Port("Clock", Reason.FAKE),
    Port("Provider", Reason.FAKE),
    Port("PushProvider", Reason.FAKE),
    Port("CallBudget", Reason.FAKE),
    Port("ProcessHealth", Reason.FAKE),
    Port("Sealer", Reason.LIBRARY, "cryptography"),
    Port("TokenVerifier", Reason.LIBRARY, "joserfc"),
    Port("ColumnarEncoder", Reason.LIBRARY, "arro3"),
    Port("Broker", Reason.LIBRARY, "aiormq"),
]
"""All protocols in ``bg_ingest/ports`` (design.md, section 1).

``Observer`` is no protocol: it is a base class of empty methods with several implementations.
"""

CORE = tuple(f"bg_ingest/{layer}/" for layer in ("domain", "ports", "store", "services"))


def test_every_port_is_listed_with_its_reason() -> None:
    assert sorted(port.name for port in protocols(within(PRODUCT, PORTS))) == sorted(port.name for port in PORT_LIST)


@pytest.mark.slow
@pytest.mark.parametrize("port", PORT_LIST, ids=lambda port: port.name)
def test_the_reason_of_a_port_holds(port: Port) -> None:
    assert port.name in {protocol.name for protocol in protocols(within(PRODUCT, PORTS))}
    assert not missing_reason(port, PRODUCT, TESTS)


def missing_reason(port: Port, product: list[Module], tests: list[Module]) -> str:
    """Return the reason that does not hold, or an empty text."""
    protocol = next(candidate for candidate in protocols(product) if candidate.name == port.name)
    count = len(implementations(protocol, classes(product)))
    if port.reason is Reason.TWO:
        return "" if count >= 2 else f"{count} implementations"
    if port.reason is Reason.FAKE:
        return "" if count and implementations(protocol, classes(tests)) else "no fake"
    users = [module.path for module in product if port.library in imported_packages(module)]
    inside = [path for path in users if path.startswith(CORE)]
    return "" if users and not inside else f"{port.library} is imported by {inside or 'no module'}"


PORT = "class P(Protocol):\n    def run(self): ...\n"


def test_a_port_without_its_reason_is_found() -> None:
    port = Module(f"{PORTS}p.py", PORT)
    one = Module("bg_ingest/adapters/a.py", "class A:\n    def run(self): ...")
    wrapper = Module("workers/b.py", "class B:\n    def __init__(self, inner: P): ...\n    def run(self): ...")
    subclass = Module("workers/c.py", "class C(A): ...")
    assert missing_reason(Port("P", Reason.TWO), [port, one, wrapper, subclass], []) == "1 implementations"
    assert missing_reason(Port("P", Reason.FAKE), [port, one], []) == "no fake"
    assert not missing_reason(Port("P", Reason.FAKE), [port, one], [one])
    inside, outside = Module("bg_ingest/services/s.py", "import lib"), Module("bg_ingest/adapters/s.py", "import lib.x")
    assert missing_reason(Port("P", Reason.LIBRARY, "lib"), [port, inside, outside], [])
    assert not missing_reason(Port("P", Reason.LIBRARY, "lib"), [port, outside], [])
