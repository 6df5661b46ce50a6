"""Tests use the public interface: no test reaches into a private attribute of a class of the product."""

import ast
from collections.abc import Collection, Iterable

import pytest

from tests.docs.identifiers import Allowed, Use, covers, needless
from tests.docs.source import ROOT, Module, read_modules

ALLOWED = [
    Allowed("_name", "tests/snapshots/observed.py", "of a metric of prometheus_client, which has no public name"),
    Allowed("_transport", "tests/unit/api/test_webhooks.py", "of httpx, to send events that no client sends"),
]
"""Attributes of third parties whose names product classes have as well."""


def private_names(modules: Iterable[Module]) -> set[str]:
    """Return the private attributes and methods that the classes of the modules define."""
    statements = (node for module in modules for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef))
    return {name for statement in statements for name in _members(statement) if _is_private(name)}


def _members(statement: ast.ClassDef) -> Iterable[str]:
    for node in ast.walk(statement):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_uses(modules: Iterable[Module], names: Collection[str]) -> list[Use]:
    """Return the uses of these attributes on any expression but ``self`` and ``cls``."""
    return [
        Use(f"{module.path}:{node.lineno}", node.attr, frozenset())
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr in names and ast.unparse(node.value) not in ("self", "cls")
    ]


def in_files(all_uses: Iterable[Use]) -> list[Use]:
    """Return the uses without their lines, as exceptions name whole files."""
    return [use._replace(path=use.path.partition(":")[0]) for use in all_uses]


@pytest.fixture(scope="module")
def found_uses() -> list[Use]:
    return private_uses(read_modules(ROOT, ["tests"]), private_names(read_modules(ROOT)))


@pytest.mark.slow
def test_no_test_reaches_into_a_private_attribute(found_uses: list[Use]) -> None:
    breaches = [
        (use.path, use.identifier)
        for use, in_file in zip(found_uses, in_files(found_uses), strict=True)
        if not any(covers(exception, in_file) for exception in ALLOWED)
    ]
    assert not breaches


@pytest.mark.slow
def test_every_exception_is_needed(found_uses: list[Use]) -> None:
    assert not needless(in_files(found_uses), ALLOWED)


def test_an_access_is_found_and_own_or_other_names_are_not() -> None:
    product = Module("bg_ingest/a.py", "class A:\n    _x: int\n    def _y(self): self._z = 1\n    def w(self): ...")
    names = private_names([product])
    assert names == {"_x", "_y", "_z"}
    test = Module("tests/b.py", "a._x\nthing.a._y()\na._z = 2\nself._x\ncls._y\na._other\na.w()\nsuper()._y()")
    assert {use.path.rpartition(":")[2] for use in private_uses([test], names)} == {"1", "2", "3", "8"}
