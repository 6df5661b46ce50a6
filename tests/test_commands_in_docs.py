"""Every make, bg-ingest and curl command of the documentation works: what it names exists, requests are answered."""

import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest
import rich_click as click

from bg_ingest.cli import COMMANDS
from bg_ingest.domain.connections import Defaults
from tests.conftest import VirtualTimeLoop
from tests.house import House, house
from tests.test_makefile import RECIPES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = "make|bg-ingest|curl|python -m"

OURS = "http://localhost:5001"

PEOPLE = {"ada": "SandboxUser1", "me": "SandboxUser2"}
"""Who is connected in the examples."""


class Said(NamedTuple):
    """A command as a page has it."""

    page: str
    words: list[str]


def found(program: str) -> list[Said]:
    """Return all commands of a program: lines of code blocks, and code among text."""
    commands: list[Said] = []
    for page in PAGES:
        text = page.read_text("utf-8").replace("\\\n", " ")
        lines = re.findall(rf"^ {{4,}}({program} .*)$", text, re.MULTILINE)
        lines += re.findall(rf"`({program}(?: [^`]*)?)`", text)
        commands += [Said(page.name, shlex.split(line, comments=True)) for line in lines]
    return commands


def named(said: Said) -> str:
    return f"{said.page}: {' '.join(said.words)}"


def spelled_out(words: list[str]) -> Iterator[list[str]]:
    """Yield a command for each way to read ``a|b``."""
    yield from (list(each) for each in product(*(word.split("|") for word in words)))


@pytest.mark.parametrize("said", found("make"), ids=named)
def test_there_is_such_a_target(said: Said) -> None:
    assert set(said.words[1:]) <= set(RECIPES)


@pytest.mark.parametrize("said", found("python -m"), ids=named)
def test_there_is_such_a_module(said: Said) -> None:
    assert find_spec(said.words[2]) is not None


@pytest.mark.parametrize("said", found("bg-ingest"), ids=named)
def test_there_is_such_a_command_with_these_options(said: Said) -> None:
    for words in spelled_out(said.words[1:]):
        arguments = list(words)
        if not arguments or arguments[0] in {"--help", "--version"}:
            continue
        command = COMMANDS[arguments.pop(0)].load()
        while isinstance(command, click.Group) and arguments:
            command = command.commands[arguments.pop(0)]
        with command.make_context(command.name, arguments, resilient_parsing=True):
            pass  # it raises NoSuchOption, or UsageError for what it does not take


async def ask(home: House, words: list[str]) -> int:
    """Do what curl would; return the status."""
    method, headers, body, url = "GET", {}, None, ""
    rest = iter(words[1:])
    for word in rest:
        match word:
            case "-s" | "-i" | "-sS":
                pass
            case "-X":
                method = next(rest)
            case "-H":
                name, _, value = next(rest).partition(": ")
                headers[name] = value
            case "-d":
                body, method = next(rest), "POST" if method == "GET" else method
            case _:
                url = word
    assert url.startswith(OURS + "/"), words
    if re.search(r"[…$<]", headers.get("Authorization", "")):
        del headers["Authorization"]  # a placeholder; this house is open
    answer = await home.api.request(method, url.removeprefix(OURS), headers=headers, content=body)
    return answer.status_code


@pytest.fixture
def anyio_backend() -> object:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


async def test_every_request_is_answered() -> None:
    """In one house; what removes somebody comes last."""
    requests = [said for said in found("curl") if any("://" in word for word in said.words)]
    assert len(requests) > 5
    async with house(defaults=Defaults(backfill_days=45)) as home, home.running():
        for user, person in PEOPLE.items():
            await home.connect(user, person)
        await anyio.sleep(60)
        for said in sorted(requests, key=lambda each: "DELETE" in each.words):
            assert await ask(home, said.words) < 400, named(said)
