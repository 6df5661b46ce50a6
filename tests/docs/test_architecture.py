"""Shape of the code base: allowed imports, and the place of each kind of code."""

import ast
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MODULES = [
    ROOT / "app.py",
    *(path for folder in ("bg_ingest", "workers") for path in sorted((ROOT / folder).rglob("*.py"))),
]

DOMAIN = "bg_ingest.domain"
ERRORS = "bg_ingest.errors"
PORTS = "bg_ingest.ports"
STORE = "bg_ingest.store"
SERVICES = "bg_ingest.services"
PROVIDERS = "bg_ingest.providers"
ADAPTERS = "bg_ingest.adapters"
API = "bg_ingest.api"
SIMULATOR = "bg_ingest.simulator"
SETTINGS = "bg_ingest.settings"
SETTING_TYPES = "bg_ingest.setting_types"
OBSERVABILITY = "bg_ingest.observability"
WIRING = "bg_ingest.wiring"
ADDRESSES = "bg_ingest.addresses"
SERVER = "bg_ingest.server"
REQUEST_HEADS = "bg_ingest.request_heads"
DEMO = "bg_ingest.demo"
COMMANDS = "bg_ingest.commands"
DOCTOR = "bg_ingest.doctor"
WORKERS = "workers"

CLOCK = "bg_ingest.adapters.clock"
AWS_SESSION = "bg_ingest.adapters.aws.session"

PROVIDER_SETTINGS = {f"{PROVIDERS}.PROVIDER_SETTINGS", f"{PROVIDERS}.settings"}
"""All that the settings import of the providers: the parts of ``Settings`` that each declares in its folder."""

INSIDE = {DOMAIN, ERRORS, PORTS, STORE, SERVICES}

MAY_IMPORT = {
    DOMAIN: set[str](),
    ERRORS: set[str](),
    PORTS: {DOMAIN, ERRORS},
    STORE: {DOMAIN, ERRORS, PORTS},
    SERVICES: {DOMAIN, ERRORS, PORTS, STORE},
    PROVIDERS: {DOMAIN, ERRORS, PORTS, SETTING_TYPES, ADDRESSES},
    ADAPTERS: {DOMAIN, ERRORS, PORTS},
    API: INSIDE,
    WORKERS: INSIDE,
    OBSERVABILITY: INSIDE | {ADDRESSES},
    SIMULATOR: {DOMAIN},
    SETTING_TYPES: set[str](),
    ADDRESSES: set[str](),
    REQUEST_HEADS: set[str](),
    # SECRET_NAME is read while settings load: the process has one session.
    SETTINGS: {ADDRESSES, SETTING_TYPES, AWS_SESSION, *PROVIDER_SETTINGS},
    # The packages that assemble the process.
    DOCTOR: {DOMAIN, ERRORS, PORTS, STORE, ADAPTERS, PROVIDERS, SETTINGS, SETTING_TYPES, WIRING},
    WIRING: INSIDE | {PROVIDERS, ADAPTERS, SIMULATOR, SETTINGS, SETTING_TYPES, OBSERVABILITY},
    SERVER: {WORKERS, ADDRESSES, REQUEST_HEADS},
    DEMO: {ADDRESSES},
    COMMANDS: INSIDE
    | {ADDRESSES, REQUEST_HEADS, SETTINGS, OBSERVABILITY, WIRING, SERVER, DEMO, SIMULATOR, DOCTOR, CLOCK},
    "bg_ingest.cli": {COMMANDS, OBSERVABILITY},
    "app": {API, ERRORS, SETTINGS, OBSERVABILITY, WIRING, WORKERS, CLOCK},
}
"""Allowed imports of each package, besides its own modules. A module outside these packages needs an entry here."""

PURE = {"msgspec"}
INNER = PURE | {"anyio", "structlog"}
LIBRARIES = {DOMAIN: PURE, ERRORS: PURE, PORTS: PURE | {"anyio"}, STORE: INNER, SERVICES: INNER, WORKERS: INNER}
"""Third-party packages that the inside may use: no web framework, HTTP client or database is allowed."""

OUTSIDE = {"asyncio", "http", "os", "random", "socket", "sqlite3", "ssl", "subprocess", "threading", "time", "urllib"}
"""Parts of the standard library for time, chance or the network; the domain does not import them."""

MAX_LINES = 250
"""Maximum lines of a file, against thousand-line workers. A file close to the limit is split."""

