"""The largest state there may be passes through a node in pieces."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref

import pytest

from l02.handlers.state.stores.content import PartsReader, pieces_of
from tests.state.conftest import LIMIT, Servers
from tests.state.test_kills import ROOT

MIB = 1024 * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from Linux' /proc")
async def test_memory_is_bounded(servers: Servers, name: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.state.large_state", name, servers.postgres, servers.nats),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    saving, loading = map(int, output.splitlines()[-1].split())
    assert saving < 48 * MIB
    assert loading < LIMIT + 64 * MIB


def test_what_was_read_is_gone_with_its_reader() -> None:
    """Without waiting for the garbage collector: a few loads would else hold as many states."""
    gc.disable()
    try:
        reader = PartsReader()
        for piece in pieces_of({"conversation": bytes(MIB), "seen": b"3"}):
            reader.feed(piece)
        assert reader.parts()["seen"] == b"3"
        gone = weakref.ref(reader)
        del reader
        assert gone() is None
    finally:
        gc.enable()
