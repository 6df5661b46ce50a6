"""Container with the properties of ``--read-only --cap-drop ALL --security-opt no-new-privileges``.

It is made of the kernel's namespaces alone. The service really is process 1, without rights, on a read-only root.
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
    """One container of an image, with its configuration ``image_config``; its own network has only loopback."""

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
        """Prepare the container; ``command`` follows the image's entry point, ``data`` is its volume."""
        self._root = root
        self._image_config = image_config
        self._data = data
        self._environment = dict(each.split("=", 1) for each in image_config["Env"]) | dict(settings)
        self._command = [*image_config["Entrypoint"], *(command or image_config["Cmd"])]
        self._own_network = own_network
        self._log_file = data.parent / f"{data.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        user, group = map(int, self._image_config["User"].split(":"))
        self._data.mkdir(exist_ok=True)
        os.chown(self._data, user, group)  # a new volume takes its owner from the image
        namespaces = ["--mount", "--pid", "--fork", "--kill-child", *(["--net"] if self._own_network else [])]
        set_up = f"{OWN_NETWORK}\n{SET_UP}" if self._own_network else SET_UP
        with self._log_file.open("ab") as log:
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
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Id of the container's process 1 outside the container."""
        return self._children(self._outer.pid)[0]

    @property
    def worker(self) -> int:
        return self._children(self.pid)[0]

    @property
    def said(self) -> str:
        return self._log_file.read_text()

    @property
    def hears(self) -> bool:
        """True if a stop signal has an effect: on process 1, unlike others, only once a handler is installed."""
        with suppress(FileNotFoundError, IndexError):
            status = Path(f"/proc/{self.pid}/status").read_text()
            caught = int(status.partition("SigCgt:")[2].split()[0], 16)
            return bool(caught >> (signal.Signals[self._image_config["StopSignal"]] - 1) & 1)
        return False

    @property
    def is_healthy(self) -> bool:
        """True if the image's own HEALTHCHECK succeeds in the container."""
        with suppress(FileNotFoundError, IndexError):
            return self.run(*self._as_user(self._image_config["Healthcheck"]["Test"][1:])).returncode == 0
        return False

    def get_healthy(self, seconds: float = 30) -> float:
        """Wait until the container is healthy; return the seconds."""
        began = time.monotonic()
        wait_until(lambda: self.is_healthy, seconds, f"the container to be healthy, see {self._log_file}")
        return time.monotonic() - began

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container as root, with more rights than the service."""
        inside = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--net", "--root", "--wd"]
        return subprocess.run([*inside, *command], capture_output=True, text=True, check=False)

    def run_as_user(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container with the service's rights and settings."""
        return self.run(*self._as_user(command))

    def ends(self, within: float = 30) -> int:
        """Wait for its end; return its exit code."""
        return self._outer.wait(within)

    def stop(self, within: float = 30) -> tuple[int, float]:
        """Stop the container like ``docker stop``; return the exit code and the seconds until the end."""
        asked = time.monotonic()
        os.kill(self.pid, signal.Signals[self._image_config["StopSignal"]])
        return self.ends(within), time.monotonic() - asked

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._outer.poll() is None:
            self._outer.kill()  # process 1 ends with it, and all others with process 1
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
