"""RabbitMQ node from the distribution's package, run by the user that runs the tests."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.integration.processes import Server, free_port, start_server

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Path of Debian's package; the wrapper in ``/usr/sbin`` would switch the user."""

USER = "guest"

_numbers = count(1)


class Node:
    """A running node; ``api`` is its management API."""

    def __init__(self, server: Server, management_port: int) -> None:
        self.server = server
        self._address = f"{USER}:{USER}@127.0.0.1:{server.port}"
        self.api = httpx.Client(base_url=f"http://127.0.0.1:{management_port}/api", auth=(USER, USER), timeout=20)

    def vhost(self, name: str) -> str:
        """Make a virtual host and return its URL."""
        self.api.put(f"/vhosts/{quote(name, safe='')}").raise_for_status()
        return f"amqp://{self._address}/{quote(name, safe='')}"

    def remove_vhost(self, name: str) -> None:
        self.api.delete(f"/vhosts/{quote(name, safe='')}").raise_for_status()

    def add_user(self, vhost: str, *, configure: str, write: str, read: str) -> str:
        """Make a user with these permissions on the virtual host, and return its URL."""
        name = f"user{next(_numbers)}"
        self.api.put(f"/users/{name}", json={"password": name, "tags": ""}).raise_for_status()
        self.permit(vhost, name, configure=configure, write=write, read=read)
        return f"amqp://{name}:{name}@127.0.0.1:{self.server.port}/{quote(vhost, safe='')}"

    def permit(self, vhost: str, user: str, **permissions: str) -> None:
        self.api.put(f"/permissions/{quote(vhost, safe='')}/{user}", json=permissions).raise_for_status()

    def permit_topics(self, vhost: str, user: str, write: str) -> None:
        """Let the user publish to bg.events only with routing keys that match."""
        permission = {"exchange": "bg.events", "write": write, "read": ".*"}
        self.api.put(f"/topic-permissions/{quote(vhost, safe='')}/{user}", json=permission).raise_for_status()

    def limit_memory(self, size: str) -> None:
        """Set the memory in use from which the node blocks publishers."""
        self._control("set_vm_memory_high_watermark", "absolute", size)

    def close_connections(self, vhost: str) -> None:
        """Close all connections to the virtual host. The management API lists them only after some seconds."""
        self._control("close_all_connections", "--vhost", vhost, "closed by a test")

    def limit_queues(self, vhost: str, *, most: int) -> None:
        """Let all queues refuse more than this many events."""
        policy = {
            "pattern": ".*",
            "definition": {"max-length": most, "overflow": "reject-publish"},
            "apply-to": "queues",
        }
        self.api.put(f"/policies/{quote(vhost, safe='')}/limit", json=policy).raise_for_status()

    def _control(self, *command: str) -> None:
        node, cookie = f"t{self.server.port}@localhost", f"t{self.server.port}"
        control = [str(SERVER.with_name("rabbitmqctl")), "-n", node, "--erlang-cookie", cookie, *command]
        subprocess.run(control, env=self.server.environment, check=True, capture_output=True, timeout=60)


def can_run() -> bool:
    """Return True if RabbitMQ is installed on this machine."""
    return SERVER.exists() and shutil.which("epmd") is not None


@contextmanager
def running_node(folder: Path) -> Iterator[Node]:
    """Run a node with everything it writes in the folder; fail if RabbitMQ is not installed."""
    epmd = shutil.which("epmd") or ""
    if not can_run():
        pytest.fail("RabbitMQ is not installed: apt-get install -y --no-install-recommends rabbitmq-server")
    port, management, distribution, names = (free_port() for _ in range(4))
    # Started by us, since the one that Erlang starts by itself would outlive the node.
    of_names = Server([epmd, "-address", "127.0.0.1", "-port", str(names)], {}, folder / "epmd", names)
    environment = _configured(folder, port, management, distribution, names)
    node = Node(Server([str(SERVER)], environment, folder, port), management)
    with start_server(of_names, node.server), node.api:
        yield node


def _configured(folder: Path, port: int, management: int, distribution: int, names: int) -> dict[str, str]:
    for each in ("mnesia", "log", "generated"):
        (folder / each).mkdir(parents=True, exist_ok=True)
    (folder / "enabled_plugins").write_text("[rabbitmq_management].")
    (folder / "rabbitmq.conf").write_text(
        "loopback_users.guest = true\n"
        "vm_memory_high_watermark.absolute = 1GB\n"
        "disk_free_limit.absolute = 50MB\n"
        "management.tcp.ip = 127.0.0.1\n"
        f"management.tcp.port = {management}\n"
        "log.console = false\n"
    )
    return {
        "HOME": str(folder),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(names),
        "RABBITMQ_NODENAME": f"t{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_FEATURE_FLAGS_FILE": str(folder / "feature_flags"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_LOGS": str(folder / "log/node.log"),
        "RABBITMQ_SCHEMA_DIR": str(folder / "schema"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (f"-setcookie t{port} -kernel inet_dist_use_interface {{127,0,0,1}}"),
    }
