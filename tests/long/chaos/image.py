"""Build the image and run it for real, without a container engine; exit code 1 at any deviation.

    python -m tests.long.chaos.image

As root, on a machine with ``apt-get install -y --no-install-recommends buildah debootstrap rabbitmq-server``.
"""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bg_ingest.server import KILL_TIMEOUT_SECONDS
from tests.integration.processes import free_port, start_ministack, start_server
from tests.integration.rabbitmq_node import running_node
from tests.long.chaos.buildah import BASE, build, config, need_tools, size, unpack
from tests.long.chaos.container import Container
from tests.long.chaos.processes import HOST, ROOT, run_folder, wait_until
from tests.long.chaos.report import Report

IMAGE = "diabetesai/bg-ingest"

MAX_BYTES = 180_000_000
"""Most bytes on top of the base."""

MAX_DRAIN_SECONDS = 20.0
"""Most seconds from SIGTERM to the end."""

UNWANTED_TOOLS = ("pip", "pip3", "gcc", "cc", "make", "hatchling", "uv", "git")
"""Commands that build or install, which the image must not contain."""

LEFTOVER_PATHS = ("root/.cache", "build", "tmp/*", "opt/bg-ingest/**/pip", "opt/bg-ingest/**/hatchling", "**/*.whl")


CRASHING = """
import functools, anyio, workers.supervisor, workers.build, workers.refresher

async def crash(self, *, task_status):
    task_status.started()
    await anyio.sleep(2)
    raise KeyError("a bug")

workers.refresher.Refresher.__call__ = crash
workers.build.CrashLimit = functools.partial(workers.supervisor.CrashLimit, crashes=1)
"""
"""File with a crashing actor, and a limit of one crash.

Ten crashes take over six minutes of growing delays; their count is tested in virtual time.
"""


def main() -> None:
    """Build, inspect and run the image."""
    need_tools()
    build(IMAGE)
    report = Report("The image")
    image_config = config(IMAGE)
    check_size(report, size(BASE), size(IMAGE))
    with unpack(IMAGE) as root, run_folder("image") as folder:
        check_contents(report, root, image_config)
        run_on_embedded_defaults(report, root, image_config, folder)
        stop_while_starting(report, root, image_config, folder)
        lose_the_worker(report, root, image_config, folder)
        crash_the_runtime(report, root, image_config, folder)
        hang_in_the_drain(report, root, image_config, folder)
        refuse_wrong_settings(report, root, image_config, folder)
        run_on_real_parts(report, root, image_config, folder)
        report.show()


def check_size(report: Report, base: int, whole: int) -> None:
    added = whole - base
    report.figure("base", megabytes(base))
    report.check("on top of it", megabytes(added), holds=added <= MAX_BYTES, expected=f"at most {megabytes(MAX_BYTES)}")


def check_contents(report: Report, root: Path, image_config: dict[str, Any]) -> None:
    user = image_config["User"].partition(":")[0]
    report.check("user", user, holds=user.isdecimal() and int(user) > 0, expected="a number, not root's")
    folders = [
        root / folder / name for folder in ("usr/bin", "usr/local/bin", "opt/bg-ingest/bin") for name in UNWANTED_TOOLS
    ]
    found = [*filter(Path.exists, folders), *find_leftovers(root)]
    names = ", ".join(str(each.relative_to(root)) for each in found)
    report.check("tools and leftovers", names or "none", holds=not found, expected="none")
    code = (each.lstat() for each in (root / "opt").rglob("*") if not each.is_symlink())
    writable = sum(bool(each.st_uid or each.st_mode & 0o022) for each in code)
    report.check("files of code that others than root may write", writable, holds=not writable, expected="none")


def find_leftovers(root: Path) -> Iterator[Path]:
    for pattern in LEFTOVER_PATHS:
        yield from root.glob(pattern)


def run_on_embedded_defaults(report: Report, root: Path, image_config: dict[str, Any], folder: Path) -> None:
    """Run ``docker run -p 5001:5001 --env-file .env`` with the example, opened, as .env."""
    with Container(root, image_config, folder / "data", example(API_OPEN="true")) as container:
        report.figure("start to healthy", f"{container.get_healthy():.1f} s")
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{container.worker}/status").read_text().splitlines()
        )
        rights = f"uid {status['Uid'].split()[0]}, capabilities {int(status['CapEff'], 16)}, {status['NoNewPrivs']}"
        expected = f"uid {image_config['User'].partition(':')[0]}, capabilities 0, 1"
        report.check(
            "rights: uid, capabilities, no new privileges", rights, holds=rights == expected, expected=expected
        )
        refused = container.run("touch", "/opt/written").stderr
        report.check("root file system", refused.strip(), holds="Read-only" in refused, expected="read-only")
        published = listens_on_all(container, 5001)
        report.check("listens at the target of -p", yes_or_no(published), holds=published, expected="yes")
        report.figure("kept in /data", keep_data(folder / "data"))
        code, seconds = container.stop()
        report.check("exit code after SIGTERM", code, holds=code == 0, expected="0")
        report.check(
            "SIGTERM to its end",
            f"{seconds:.1f} s",
            holds=seconds <= MAX_DRAIN_SECONDS,
            expected=f"{MAX_DRAIN_SECONDS:g} s",
        )
    with Container(root, image_config, folder / "data", example(API_OPEN="true")) as container:
        container.get_healthy()
        report.figure("started again on the same volume", "healthy")


