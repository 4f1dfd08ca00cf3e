"""Contenders take turns on the same servers, so that a slow minute of the machine is everybody's."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.peer_venv import PeerVenv
from l02.bus.embedded import EmbeddedNats, EmbeddedPostgres

_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Servers:
    """The addresses of an embedded nats-server and an embedded PostgreSQL, every write of both synced."""

    nats: str
    postgres: str


@asynccontextmanager
async def servers() -> AsyncIterator[Servers]:
    """Fresh servers."""
    with TemporaryDirectory(prefix="l02-bench-") as directory:
        nats, postgres = EmbeddedNats(Path(directory) / "nats"), EmbeddedPostgres(Path(directory) / "postgres")
        try:
            yield Servers(await nats.start(), await postgres.start())
        finally:
            await nats.stop()
            await postgres.stop()


@dataclass(frozen=True)
class Contender:
    """A program that measures one thing, and its options."""

    name: str
    command: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    async def measure(self, options: Mapping[str, Any]) -> dict[str, float]:
        """Run it once. What goes wrong in it ends the benchmark."""
        process = await asyncio.create_subprocess_exec(
            *self.command,
            json.dumps({**options, **self.options}),
            stdout=asyncio.subprocess.PIPE,
            cwd=_ROOT,
            env=os.environ | {"PYTHONPATH": str(_ROOT)},
        )
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        if process.returncode:
            raise RuntimeError(f"{self.name} ended with {process.returncode}")
        figures: dict[str, float] = json.loads(output.splitlines()[-1])
        return figures


def ours(script: str, **options: Any) -> Contender:
    """One of `benchmarks/ours`."""
    return Contender("l02", (sys.executable, "-m", f"benchmarks.ours.{script}"), options)


def peer(name: str, script: str, **options: Any) -> Contender:
    """One of `benchmarks/peers`."""
    return Contender(name, (str(PeerVenv.python), str(_ROOT / "benchmarks" / "peers" / f"{script}.py")), options)


async def contest(contenders: list[Contender], options: Mapping[str, Any], rounds: int) -> dict[str, dict[str, float]]:
    """The medians of each contender's figures over `rounds` runs, by the contender's name."""
    taken = await each_run(contenders, options, rounds)
    return {name: {key: median(run[key] for run in runs) for key in runs[0]} for name, runs in taken.items()}


async def each_run(
    contenders: list[Contender], options: Mapping[str, Any], rounds: int
) -> dict[str, list[dict[str, float]]]:
    """Each contender's figures of each of `rounds` runs, by the contender's name."""
    taken: dict[str, list[dict[str, float]]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            taken[contender.name].append(await contender.measure(options))
    return taken
