"""Which context-orchestrator a node's session bridge speaks to, and in what sandbox it runs.

The node's own (`l02 mcp context`) may do what it needs and no more: read this package, and connect to PostgreSQL. One
that is configured is a command of whoever runs the node, like the node itself: it gets limits, a directory of its own
and the variables that it is to be given, but no walls, since it must reach what it works with. Either ends with the
node, however that ends.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec

import l02
from l02.bus.commands.react import EventReader
from l02.bus.log.repository import Repository
from l02.domain.agent.state import AgentState
from l02.domain.specification import RuntimeClass, ToolServer
from l02.domain.specification.secrecy import HidesEnvironment
from l02.handlers.sandbox.confinement.confine import package_paths
from l02.handlers.sandbox.confinement.linux import IS_LINUX
from l02.handlers.sessions import BridgeSettings, SessionBridge
from l02.handlers.tool_servers import ToolServers

OFF = "off"
_POSTGRES_PORT = 5432
# Where PostgreSQL listens if its URL names no host.
_SOCKETS = ("/run/postgresql", "/var/run/postgresql")
_TLS_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")


class SessionSettings(HidesEnvironment, frozen=True, kw_only=True):
    """`server` is a command line, None for the node's own, or `off`; `environment` what a configured one is given."""

    server: str | None = None
    environment: dict[str, str] = msgspec.field(default_factory=dict)
    bridge: BridgeSettings = BridgeSettings()


@asynccontextmanager
async def open_session_bridge(
    reader: EventReader,
    agents: Repository[AgentState],
    settings: SessionSettings,
    postgres_url: str,
    data_dir: Path,
    node_id: str,
) -> AsyncIterator[SessionBridge | None]:
    """A node's bridge, None if it is to have none; its server ends with the context."""
    if settings.server == OFF:
        yield None
        return
    if settings.server is None:
        server = own_server(postgres_url)
        # Other systems know no such walls; there it has limits only.
        runtime_class = RuntimeClass.LANDLOCK if IS_LINUX else RuntimeClass.PROCESS
    else:
        server = ToolServer(command=tuple(shlex.split(settings.server)), environment=settings.environment)
        runtime_class = RuntimeClass.PROCESS
    async with ToolServers(data_dir / "session", data_dir / "logs", runtime_class) as servers:
        yield SessionBridge(reader, agents, servers, server, settings.bridge, node_id)


def own_server(postgres_url: str) -> ToolServer:
    """`l02 mcp context` on this database. The URL goes by the environment, as arguments can be read by every user."""
    query = parse_qs(urlsplit(postgres_url).query)
    hosts = list(_hosts(postgres_url)) or [("localhost", str(_POSTGRES_PORT)), *((path, "") for path in _SOCKETS)]
    certificates = [path for name in _TLS_FILES for path in query.get(name, [])]
    return ToolServer(
        command=(sys.executable, "-m", "l02.cli", "mcp", "context"),
        read=(*package_paths(l02), *_existing(certificates)),
        # To connect to a socket is to write to it.
        write=tuple(_existing(host for host, _ in hosts)),
        network=tuple(f"{host}:{port}" for host, port in hosts if not host.startswith("/")),
        environment={"L02_POSTGRES_URL": postgres_url},
    )


def _hosts(url: str) -> Iterator[tuple[str, str]]:
    """The hosts that a PostgreSQL URL names, each with its port; one that is a path is a socket's directory."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    named = parts.netloc.rpartition("@")[2] or ",".join(query.get("host", []))
    ports = ",".join(query.get("port", [])).split(",")
    for number, host in enumerate(named.split(",")):
        name, port = _host_and_port(host)
        if name:
            yield name, port or ports[min(number, len(ports) - 1)] or str(_POSTGRES_PORT)


def _host_and_port(host: str) -> tuple[str, str]:
    if host.startswith("["):
        name, _, rest = host.partition("]")
        return f"{name}]", rest.removeprefix(":")
    name, _, port = host.partition(":")
    return name, port


def _existing(paths: Iterable[str]) -> Iterator[str]:
    return (path for path in paths if path.startswith("/") and Path(path).exists())
