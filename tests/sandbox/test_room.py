"""While the disk is nearly full, agents that write are ended: first the one that writes most, and none that rests."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from l02.domain.errors import ErrorCode
from l02.domain.specification import RuntimeClass
from l02.handlers.sandbox.confinement.policy import ProgramEntry, SandboxPolicy
from l02.handlers.sandbox.sandboxes import Sandboxes
from l02.handlers.sandbox.watch import room
from l02.handlers.sandbox.watch.room import DiskRoom
from tests.sandbox.conftest import landlock_only

GIB = 1 << 30


class _Fake:
    """This process, which has written as much as a test says."""

    def __init__(self, written: int = 0) -> None:
        self.written = written
        self.ended: list[tuple[int, int]] = []

    @property
    def pids(self) -> list[int]:
        return [id(self)]

    def end_for_room(self, free: int, needed: int) -> None:
        self.ended.append((free, needed))


class _Disk:
    def __init__(self, free: int, total: int = 100 * GIB) -> None:
        self.free, self.total = free, total

    def __call__(self, path: Path) -> tuple[int, int]:
        return self.free, self.total


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> list[_Fake]:
    made = [_Fake(5 * GIB), _Fake(), _Fake()]
    by_pid = {id(one): one for one in made}
    monkeypatch.setattr(room, "written_bytes", lambda pids: sum(by_pid[pid].written for pid in pids))
    return made


def test_who_writes_most_from_then_on_is_ended(fakes: list[_Fake]) -> None:
    early, small, large = fakes
    disk = _Disk(GIB)
    watched = DiskRoom(Path(), disk)
    watched.look(fakes)
    disk.free = 100 << 20
    watched.look(fakes)
    assert not any(one.ended for one in fakes), "what was written before does not count"
    small.written += 2 << 20
    large.written += 3 << 20
    watched.look(fakes)
    assert (early.ended, small.ended, large.ended) == ([], [], [(100 << 20, 256 << 20)])
    watched.look([early, small])
    assert small.ended
    watched.look([early])
    assert not early.ended


def test_who_writes_little_is_left_alone_and_what_is_little_adds_up(fakes: list[_Fake]) -> None:
    _, small, _ = fakes
    watched = DiskRoom(Path(), _Disk(0))
    watched.look(fakes)
    for _ in range(3):
        small.written += 300 << 10
        watched.look(fakes)
    assert not small.ended
    small.written += 300 << 10
    watched.look(fakes)
    assert small.ended


@pytest.mark.parametrize(("free", "total", "is_little"), [(63, 1024, True), (65, 1024, False), (255, 99_999, True)])
def test_how_much_room_there_must_be(fakes: list[_Fake], free: int, total: int, is_little: bool) -> None:
    """256 MiB, or a sixteenth of the disk."""
    watched = DiskRoom(Path(), _Disk(free << 20, total << 20))
    watched.look(fakes)
    fakes[0].written += GIB
    watched.look(fakes)
    assert bool(fakes[0].ended) == is_little


def test_room_again(fakes: list[_Fake]) -> None:
    disk = _Disk(0)
    watched = DiskRoom(Path(), disk)
    watched.look(fakes)
    disk.free = GIB
    fakes[0].written += GIB
    watched.look(fakes)
    disk.free = 0
    watched.look(fakes)
    assert not fakes[0].ended


def test_what_the_disk_has() -> None:
    free, total = room._free_and_total(Path.cwd())
    there = os.statvfs(Path.cwd())
    assert total == there.f_blocks * there.f_frsize
    assert 0 < free <= total


@landlock_only
async def test_a_process_that_writes_is_ended(
    sandboxes: Sandboxes, policy: SandboxPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = "while true; do head -c 2000000 /dev/urandom > file; done"
    writes, rests = [
        await sandboxes.spawn(
            RuntimeClass.LANDLOCK, policy, ProgramEntry(("/bin/sh", "-c", code)), str(tmp_path / "log")
        )
        for code in (write, "sleep 60")
    ]
    watched = DiskRoom(tmp_path, _Disk(1 << 20))
    while not writes.ended:
        watched.look([writes, rests])
        await asyncio.sleep(room.ROOM_INTERVAL)
    ending = await writes.wait()
    assert ending.exceeded is not None
    assert ending.exceeded.code == ErrorCode.DISK_LIMIT_EXCEEDED.value
    assert "nearly full" in ending.cause
    assert not rests.ended
    rests.kill()
    await rests.wait()
    for process in (writes, rests):
        process.socket.close()


@landlock_only
async def test_a_node_looks_by_itself(policy: SandboxPolicy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_free_and_total", _Disk(1 << 20))
    code = "while true; do head -c 2000000 /dev/urandom > file; done"
    async with Sandboxes() as sandboxes:
        entry = ProgramEntry(("/bin/sh", "-c", code))
        process = await sandboxes.spawn(RuntimeClass.LANDLOCK, policy, entry, str(tmp_path / "log"))
        assert "nearly full" in (await process.wait()).cause
        process.socket.close()
