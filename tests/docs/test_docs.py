"""The documentation names what there is, and nothing else."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import rich_click as click

from bg_ingest import __version__
from bg_ingest.cli import COMMANDS
from bg_ingest.settings import Settings

ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / ".env.example").read_text("utf-8")
SETTINGS = {name.upper(): field for name, field in Settings.model_fields.items()}


def explained_settings() -> dict[str, str]:
    """Return each setting of .env.example with the comment directly above it."""
    blocks = (block.splitlines() for block in EXAMPLE.split("\n\n"))
    return {
        lines[-1].partition("=")[0]: "\n".join(lines[:-1])
        for lines in blocks
        if lines and not lines[-1].startswith("#")
    }


def test_the_example_names_every_setting_once_and_nothing_else() -> None:
    named = re.findall(r"^[^#\n]+", EXAMPLE, re.MULTILINE)
    assert sorted(line.partition("=")[0] for line in named) == sorted(SETTINGS)


def test_the_example_is_read_alike_by_docker_and_by_us() -> None:
    for line in EXAMPLE.splitlines():
        assert line == "" or line.startswith("# ") or re.fullmatch(r"[A-Z_]+=", line), line


@pytest.mark.parametrize("name", SETTINGS)
def test_a_comment_explains_the_setting_and_names_its_default(name: str) -> None:
    comment = explained_settings()[name]
    default = SETTINGS[name].default
    assert comment.startswith("# ")
    if isinstance(default, bool | int | str | Path):
        assert re.search(rf"\b{re.escape(str(default).lower().lstrip('.'))}\b", comment.lower())


def test_the_readme_lists_every_setting_and_nothing_else() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| `([A-Z][A-Z_]+)` \|", readme, re.MULTILINE)
    assert sorted(rows) == sorted(SETTINGS)


def test_the_package_and_the_code_have_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == __version__


def runnable(name: str, command: click.Command) -> Iterator[str]:
    """Yield the names of a command that does something, and of those in its group."""
    group = command if isinstance(command, click.Group) else None
    if group is None or group.invoke_without_command:
        yield name
    for each, inner in group.commands.items() if group else ():
        yield from runnable(f"{name} {each}", inner)


def test_the_readme_lists_every_command_and_no_other() -> None:
    """Those of groups too; after the name come arguments, in capitals, and options."""
    readme = (ROOT / "README.md").read_text("utf-8")
    (section,) = re.findall(r"^## Commands\n(.*?)^## ", readme, re.MULTILINE | re.DOTALL)
    there = [each for name, named in COMMANDS.items() for each in runnable(name, named.load())]
    assert "keys create-encryption" in there
    assert sorted(re.findall(r"^\| `bg-ingest ([a-z-]+(?: [a-z][a-z-]*)*)[^`]*` \|", section, re.MULTILINE)) == sorted(
        there
    )


def test_the_readmes_endpoints_are_those_of_the_api() -> None:
    """A choice of those in docs/api.md, which are held against the routes."""
    row = re.compile(r"^\| `((?:GET|POST|PATCH|DELETE) [^`]+)` \|", re.MULTILINE)
    chosen = row.findall((ROOT / "README.md").read_text("utf-8"))
    assert any("webhook" in each for each in chosen)
    assert set(chosen) <= set(row.findall((ROOT / "docs" / "api.md").read_text("utf-8")))


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=str)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / link).exists(), link
    for folder in re.findall(r"`(docs/[a-z/.-]+)`", page.read_text("utf-8")):
        assert (ROOT / folder).exists(), folder


def test_operating_says_of_every_alert_what_to_do() -> None:
    folder = ROOT / "docs" / "operating"
    alerts = re.findall(r"^ *- alert: (\w+)$", (folder / "alerts.yaml").read_text("utf-8"), re.MULTILINE)
    explained = re.findall(r"^### (\w+)$", (folder / "README.md").read_text("utf-8"), re.MULTILINE)
    assert alerts == explained
