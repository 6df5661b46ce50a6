"""Targets of the Makefile: phony, explained, installed with hashes."""

import re
from pathlib import Path

import pytest

MAKEFILE = (Path(__file__).parents[2] / "Makefile").read_text("utf-8")
RECIPES = dict(re.findall(r"^([a-z-]+):[^\n]*\n((?:\t[^\n]*\n?)*)", MAKEFILE, re.MULTILINE))
PHONY = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, re.MULTILINE)[0].split()


def test_every_target_is_phony() -> None:
    assert sorted(RECIPES) == sorted(PHONY)


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"help"}))
def test_help_explains_every_target(name: str) -> None:
    assert re.search(rf"^{name}:.* ## \S", MAKEFILE, re.MULTILINE)


def test_every_installed_package_is_locked_by_its_hash() -> None:
    installs = [line for line in MAKEFILE.splitlines() if " pip install " in line]
    ours = [line for line in installs if "--no-deps --no-build-isolation" in line]
    assert len(installs) - len(ours) == 3
    assert all("--require-hashes" in line and "-r requirements" in line for line in installs if line not in ours)


def test_the_executable_contains_only_runtime_dependencies_and_is_tested() -> None:
    assert "-r requirements.txt\n" in RECIPES["binary"]
    assert "requirements-dev.txt" not in RECIPES["binary"]
    assert "python -m tests.long.chaos.binary dist/bg-ingest" in RECIPES["binary"]
