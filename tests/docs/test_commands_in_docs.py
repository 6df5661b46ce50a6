"""Every make, bg-ingest and curl command of the documentation works: it is run, or a reason stands here why not."""

import logging
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import NamedTuple

import anyio
import pytest
import rich_click as click
from click.testing import CliRunner

from bg_ingest.cli import COMMANDS, main
from bg_ingest.commands.context import run_with_services
from bg_ingest.domain.access import Scope
from bg_ingest.domain.connections import PollDefaults
from bg_ingest.domain.grants import Credentials, Secret
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.readings import Unreadable
from bg_ingest.services import Services
from bg_ingest.settings import Settings, get_settings
from tests.conftest import VirtualTimeLoop
from tests.docs.test_makefile import RECIPES
from tests.fakes.clock import NOON
from tests.harness.sample_values import connection, connection_commit
from tests.harness.service import ServiceHarness, open_service

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = "make|bg-ingest|curl|python -m"

OUR_URL = "http://localhost:5001"

PEOPLE = {"ada": "SandboxUser1", "me": "SandboxUser2"}
"""Who is connected in the examples."""

PARSED_ONLY = {
    "run": "serves until it is stopped; tests/unit/test_cli.py starts it",
    "demo": "likewise",
    "simulator": "likewise",
    "keys create-encryption --kms": "asks AWS KMS; tests/unit/adapters/aws/test_kms.py has a server of its own",
}
"""Commands of ``bg-ingest`` that are not run here, by how they begin, and why."""

UNREADABLE = b'{"systemTime":null,"value":112,"unit":"mg/dL"}'


class DocumentedCommand(NamedTuple):
    """A command as a page has it."""

    page: str
    words: list[str]


def find_commands(program: str) -> list[DocumentedCommand]:
    """Return all commands of a program: lines of code blocks, and code among text."""
    commands: list[DocumentedCommand] = []
    for page in PAGES:
        text = page.read_text("utf-8").replace("\\\n", " ")
        lines = re.findall(rf"^ {{4,}}({program} .*)$", text, re.MULTILINE)
        lines += re.findall(rf"`({program}(?: [^`]*)?)`", text)
        commands += [DocumentedCommand(page.name, shlex.split(line, comments=True)) for line in lines]
    return commands


def case_id(said: DocumentedCommand) -> str:
    return f"{said.page}: {' '.join(said.words)}"


def expand(words: list[str]) -> Iterator[list[str]]:
    """Yield a command for each way to read ``a|b`` and ``[what may be left out]``."""
    line = " ".join(words)
    for said in {re.sub(r" \[.*?\]", "", line), re.sub(r"[][]", "", line)}:
        yield from (list(each) for each in product(*(word.split("|") for word in said.split())))


def ours() -> list[list[str]]:
    """Return the commands of ``bg-ingest`` in the order of the pages, each once."""
    said = [tuple(words) for each in find_commands("bg-ingest") for words in expand(each.words[1:])]
    return [list(words) for words in dict.fromkeys(said) if words]


def only_parsed(words: list[str]) -> bool:
    begun = [each.split() for each in PARSED_ONLY]
    return any(words[: len(each)] == each for each in begun)


@pytest.mark.parametrize("target", sorted({target for said in find_commands("make") for target in said.words[1:]}))
def test_there_is_such_a_target_and_what_it_would_run(target: str) -> None:
    assert target in RECIPES
    dry = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True)
    for module in re.findall(r"python -m ([\w.]+)", dry.stdout):
        assert find_spec(module) is not None, module


@pytest.mark.parametrize("said", find_commands("python -m"), ids=case_id)
def test_there_is_such_a_module(said: DocumentedCommand) -> None:
    assert find_spec(said.words[2]) is not None


def parse(words: list[str]) -> None:
    """Read a command as the terminal's words are read, and do nothing; it raises for what the command does not take."""
    arguments = list(words)
    command = COMMANDS[arguments.pop(0)].load()
    while isinstance(command, click.Group) and arguments:
        command = command.commands[arguments.pop(0)]
    command.make_context(command.name, arguments)


@pytest.mark.parametrize("words", [words for words in ours() if only_parsed(words)], ids=" ".join)
def test_there_is_such_a_command_with_these_options(words: list[str]) -> None:
    parse(words)


@pytest.mark.parametrize("wrong", ["run --nonsense", "run now", "verify ada", "keys create --name x --scope y"])
def test_what_a_command_does_not_take_would_be_seen(wrong: str) -> None:
    with pytest.raises(click.UsageError):
        parse(wrong.split())


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CliRunner]:
    """A place without any setting, and what commands change in their process put back."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    handlers, level, stop = logging.getLogger().handlers[:], logging.getLogger().level, signal.getsignal(signal.SIGTERM)
    get_settings.cache_clear()
    yield CliRunner()
    get_settings.cache_clear()
    signal.signal(signal.SIGTERM, stop)
    logging.basicConfig(level=level, handlers=handlers, force=True)


def test_every_command_that_ends_by_itself_does_what_the_pages_say(terminal: CliRunner) -> None:
    """Over one store; what removes something comes last."""

    async def fill(_: Settings, services: Services) -> tuple[str, str]:
        ada = connection(id=ConnectionId(UserId("ada"), "dexcom"))
        grant = services.grants.seal_new(ada.id, ada.generation, Credentials(Secret("access"), Secret("refresh"), NOON))
        await services.store.readings.commit(connection_commit(None, None, ada, grant=grant))
        for paused in (True, False):  # changes of today: those of long ago cannot be replayed
            await services.connections.update_worker(ada.id, paused=paused)
        await services.webhook_receiver._ingester._quarantine.add(ada, [Unreadable("no_time", UNREADABLE)])
        (kept,) = [each async for each in services.quarantine_review.iter_records(ada.id.user)]
        made = await services.api_keys.create("dashboard", [Scope.READINGS_READ])
        return kept.record.digest.hex(), made.key.id

    record, key = run_with_services(fill)
    values = {
        "USER": "ada",
        "DATE": "2026-01-01",
        "N": "1",
        "NAME": "ml",
        "SCOPE": "admin",
        "RECORD": record,
        "ID": key,
    }
    commands = [words for words in ours() if not only_parsed(words)]
    assert len(commands) > 15
    for words in sorted(commands, key=lambda each: bool({"revoke", "drop"} & {*each})):
        done = terminal.invoke(main, [values.get(word, word) for word in words])
        assert done.exit_code == 0, (words, done.output, done.exception)


async def ask(service: ServiceHarness, words: list[str]) -> int:
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
    assert url.startswith(OUR_URL + "/"), words
    if re.search(r"[…$<]", headers.get("Authorization", "")):
        del headers["Authorization"]  # a placeholder; this house is open
    answer = await service.api.request(method, url.removeprefix(OUR_URL), headers=headers, content=body)
    return answer.status_code


@pytest.fixture
def anyio_backend() -> object:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


async def test_every_request_is_answered() -> None:
    """In one house; what removes somebody comes last."""
    requests = [said for said in find_commands("curl") if any("://" in word for word in said.words)]
    assert len(requests) > 5
    async with open_service(defaults=PollDefaults(backfill_days=45)) as service, service.running():
        for user, person in PEOPLE.items():
            await service.connect(user, person)
        await anyio.sleep(60)
        for said in sorted(requests, key=lambda each: "DELETE" in each.words):
            assert await ask(service, said.words) < 400, case_id(said)
