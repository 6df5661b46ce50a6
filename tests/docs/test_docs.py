"""The tables of the documentation match the code, and its links and file names exist."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import rich_click as click

from bg_ingest import __version__
from bg_ingest.cli import COMMANDS
from bg_ingest.demo import instructions
from bg_ingest.settings import Settings
from tests.docs.test_language import SAY_INSTEAD

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
DECISIONS = sorted(path for path in (DOCS / "decisions").glob("*.md") if path.name != "README.md")
EXAMPLE = (ROOT / ".env.example").read_text("utf-8")
SETTINGS = {name.upper(): field for name, field in Settings.model_fields.items()}


def explained_settings() -> dict[str, str]:
    """Return the comment directly above each setting of .env.example."""
    blocks = (block.splitlines() for block in EXAMPLE.split("\n\n"))
    return {
        lines[-1].partition("=")[0]: "\n".join(lines[:-1])
        for lines in blocks
        if lines and not lines[-1].startswith("#")
    }


def test_the_example_names_every_setting_once_and_nothing_else() -> None:
    named = re.findall(r"^[^#\n]+", EXAMPLE, re.MULTILINE)
    assert sorted(line.partition("=")[0] for line in named) == sorted(SETTINGS)


def test_the_example_has_a_form_that_docker_reads_too() -> None:
    for line in EXAMPLE.splitlines():
        assert line == "" or line.startswith("# ") or re.fullmatch(r"[A-Z_]+=", line), line


@pytest.mark.parametrize("name", SETTINGS)
def test_a_comment_explains_the_setting_and_names_its_default(name: str) -> None:
    comment = explained_settings()[name]
    default = SETTINGS[name].default
    assert comment.startswith("# ")
    if isinstance(default, bool | int | str | Path):
        assert re.search(rf"\b{re.escape(str(default).lower().lstrip('.'))}\b", comment.lower())


def test_the_page_of_settings_lists_every_setting_and_no_other() -> None:
    rows = re.findall(r"^\| `([A-Z][A-Z_]+)` \|", (DOCS / "settings.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(SETTINGS)


def test_the_package_and_the_code_have_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == __version__


def command_names(name: str, command: click.Command) -> Iterator[str]:
    """Yield the name of a command that can be run by itself, and those of the commands in its group."""
    group = command if isinstance(command, click.Group) else None
    if group is None or group.invoke_without_command:
        yield name
    for inner_name, inner in group.commands.items() if group else ():
        yield from command_names(f"{name} {inner_name}", inner)


def test_the_page_of_commands_lists_every_command_and_no_other() -> None:
    """Includes the commands of groups. The name is followed by arguments, in capitals, and options."""
    page = (DOCS / "commands.md").read_text("utf-8")
    names = [name for group, entry in COMMANDS.items() for name in command_names(group, entry.load())]
    assert "keys create-encryption" in names
    assert sorted(re.findall(r"^\| `bg-ingest ([a-z-]+(?: [a-z][a-z-]*)*)[^`]*` \|", page, re.MULTILINE)) == sorted(
        names
    )


def test_the_glossary_lists_every_synonym_that_the_code_must_not_use() -> None:
    rows = re.findall(r"^\|[^|]+\|[^|]+\|([^|]+)\|$", (DOCS / "glossary.md").read_text("utf-8"), re.MULTILINE)
    listed = {
        re.sub(r" \(.*?\)", "", word).strip().lower().replace("_", " ")
        for row in rows
        for word in re.split("[,·]", row)
    }
    assert {*SAY_INSTEAD} - {"util", "helper"} <= listed


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_the_sample_output_of_the_readme_is_that_of_the_demo() -> None:
    output = instructions("http://localhost:5001")
    sample = re.findall(r"^ {6}(\w.*)$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert len(sample) == 3
    assert {*sample} <= {line.strip() for line in output.splitlines()}


@pytest.mark.parametrize("page", PAGES[1:], ids=str)
def test_a_page_names_its_reader_in_its_first_line(page: Path) -> None:
    title, empty, first, *_ = page.read_text("utf-8").splitlines()
    assert title.startswith("# ")
    assert not empty
    assert first.startswith("For ") or page in DECISIONS


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_between_pages_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_to_a_section_of_a_page_exist(page: Path) -> None:
    for link, anchor in re.findall(r"\]\(([^)#:]*)#([^)]*)\)", page.read_text("utf-8")):
        target = page.parent / link if link else page
        headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
        assert anchor in {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}, link


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_files_that_a_page_names_exist(page: Path) -> None:
    for path in re.findall(r"`((?:bg_ingest|workers|tests|docs)/[\w/.-]*)`", page.read_text("utf-8")):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.name)
def test_a_decision_has_a_date_and_four_sections(page: Path) -> None:
    text = page.read_text("utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences", "Alternatives"]
    assert f"Decided on {page.name[:10]}." in text


def test_the_index_lists_every_decision_once() -> None:
    index = (DOCS / "decisions" / "README.md").read_text("utf-8")
    listed = re.findall(r"^\| ([\d-]+) \| \[(.+)\]\((.+\.md)\) \|$", index, re.MULTILINE)
    titles = {page.name: page.read_text("utf-8").splitlines()[0].removeprefix("# ") for page in DECISIONS}
    assert sorted(listed) == sorted((name[:10], title, name) for name, title in titles.items())


def test_operating_explains_every_alert_and_no_other() -> None:
    folder = DOCS / "operating"
    alerts = re.findall(r"^ *- alert: (\w+)$", (folder / "alerts.yaml").read_text("utf-8"), re.MULTILINE)
    explained = re.findall(r"^### (\w+)$", (folder / "README.md").read_text("utf-8"), re.MULTILINE)
    assert alerts == explained
