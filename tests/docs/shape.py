"""Table of the product's shape, measured in its syntax trees: ``python -m tests.docs.shape [--check]``."""

import ast
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.docs.classes import last_name, lone_protocols, outside_assignments, protocols, repeated_class_names
from tests.docs.source import (
    ROOT,
    WORD_GROUPS,
    WORD_LIMITS,
    Module,
    question_openings,
    read_modules,
    within,
    word_rates,
)

SERVICES = "bg_ingest/services/"
CONTRACTED = ("bg_ingest/ports/", "bg_ingest/store/")
MAX_FILE_LINES = 250
SMALL_FILE_LINES = 35
TRY_WORDS = frozenset({"attempts", "conflicts", "meetings", "passes", "retries", "rounds", "tries"})


@dataclass(frozen=True)
class Measure:
    """One row of the table; ``limit`` is the highest value allowed, or the lowest with ``at_least``."""

    name: str
    now: float
    limit: float
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        return self.now >= self.limit if self.at_least else self.now <= self.limit


def retry_loops(modules: Iterable[Module]) -> list[str]:
    """Return the locations of loops over ``range`` of a constant that bounds attempts, such as ``MAX_TRIES``."""
    locations = []
    for module in modules:
        for node in ast.walk(module.tree):
            match node:
                case ast.For(iter=ast.Call(func=ast.Name(id="range"), args=[bound])) if _bounds_attempts(bound):
                    locations.append(f"{module.path}:{node.lineno}")
    return locations


def _bounds_attempts(bound: ast.expr) -> bool:
    name = last_name(bound)
    return name.isupper() and bool(TRY_WORDS & set(name.lower().split("_")))


def small_files(modules: Iterable[Module]) -> list[str]:
    """Return the paths of short files; an empty one marks a package and does not count."""
    return [module.path for module in modules if 0 < module.line_count <= SMALL_FILE_LINES]


def large_files(modules: Iterable[Module]) -> list[str]:
    return [module.path for module in modules if module.line_count > MAX_FILE_LINES]


def imports(modules: Sequence[Module]) -> dict[str, set[str]]:
    """Return the product modules that each module imports, at the top of its code or inside a function."""
    known = {module.name for module in modules}
    graph: dict[str, set[str]] = {}
    for module in modules:
        targets = {target for node in ast.walk(module.tree) for target in _targets(node, known)}
        graph[module.name] = targets & known - {module.name}
    return graph


def _targets(node: ast.AST, known: Collection[str]) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=str() as origin, names=names):
            for alias in names:
                full = f"{origin}.{alias.name}"
                yield full if full in known else origin


def import_cycles(graph: Mapping[str, Collection[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one module (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    cycles: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in graph[name]:
            if target not in index:
                visit(target)
            if target in stack:
                low[name] = min(low[name], low[target])
        if low[name] == index[name]:
            start = stack.index(name)
            component = stack[start:]
            del stack[start:]
            if len(component) > 1:
                cycles.append(sorted(component))

    for name in graph:
        if name not in index:
            visit(name)
    return cycles


def find_mirrors(modules: Iterable[Module], root: Path) -> tuple[list[str], list[str]]:
    """Return the modules with and without a test file of their name; files that make packages are left out.

    The test of ``bg_ingest/domain/gaps.py`` is ``tests/unit/domain/test_gaps.py``; of ``workers/relay.py``,
    ``tests/unit/workers/test_relay.py``. The contract suite tests ports and kinds of stored items by the same names:
    ``tests/contracts/test_gaps.py`` for ``bg_ingest/store/gaps.py``. The folder ``tests`` serves as long as
    ``tests/unit`` is missing.
    """
    unit = root / "tests/unit"
    folder = unit if unit.exists() else root / "tests"
    tested: list[str] = []
    untested: list[str] = []
    for module in modules:
        path = Path(module.path)
        if path.name == "__init__.py":
            continue
        test = path.with_name(f"test_{path.name}")
        inner = Path(*test.parts[1:]) if test.parts[0] == "bg_ingest" else test
        candidates = [folder / test, folder / inner]
        if module.path.startswith(CONTRACTED):
            candidates.append(root / "tests/contracts" / test.name)
        exists = any(candidate.exists() for candidate in candidates)
        (tested if exists else untested).append(module.path)
    return tested, untested


def measure(root: Path = ROOT) -> list[Measure]:
    """Return all rows of the table for a checkout."""
    product, tests = read_modules(root), read_modules(root, ["tests"])
    tested, untested = find_mirrors(product, root)
    return [
        *_size_measures(product),
        *_language_measures(product),
        *_structure_measures(product, tests),
        Measure("% of modules with a test file of their name", _percent(tested, untested), 90, at_least=True),
        Measure("README lines", len((root / "README.md").read_text().splitlines()), 150),
    ]


def _size_measures(product: Sequence[Module]) -> list[Measure]:
    return [
        Measure("product files", len(product), 210),
        Measure("product lines", sum(module.line_count for module in product), 22_500),
        Measure(f"product files of at most {SMALL_FILE_LINES} lines", len(small_files(product)), 20),
        Measure(f"product files over {MAX_FILE_LINES} lines", len(large_files(product)), 0),
    ]


def _language_measures(product: Sequence[Module]) -> list[Measure]:
    kinds = {"modules": ["module"], "classes, functions": ["class", "function"], "attributes": ["attribute"]}
    rates = {folder: word_rates(within(product, f"{folder}/")) for folder in ("bg_ingest", "workers")}
    return [
        *(
            Measure(f"question-word docstrings: {name}", len(question_openings(product, members)), 0)
            for name, members in kinds.items()
        ),
        *(
            Measure(f"'{group}' per 1,000 words: {folder}", round(rates[folder][group], 1), WORD_LIMITS[group])
            for group in WORD_GROUPS
            for folder in rates
        ),
    ]


def _structure_measures(product: Sequence[Module], tests: Sequence[Module]) -> list[Measure]:
    return [
        Measure("protocols", len(protocols(product)), 22),
        Measure("ports with one implementation and no fake", len(lone_protocols(product, tests)), 3),
        Measure("class names defined twice, simulator aside", len(repeated_class_names(product)), 0),
        Measure("attributes assigned from outside", len(outside_assignments(product)), 0),
        Measure("loops over range(TRIES) in services", len(retry_loops(within(product, SERVICES))), 1),
        Measure("import cycles", len(import_cycles(imports(product))), 0),
    ]


def _percent(tested: Sequence[str], untested: Sequence[str]) -> float:
    return round(100 * len(tested) / ((len(tested) + len(untested)) or 1), 1)


def table(measures: Iterable[Measure]) -> str:
    rows = [
        (row.name, f"{row.now:,}", f"{'>=' if row.at_least else '<='} {row.limit:,}", "" if row.is_met else "missed")
        for row in measures
    ]
    heading = ("measure", "now", "limit", "")
    width = max(len(row[0]) for row in (heading, *rows))
    return "\n".join(f"{a:{width}}  {b:>8}  {c:>9}  {d}".rstrip() for a, b, c, d in (heading, *rows))


def main(arguments: Sequence[str]) -> int:
    """Print the table; with ``--check``, return 1 while a limit is missed."""
    measures = measure()
    sys.stdout.write(f"{table(measures)}\n")
    return int("--check" in arguments and not all(row.is_met for row in measures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
