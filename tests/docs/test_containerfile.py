"""What can be said of the image without building it; ``tests/long/chaos/image.py`` builds it and runs it."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
CONTAINERFILE = (ROOT / "Containerfile").read_text("utf-8")
IMAGE = CONTAINERFILE.rpartition("\nFROM ")[2]
"""The last stage: the image itself."""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def instruction(name: str) -> str:
    """Return what the image's only such instruction says, on one line."""
    (said,) = re.findall(rf"^{name} (.+)$", IMAGE.replace("\\\n", ""), re.MULTILINE)
    return str(said)


def copied_paths() -> set[str]:
    """Return what comes from the source tree."""
    lines = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE, re.MULTILINE)
    return {folder for line in lines for folder in line.split()}


def needed_packages(package: str) -> set[str]:
    found = {package}
    for line in requires(package) or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found |= needed_packages(canonicalize_name(requirement.name))
    return found


def test_every_stage_starts_from_the_same_python() -> None:
    version = (ROOT / ".python-version").read_text().strip()
    bases = set(re.findall(r"^FROM (\S+)", CONTAINERFILE, re.MULTILINE))
    assert bases == {f"docker.io/library/python:{version}-slim", "build"}


def test_nothing_is_installed_without_its_hash() -> None:
    installs = re.findall(r"pip .*?\binstall .*", CONTAINERFILE)
    assert len(installs) == 3
    assert all("--require-hashes" in line or "--no-index" in line for line in installs)


def test_the_build_takes_all_that_the_back_end_needs_from_the_lock() -> None:
    picked = re.search(r"/\^\((.+?)\)==/", CONTAINERFILE)
    assert picked is not None
    assert set(picked[1].split("|")) == needed_packages("hatchling")


def test_everything_of_the_wheel_is_copied_and_may_be() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied_paths() == allowed
    assert set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]) <= copied_paths()


def test_whatever_else_a_working_copy_has_stays_out_of_the_build() -> None:
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert patterns[0] == "*"
    assert not [line for line in patterns if line.startswith("!.")]


def test_it_runs_as_somebody_without_rights() -> None:
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", instruction("USER"))


def test_signals_reach_the_server_and_not_a_shell() -> None:
    assert instruction("ENTRYPOINT") == '["bg-ingest"]'
    assert instruction("CMD") == '["run"]'
    assert instruction("STOPSIGNAL") == "SIGTERM"


def test_the_label_names_the_version() -> None:
    assert f'org.opencontainers.image.version="{PROJECT["project"]["version"]}"' in IMAGE


def test_an_older_buildah_understands_it() -> None:
    assert "<<" not in CONTAINERFILE
    assert "--mount" not in CONTAINERFILE
