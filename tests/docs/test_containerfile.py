"""Properties of the image that need no build; ``tests/long/chaos/image.py`` builds and runs it."""

import json
import re
import socket
import threading
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
CONTAINERFILE = (ROOT / "Containerfile").read_text("utf-8")
IMAGE = CONTAINERFILE.rpartition("\nFROM ")[2]
"""The last stage: the image itself."""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def instruction(name: str) -> str:
    """Return the argument of the image's only such instruction, on one line."""
    (argument,) = re.findall(rf"^{name} (.+)$", IMAGE.replace("\\\n", ""), re.MULTILINE)
    return str(argument)


def copied_paths() -> set[str]:
    """Return the paths that are copied from the source tree."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE, re.MULTILINE)
    return {folder for line in lines for folder in line.split()}


def needed_packages(package: str) -> set[str]:
    packages = {package}
    for line in requires(package) or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            packages |= needed_packages(canonicalize_name(requirement.name))
    return packages


def test_every_stage_starts_from_the_same_python() -> None:
    version = (ROOT / ".python-version").read_text().strip()
    bases = set(re.findall(r"^FROM (\S+)", CONTAINERFILE, re.MULTILINE))
    assert bases == {f"docker.io/library/python:{version}-slim", "build"}


def test_nothing_is_installed_without_its_hash() -> None:
    installs = re.findall(r"pip .*?\binstall .*", CONTAINERFILE)
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)


def test_the_build_back_end_and_its_dependencies_come_from_the_lock() -> None:
    picked = re.search(r"/\^\((.+?)\)==/", CONTAINERFILE)
    assert picked is not None
    assert set(picked[1].split("|")) == needed_packages("hatchling")


def test_all_content_of_the_wheel_is_copied_and_allowed() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied_paths() == allowed
    assert set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]) <= copied_paths()


def test_other_files_of_a_working_copy_are_excluded_from_the_build() -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert patterns[0] == "*"
    assert not [line for line in patterns if line.startswith("!.")]


def test_it_runs_as_an_unprivileged_user() -> None:
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", instruction("USER"))


def test_signals_reach_the_server_and_not_a_shell() -> None:
    assert instruction("ENTRYPOINT") == '["bg-ingest"]'
    assert instruction("CMD") == '["run"]'
    assert instruction("STOPSIGNAL") == "SIGTERM"


def test_the_label_names_the_version() -> None:
    assert f'org.opencontainers.image.version="{PROJECT["project"]["version"]}"' in IMAGE


def test_it_uses_no_syntax_unknown_to_an_older_buildah() -> None:
    assert "<<" not in CONTAINERFILE
    assert "--mount" not in CONTAINERFILE


@pytest.mark.parametrize(
    ("host", "address"),
    [("", "127.0.0.1"), ("::", "127.0.0.1"), ("::1", "::1"), ("0.0.0.0", "127.0.0.1")],  # noqa: S104
)
def test_f23_the_health_check_asks_where_the_service_listens(
    host: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, code = json.loads(re.sub(r"^.*?CMD ", "", instruction("HEALTHCHECK")))
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:
        monkeypatch.setenv("HOST", host)
        monkeypatch.setenv("PORT", str(listener.getsockname()[1]))

        def answer() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(1_000)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        names: dict[str, Any] = {}
        with pytest.raises(SystemExit) as ended:
            exec(code, names)  # noqa: S102 - our own command
        names["c"].close()
        assert not ended.value.code
