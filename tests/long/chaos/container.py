"""A container as an engine runs it with ``--read-only --cap-drop ALL --security-opt no-new-privileges``.

Made of the kernel's namespaces alone, so the service really is process 1, without rights, on a root it cannot write.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.long.chaos.processes import wait_until

SET_UP = """
set -e
root=$1 data=$2
shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmp "$root/tmp"
mount --rbind /dev "$root/dev"
mount --bind "$data" "$root/data"
exec chroot "$root" "$@"
"""

OWN_NETWORK = "ip link set lo up"

NO_RIGHTS = ("--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs")


class Container:
    """One container of an image, ``told`` being the image's configuration; its own network has nothing but loopback."""

    def __init__(
        self,
        root: Path,
        image_config: Mapping[str, Any],
        data: Path,
        settings: Mapping[str, str],
        *,
        command: Sequence[str] = (),
        own_network: bool = True,
    ) -> None:
        """Prepare it; ``command`` stands behind the image's entry point, ``data`` is its volume."""
        self._root = root
        self._image_config = image_config
        self._data = data
        self._environment = dict(each.split("=", 1) for each in image_config["Env"]) | dict(settings)
        self._command = [*image_config["Entrypoint"], *(command or image_config["Cmd"])]
        self._own_network = own_network
        self._said = data.parent / f"{data.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        user, group = map(int, self._image_config["User"].split(":"))
        self._data.mkdir(exist_ok=True)
        os.chown(self._data, user, group)  # as a new volume takes over from the image
        namespaces = ["--mount", "--pid", "--fork", "--kill-child", *(["--net"] if self._own_network else [])]
        set_up = f"{OWN_NETWORK}\n{SET_UP}" if self._own_network else SET_UP
        with self._said.open("ab") as said:
            self._process = subprocess.Popen(
                [
                    "unshare",
                    *namespaces,
                    "sh",
                    "-c",
                    set_up,
                    "sh",
                    self._root,
                    self._data,
                    *self._as_user(self._command),
                ],
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process 1 of the container, as it is called outside."""
        return self._children(self._outer.pid)[0]

    @property
    def worker(self) -> int:
        return self._children(self.pid)[0]

    @property
    def said(self) -> str:
        return self._said.read_text()

    @property
    def hears(self) -> bool:
        """Whether a stop signal would get through: to process 1, unlike any other, only once it has a handler."""
        with suppress(FileNotFoundError, IndexError):
            status = Path(f"/proc/{self.pid}/status").read_text()
            caught = int(status.partition("SigCgt:")[2].split()[0], 16)
            return bool(caught >> (signal.Signals[self._image_config["StopSignal"]] - 1) & 1)
        return False

    @property
    def is_healthy(self) -> bool:
        """Whether the image's own HEALTHCHECK, run in the container, says so."""
        with suppress(FileNotFoundError, IndexError):
            return self.run(*self._as_user(self._image_config["Healthcheck"]["Test"][1:])).returncode == 0
        return False

    def get_healthy(self, seconds: float = 30) -> float:
        """Return how long it took."""
        began = time.monotonic()
        wait_until(lambda: self.is_healthy, seconds, f"the container to be healthy, see {self._said}")
        return time.monotonic() - began

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container as root, which may do more there than the service may."""
        inside = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--net", "--root", "--wd"]
        return subprocess.run([*inside, *command], capture_output=True, text=True, check=False)

    def run_as_user(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container as the service runs, with its settings."""
        return self.run(*self._as_user(command))

    def ends(self, within: float = 30) -> int:
        """Return its exit code."""
        return self._outer.wait(within)

    def stop(self, within: float = 30) -> tuple[int, float]:
        """Do what ``docker stop`` does; return the exit code and how many seconds it took."""
        asked = time.monotonic()
        os.kill(self.pid, signal.Signals[self._image_config["StopSignal"]])
        return self.ends(within), time.monotonic() - asked

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._outer.poll() is None:
            self._outer.kill()  # and process 1 with it, and all others with that
            self._outer.wait()

    @property
    def _outer(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            raise RuntimeError("start it first")
        return self._process

    def _as_user(self, command: Sequence[str]) -> list[str]:
        user, group = self._image_config["User"].split(":")
        variables = [f"{name}={value}" for name, value in self._environment.items()]
        return [
            *("setpriv", f"--reuid={user}", f"--regid={group}", *NO_RIGHTS),
            *("env", "-i", "-C", self._image_config["WorkingDir"], *variables, *command),
        ]

    @staticmethod
    def _children(parent: int) -> list[int]:
        return [int(each) for each in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