def stop_while_starting(report: Report, root: Path, image_config: dict[str, Any], folder: Path) -> None:
    """Stop it once it handles signals, long before it is ready; earlier, only an engine's --init would help."""
    with Container(root, image_config, folder / "early", example(API_OPEN="true")) as container:
        began = time.monotonic()
        wait_until(lambda: container.hears, 30, "the container to handle a stop signal", every=0.002)
        report.figure("deaf to SIGTERM after the start, without --init", f"{time.monotonic() - began:.2f} s")
        code, _ = container.stop()
        report.check("exit code after SIGTERM while it started", code, holds=code == 0, expected="0")


def lose_the_worker(report: Report, root: Path, image_config: dict[str, Any], folder: Path) -> None:
    with Container(root, image_config, folder / "lost", example(API_OPEN="true")) as container:
        container.get_healthy()
        os.kill(container.worker, signal.SIGKILL)
        code = container.ends()
        report.check("exit code after its worker was killed", code, holds=code == 1, expected="1")


def crash_the_runtime(report: Report, root: Path, image_config: dict[str, Any], folder: Path) -> None:
    """Start it with an actor that has a bug, by a file that Python loads before ours."""
    data = folder / "crash"
    data.mkdir()
    (data / "sitecustomize.py").write_text(CRASHING)
    with Container(root, image_config, data, example(API_OPEN="true", PYTHONPATH="/data")) as container:
        code = container.ends()
        crashed = "runtime_crashed" in container.said
        report.check(
            "exit code after a crash of its runtime", code, holds=code == 1 and crashed, expected="1, and the reason"
        )


def hang_in_the_drain(report: Report, root: Path, image_config: dict[str, Any], folder: Path) -> None:
    with Container(root, image_config, folder / "hang", example(API_OPEN="true")) as container:
        container.get_healthy()
        os.kill(container.worker, signal.SIGSTOP)
        code, seconds = container.stop(within=45)
        report.check("exit code when its drain had to be killed", code, holds=code == 1, expected="1")
        least, most = KILL_TIMEOUT_SECONDS - 1, KILL_TIMEOUT_SECONDS + 5
        report.check("after", f"{seconds:.1f} s", holds=least < seconds < most, expected=f"{KILL_TIMEOUT_SECONDS} s")


def refuse_wrong_settings(report: Report, root: Path, image_config: dict[str, Any], folder: Path) -> None:
    with Container(root, image_config, folder / "production", example(ENVIRONMENT="production")) as container:
        code = container.ends()
        report.check("exit code of production without settings", code, holds=code == 2, expected="2")
        listed = "DYNAMODB_TABLE is missing" in container.said and "Traceback" not in container.said
        report.check("its output lists missing settings", yes_or_no(listed), holds=listed, expected="yes")


def run_on_real_parts(report: Report, root: Path, image_config: dict[str, Any], folder: Path) -> None:
    """Run the steps of compose.yaml: the table, then the service; on this machine's loopback."""
    server = start_ministack(folder / "ministack")
    with running_node(folder / "rabbitmq") as node, start_server(server):
        settings = example(
            HOST=HOST,
            PORT=str(free_port()),
            DYNAMODB_ENDPOINT=f"http://{HOST}:{server.port}",
            RABBITMQ_URL=node.vhost("image"),
            AWS_ACCESS_KEY_ID="local",
            AWS_SECRET_ACCESS_KEY="local",
        )
        tables = ["tables", "create"]
        with Container(root, image_config, folder / "real", settings, command=tables, own_network=False) as container:
            code = container.ends()
            report.check("exit code of tables create", code, holds=code == 0, expected="0")
        with Container(root, image_config, folder / "real", settings, own_network=False) as container:
            seconds = container.get_healthy()
            advised = container.run_as_user("bg-ingest", "doctor")
            report.check(
                "exit code of doctor",
                advised.returncode,
                holds=advised.returncode == 0,
                expected=f"0: {advised.stdout}",
            )
            report.figure("start to healthy on DynamoDB's and RabbitMQ's like", f"{seconds:.1f} s")
            exchange = "/exchanges/image/bg.events"
            wait_until(lambda: node.api.get(exchange).is_success, 10, "RabbitMQ to have the exchange")
            code, _ = container.stop()
            report.check("exit code after SIGTERM there", code, holds=code == 0, expected="0")


def example(**settings: str) -> dict[str, str]:
    """Return .env.example in the format of ``docker --env-file``, with only these settings set."""
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#")) | settings


def listens_on_all(container: Container, port: int) -> bool:
    table = Path(f"/proc/{container.pid}/net/tcp").read_text().splitlines()[1:]
    listening = "0A"
    return any(f"00000000:{port:04X}" == line.split()[1] and line.split()[3] == listening for line in table)


def keep_data(data: Path) -> str:
    return ", ".join(sorted(str(each.relative_to(data)) for each in data.rglob("*") if each.is_file()))


def yes_or_no(holds: bool) -> str:  # noqa: FBT001 - the only argument
    return "yes" if holds else "no"


def megabytes(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB"


if __name__ == "__main__":
    main()
