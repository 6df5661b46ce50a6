"""Images without a container engine, built by buildah; debootstrap makes the base if no registry provides one."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from tests.long.chaos.processes import ROOT
from tests.long.chaos.report import console

BASE = "docker.io/library/python:3.11-slim"

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
"""Trusted certificates of this machine. The build trusts the same, because pip may meet a proxy there."""

BASE_PACKAGES = "python3,python3-venv,ca-certificates,netbase,tzdata"
"""Additions of the real base to a minimal Debian. Its pip and setuptools are in /usr/local, as here."""

INSTALL_PIP = (
    "ln -s ../../bin/python3 /usr/local/bin/python && rm /usr/lib/python3.11/EXTERNALLY-MANAGED && "
    "PYTHONPATH=$(echo /usr/share/python-wheels/pip-*.whl) python -m pip --no-cache-dir install --quiet "
    "--root-user-action ignore --no-index --find-links /usr/share/python-wheels pip setuptools && "
    "rm -rf /usr/share/python-wheels /var/cache/apt /var/lib/apt/lists"
)

PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"

ENVIRONMENT = {"PATH": PATH, "HOME": "/root"}
"""Environment without pip's settings, which chroot isolation passes on and which are no part of the image."""


def need_tools() -> None:
    """Exit with a message if a required program is missing."""
    missing = [
        each for each in ("buildah", "debootstrap", "unshare", "nsenter") if shutil.which(each, path=PATH) is None
    ]
    if missing:
        console.print(f"{', '.join(missing)} not found: apt-get install -y --no-install-recommends buildah debootstrap")
        sys.exit(2)


def build(name: str) -> None:
    """Build our Containerfile like ``docker build``, and tag the image; the base is not pulled."""
    if not _exists(BASE):
        _make_base()
    trusted = ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"] if CERTIFICATES.exists() else []
    options = ["--isolation", "chroot", "--pull-never", "--layers", "--format", "docker", *trusted]
    _buildah("bud", *options, "-f", "Containerfile", "-t", name, ".", shown=True)


def config(image: str) -> dict[str, Any]:
    """Return the configuration of an image: User, Env, Entrypoint, Cmd, Healthcheck and the like."""
    document: dict[str, Any] = _inspect(image)["Docker"]["config"]
    return document


@contextmanager
def unpack(image: str) -> Iterator[Path]:
    """Make a container of an image and yield its root file system."""
    container = _buildah("from", "--pull-never", image).strip()
    try:
        yield Path(_buildah("mount", container).strip())
    finally:
        _buildah("rm", container)


def size(image: str) -> int:
    """Return the uncompressed bytes of all layers. Files removed by a later layer count, as in container engines."""
    manifest = msgspec.json.decode(_inspect(image)["Manifest"])
    return sum(int(layer["size"]) for layer in manifest["layers"])


def _make_base() -> None:
    console.print(f"no {BASE} here: making one of Debian's packages, which takes two minutes")
    with tempfile.TemporaryDirectory(prefix="base-") as folder:
        root = Path(folder, "root")
        _run("debootstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", "bookworm", str(root))
        _run("chroot", str(root), "sh", "-c", INSTALL_PIP)
        container = _buildah("from", "scratch").strip()
        _buildah("copy", "--quiet", container, str(root), "/")
        _buildah("config", "--env", f"PATH={PATH}", "--cmd", "python3", container)
        _buildah("commit", "--quiet", "--rm", "--format", "docker", container, BASE)


def _inspect(image: str) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.json.decode(_buildah("inspect", "--type", "image", image))
    return document


def _exists(image: str) -> bool:
    names = [name for each in msgspec.json.decode(_buildah("images", "--json")) for name in each["names"] or ()]
    return image in names


def _buildah(*arguments: str, shown: bool = False) -> str:
    return _run("buildah", "--storage-driver", "overlay", *arguments, shown=shown)


def _run(*command: str, shown: bool = False) -> str:
    ran = subprocess.run(
        command,
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=None if shown else subprocess.PIPE,
        check=True,
        text=True,
    )
    return ran.stdout or ""
