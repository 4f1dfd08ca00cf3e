"""What it costs to watch many agents that rest."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import msgspec
import pytest

from l02.domain.specification import RuntimeClass
from l02.handlers.sandbox.confinement.policy import PythonEntry, SandboxPolicy
from l02.handlers.sandbox.sandboxes import WATCH_INTERVAL, Sandboxes
from l02.handlers.sandbox.watch.quota import DISK_INTERVAL
from tests.sandbox.conftest import INSIDE

_AGENTS = 2_000
_HERE, _ROUNDS = 50, 20


@pytest.mark.skipif(sys.platform != "linux", reason="clocks of processes are read on Linux only")
async def test_two_thousand_at_rest_take_a_fiftieth_of_a_core(
    sandboxes: Sandboxes, policy: SandboxPolicy, tmp_path: Path
) -> None:
    entry = PythonEntry(f"{INSIDE}:serve")
    processes = await asyncio.gather(
        *(
            sandboxes.spawn(
                RuntimeClass.LANDLOCK,
                msgspec.structs.replace(policy, workspace=str(tmp_path / str(number))),
                entry,
                str(tmp_path / "log"),
            )
            for number in range(_HERE)
        )
    )
    looks = []
    for _ in range(_ROUNDS):
        began = time.thread_time()
        for process in processes:
            process.watch()
            _ = process.disk_is_due
        looks.append((time.thread_time() - began) / _HERE)
    for process in processes:
        process.kill()
        await process.wait()
        process.socket.close()
    a_look = sorted(looks)[_ROUNDS // 2]
    assert _AGENTS * a_look * (1 / WATCH_INTERVAL + 1 / DISK_INTERVAL) < 0.02
