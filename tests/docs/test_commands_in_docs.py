"""Every make, bg-ingest and curl command of the documentation works: each is run, or listed here with the reason."""

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
from bg_ingest.domain.grants import Secret
from bg_ingest.domain.ids import ConnectionId, UserId
from bg_ingest.domain.readings import Unreadable
from bg_ingest.providers.dexcom.oauth import Tokens
from bg_ingest.services import Services
from bg_ingest.settings import Settings, get_settings
from tests.conftest import VirtualTimeLoop
from tests.docs.test_makefile import RECIPES
from tests.fakes.clock import NOON
from tests.harness.polling_parts import build_quarantine_of
from tests.harness.sample_values import connection, connection_commit
from tests.harness.service import ServiceHarness, open_service

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAMS = "make|bg-ingest|curl|python -m"

OUR_URL = "http://localhost:5001"

USERS = {"ada": "SandboxUser1", "me": "SandboxUser2"}
"""Connected users of the examples, with their sandbox users."""

PARSED_ONLY = {
    "run": "serves until it is stopped; tests/unit/commands/test_serve.py starts it",
    "demo": "likewise",
    "simulator": "likewise",
    "keys create-encryption --kms": "calls AWS KMS; tests/unit/adapters/aws/test_kms.py has a server of its own",
}
"""Prefixes of ``bg-ingest`` commands that are only parsed here, with the reason."""

UNREADABLE = b'{"systemTime":null,"value":112,"unit":"mg/dL"}'


class DocumentedCommand(NamedTuple):
    """A command of a page, split into words."""

    page: str
    words: list[str]


def find_commands(program: str) -> list[DocumentedCommand]:
    """Return all commands of a program, from code blocks and from inline code."""
    commands: list[DocumentedCommand] = []
    for page in PAGES:
        text = page.read_text("utf-8").replace("\\\n", " ")
        lines = re.findall(rf"^ {{4,}}({program} .*)$", text, re.MULTILINE)
        lines += re.findall(rf"`({program}(?: [^`]*)?)`", text)
        commands += [DocumentedCommand(page.name, shlex.split(line, comments=True)) for line in lines]
    return commands


def case_id(command: DocumentedCommand) -> str:
    return f"{command.page}: {' '.join(command.words)}"


def expand(words: list[str]) -> Iterator[list[str]]:
    """Yield a command for each alternative of ``a|b`` and with and without each ``[optional part]``."""
    line = " ".join(words)
    for variant in {re.sub(r" \[.*?\]", "", line), re.sub(r"[][]", "", line)}:
        yield from (list(words) for words in product(*(word.split("|") for word in variant.split())))


def own_commands() -> list[list[str]]:
    """Return the commands of ``bg-ingest`` in the order of the pages, each once."""
    variants = [tuple(words) for command in find_commands("bg-ingest") for words in expand(command.words[1:])]
    return [list(words) for words in dict.fromkeys(variants) if words]


def is_parsed_only(words: list[str]) -> bool:
    prefixes = [prefix.split() for prefix in PARSED_ONLY]
    return any(words[: len(prefix)] == prefix for prefix in prefixes)


@pytest.mark.parametrize(
    "target", sorted({target for command in find_commands("make") for target in command.words[1:]})
)
def test_a_make_target_and_the_modules_it_runs_exist(target: str) -> None:
    assert target in RECIPES
    dry = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True)
    for module in re.findall(r"python -m ([\w.]+)", dry.stdout):
        assert find_spec(module) is not None, module


@pytest.mark.parametrize("command", find_commands("python -m"), ids=case_id)
def test_a_module_exists(command: DocumentedCommand) -> None:
    assert find_spec(command.words[2]) is not None


def parse(words: list[str]) -> None:
    """Parse a command without running it; raise UsageError for an unknown option or argument."""
    arguments = list(words)
    command = COMMANDS[arguments.pop(0)].load()
    while isinstance(command, click.Group) and arguments:
        command = command.commands[arguments.pop(0)]
    command.make_context(command.name, arguments)


@pytest.mark.parametrize("words", [words for words in own_commands() if is_parsed_only(words)], ids=" ".join)
def test_a_command_with_these_options_exists(words: list[str]) -> None:
    parse(words)


@pytest.mark.parametrize("wrong", ["run --nonsense", "run now", "verify ada", "keys create --name x --scope y"])
def test_an_unknown_option_or_argument_is_found(wrong: str) -> None:
    with pytest.raises(click.UsageError):
        parse(wrong.split())


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CliRunner]:
    """Command runner in an empty folder without settings; restores the process state that commands change."""
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


def test_every_command_that_ends_by_itself_succeeds(terminal: CliRunner) -> None:
    """All commands share one store; commands that delete run last."""

    async def fill(services: Services) -> tuple[str, str]:
        ada = connection(id=ConnectionId(UserId("ada"), "dexcom"))
        credentials = Tokens(Secret("access"), Secret("refresh"), NOON).to_credentials()
        grant = services.grants.seal_new(ada.id, ada.generation, credentials)
        await services.store.commits.write(connection_commit(None, None, ada, grant=grant))
        for paused in (True, False):  # changes of today, because old ones have expired
            await services.connections.update_worker(ada.id, paused=paused)
        quarantine = await build_quarantine_of(services, get_settings())
        await quarantine.add(ada, [Unreadable("no_time", UNREADABLE)])
        (record,) = [record async for record in services.quarantine_review.iter_records(ada.id.user)]
        created = await services.api_keys.create("dashboard", [Scope.READINGS_READ])
        return record.record.digest.hex(), created.key.id

    record, key = run_with_services(fill)
    values = {
        "USER": "ada",
        "DATE": "2026-01-01",
        "DIR": "dataset",
        "N": "1",
        "NAME": "ml",
        "SCOPE": "admin",
        "RECORD": record,
        "ID": key,
    }
    commands = [words for words in own_commands() if not is_parsed_only(words)]
    assert len(commands) > 15
    for words in sorted(commands, key=lambda words: bool({"revoke", "drop"} & {*words})):
        result = terminal.invoke(main, [values.get(word, word) for word in words])
        assert result.exit_code == 0, (words, result.output, result.exception)


async def send(service: ServiceHarness, words: list[str]) -> int:
    """Send the request of a curl command; return the status."""
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
        del headers["Authorization"]  # a placeholder; the API of this service is open
    answer = await service.api.request(method, url.removeprefix(OUR_URL), headers=headers, content=body)
    return answer.status_code


@pytest.fixture
def anyio_backend() -> object:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


async def test_every_request_succeeds() -> None:
    """All requests go to one service; requests that delete are sent last."""
    requests = [command for command in find_commands("curl") if any("://" in word for word in command.words)]
    assert len(requests) > 5
    async with open_service(over_http=True, defaults=PollDefaults(backfill_days=45)) as service, service.running():
        for user, person in USERS.items():
            await service.connect(user, person)
        await anyio.sleep(60)
        for command in sorted(requests, key=lambda command: "DELETE" in command.words):
            assert await send(service, command.words) < 400, case_id(command)