NAMES_A_PROVIDER = {
    *("providers/__init__.py", "wiring/providers.py"),
    *("cli.py", "demo.py", "commands/serve.py"),
}
"""The registry, the wiring and help texts; besides each provider's own folder and simulator."""


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(name: str) -> str | None:
    return max((layer for layer in MAY_IMPORT if f"{name}.".startswith(f"{layer}.")), key=len, default=None)


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_ours(name: str) -> bool:
    """Every package may import the version."""
    return name.partition(".")[0] in {"app", "bg_ingest", "workers"} and name != "bg_ingest.__version__"


def of_each(paths: Iterable[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """Return a decorator that makes one test of a rule for many modules; a failure lists all modules that break it."""

    def made(rule: Callable[[Path], None]) -> Callable[[], None]:
        def test() -> None:
            broken: dict[str, str] = {}
            for path in paths:
                try:
                    rule(path)
                except AssertionError as error:
                    broken[dotted(path)] = str(error)
            assert not broken

        return test

    return made


@of_each(MODULES)
def test_every_module_belongs_to_a_layer(path: Path) -> None:
    assert layer_of(dotted(path)) or dotted(path) == "bg_ingest"


@of_each(MODULES)
def test_imports_point_inwards(path: Path) -> None:
    layer = layer_of(dotted(path))
    allowed = MAY_IMPORT[layer] if layer else set()
    for name in filter(is_ours, imported_modules(path)):
        fits = layer_of(name) in allowed | {layer} or any(f"{name}.".startswith(f"{each}.") for each in allowed)
        assert fits, f"{dotted(path)} may not import {name}"


@of_each(MODULES)
def test_a_provider_imports_no_other(path: Path) -> None:
    own = provider_of(dotted(path))
    if own is not None:
        assert {provider_of(name) for name in imported_modules(path)} <= {own, None}


@of_each([path for path in MODULES if path.is_relative_to(ROOT / "bg_ingest/providers")])
def test_only_the_settings_of_a_provider_know_setting_types(path: Path) -> None:
    if path.name != "settings.py":
        assert not [name for name in imported_modules(path) if name.startswith(SETTING_TYPES)]


def provider_of(name: str) -> str | None:
    """Return the provider whose folder a module is in; providers share ``providers/http.py``."""
    parts = name.split(".")
    in_folder = len(parts) > 2 and name.startswith(f"{PROVIDERS}.") and (ROOT / Path(*parts[:3])).is_dir()
    return parts[2] if in_folder else None


@of_each(MODULES)
def test_the_inside_uses_no_library_of_the_outside(path: Path) -> None:
    allowed = LIBRARIES.get(layer_of(dotted(path)) or "")
    if allowed is not None:
        used = {name.partition(".")[0] for name in imported_modules(path) if not is_ours(name)}
        assert used - set(sys.stdlib_module_names) <= allowed


@of_each([path for path in MODULES if layer_of(dotted(path)) == DOMAIN])
def test_the_domain_uses_neither_time_nor_network_and_never_awaits(path: Path) -> None:
    assert not OUTSIDE & {name.partition(".")[0] for name in imported_modules(path)}
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    assert not [node.lineno for node in ast.walk(parse(path)) if isinstance(node, waiting)]


@of_each(MODULES)
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@of_each(MODULES)
def test_only_what_is_a_providers_own_names_it(path: Path) -> None:
    path_name = path.relative_to(ROOT).as_posix().removeprefix("bg_ingest/")
    if path_name in NAMES_A_PROVIDER or path_name.startswith("simulator/") or provider_of(dotted(path)):
        return
    providers = [each.name for each in (ROOT / "bg_ingest/providers").iterdir() if (each / "__init__.py").exists()]
    assert providers
    words = {word.lower() for word in code_words(parse(path))}
    assert not [word for word in words for provider in providers if provider in word]


def code_words(tree: ast.Module) -> Iterator[str]:
    """Every name and string of the code; prose may name the source of a fact."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value
        for field in ("name", "id", "attr", "arg", "module"):
            if isinstance(word := getattr(node, field, None), str):
                yield word


def test_a_rule_names_all_that_break_it() -> None:
    def holds(path: Path) -> None:
        assert path.name != "app.py", "one"

    with pytest.raises(AssertionError, match=r"'app': .one"):
        of_each(MODULES)(holds)()


def test_the_rules_notice_a_breach(tmp_path: Path) -> None:
    module = tmp_path / "reach.py"
    module.write_text("import httpx\nfrom bg_ingest.adapters import clock\n\ndexcom = 'Dexcom'\n")
    assert list(imported_modules(module)) == ["httpx", "bg_ingest.adapters.clock"]
    assert layer_of("bg_ingest.adapters.clock") not in MAY_IMPORT[SERVICES]
    assert set(code_words(parse(module))) >= {"dexcom", "Dexcom"}
    assert layer_of("bg_ingest.misc") is None
