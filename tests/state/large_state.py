"""Saves a state as large as it may be, loads it, and says how much memory each took beside the state itself."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from tests.state.conftest import LIMIT, Servers


def peak_from_now() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def memory(field: str) -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:")]
    return int(line.split()[1]) * 1024


async def main(name: str, postgres: str, nats: str) -> None:
    parts = {"conversation": os.urandom(LIMIT - 1000), "seen": b"3"}
    async with Servers(postgres, nats).opened(name) as store:
        small = await store.save("a1", "warm-up", {"seen": b"3"})
        await store.load(small.storage_location, small.sha256)
        before = memory("VmRSS")
        peak_from_now()
        saved = await store.save("a1", "c1", parts)
        saving = memory("VmHWM") - before
        before = memory("VmRSS")
        peak_from_now()
        loaded = await store.load(saved.storage_location, saved.sha256)
        loading = memory("VmHWM") - before
        assert loaded == parts
    print(saving, loading)


asyncio.run(main(*sys.argv[1:]))
