"""The disk quota of a workspace: what counts, whatever is done to the files, and what happens at it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l02.domain.errors import ErrorCode
from l02.domain.specification import RuntimeClass
from l02.handlers.sandbox.confinement.policy import ProgramEntry, SandboxPolicy
from l02.handlers.sandbox.process import Threshold
from l02.handlers.sandbox.sandboxes import Sandboxes
from l02.handlers.sandbox.watch.disk import BLOCK, DEEPEST, TooDeep, disk_usage
from l02.handlers.sandbox.watch.quota import DiskThreads
from tests.sandbox.test_lifecycle import until

MIB = 1 << 20


def fill(path: Path, size: int) -> None:
    path.write_bytes(os.urandom(size))


def test_what_is_not_there_takes_nothing(tmp_path: Path) -> None:
    assert disk_usage(tmp_path / "none", ()) == 0
    (tmp_path / "file").touch()
    assert disk_usage(tmp_path / "file", ()) == 0


names = st.sampled_from(["a", "b", "c", "d"])
trees = st.recursive(st.integers(0, 40_000), lambda below: st.dictionaries(names, below, max_size=3), max_leaves=8)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(names, trees, max_size=4))
def test_all_of_a_tree_is_counted(tree: dict[str, object]) -> None:
    with tempfile.TemporaryDirectory() as root:
        build(Path(root), tree)
        counted = [path.lstat() for path in Path(root).rglob("*")]
        assert disk_usage(Path(root), ()) == sum(max(found.st_blocks * 512, 4096) for found in counted)


def build(folder: Path, tree: dict[str, object]) -> None:
    for name, content in tree.items():
        if isinstance(content, dict):
            (folder / name).mkdir()
            build(folder / name, content)
        else:
            assert isinstance(content, int)
            fill(folder / name, content)


def test_names_of_one_file_holes_and_links_take_no_more_than_they_do(tmp_path: Path) -> None:
    fill(tmp_path / "one", MIB)
    for number in range(50):
        os.link(tmp_path / "one", tmp_path / f"name {number}")
    with (tmp_path / "holes").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "away").symlink_to("/")
    assert MIB <= disk_usage(tmp_path, ()) <= MIB + 4 * BLOCK


def test_a_walk_ends_at_enough_however_many_files_there_are(tmp_path: Path) -> None:
    for number in range(5_000):
        (tmp_path / str(number)).touch()
    assert disk_usage(tmp_path, ()) == 5_000 * BLOCK
    assert disk_usage(tmp_path, (), enough=100 * BLOCK) == 101 * BLOCK


def open_files() -> int:
    return len([*Path("/proc/self/fd").iterdir()])


def nest(folder: Path, levels: int) -> None:
    """Directories in each other, below what a path can name."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(levels):
        with suppress(FileExistsError):
            os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)


def test_directories_are_measured_to_a_depth_that_no_path_reaches(tmp_path: Path) -> None:
    nest(tmp_path, DEEPEST - 1)
    before = open_files()
    assert disk_usage(tmp_path, ()) == (DEEPEST - 1) * BLOCK
    nest(tmp_path, DEEPEST)
    with pytest.raises(TooDeep):
        disk_usage(tmp_path, ())
    assert open_files() == before
    subprocess.run(["rm", "-rf", str(tmp_path / ("d" * 200))], check=True)


def test_what_changes_meanwhile_does_no_harm(tmp_path: Path) -> None:
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            for number in range(20):
                (tmp_path / f"{number}" / "below").mkdir(parents=True, exist_ok=True)
                (tmp_path / f"{number}" / "below" / "file").touch()
            (tmp_path / "0").rename(tmp_path / "moved")
            (tmp_path / "0").symlink_to("/")
            shutil.rmtree(tmp_path / "moved")
            (tmp_path / "0").unlink()
            shutil.rmtree(tmp_path / "7", ignore_errors=True)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        for _ in range(300):
            assert disk_usage(tmp_path, ()) <= 3 * 21 * BLOCK
    finally:
        done.set()
        changing.join()


@pytest.mark.skipif(sys.platform != "linux", reason="open files are seen on Linux only")
def test_what_has_no_name_any_more_counts_while_it_is_open(tmp_path: Path) -> None:
    with (tmp_path / "gone").open("w+b") as file, (tmp_path / "there").open("w+b") as other:
        for each in (file, other):
            each.write(os.urandom(MIB))
            each.flush()
        (tmp_path / "gone").unlink()
        assert 2 * MIB <= disk_usage(tmp_path, (os.getpid(),)) <= 2 * MIB + 2 * BLOCK
    assert disk_usage(tmp_path, (os.getpid(),)) <= MIB + BLOCK


def test_one_that_may_not_be_read_is_measured(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    fill(tmp_path / "closed" / "file", MIB)
    (tmp_path / "closed").chmod(0)
    assert disk_usage(tmp_path, ()) >= MIB


WRITE = """
import pathlib, sys, time
for number in range({files}):
    pathlib.Path(f"file{{number}}").write_bytes(bytes(range(256)) * 4096)
    print(number, flush=True)
sys.stdin.readline()
"""


def writing(files: int) -> ProgramEntry:
    return ProgramEntry((sys.executable, "-c", WRITE.format(files=files)))


async def test_a_workspace_over_its_quota_ends_its_process(
    sandboxes: Sandboxes, policy: SandboxPolicy, tmp_path: Path
) -> None:
    small, log, told = msgspec.structs.replace(policy, disk_bytes=10 * MIB), tmp_path / "log", list[Threshold]()
    process = await sandboxes.spawn(RuntimeClass.LANDLOCK, small, writing(9), str(log))
    process.on_threshold = told.append
    async with asyncio.timeout(60):
        while not told:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert [(reached.resource, reached.limit) for reached in told][:1] == [("disk", 10 * MIB)]
    fill(Path(policy.workspace) / "more", 2 * MIB)
    with DiskThreads() as threads:
        await process.watch_disk(threads)
    ending = await process.wait()
    process.socket.close()
    assert ending.exceeded is not None
    assert (ending.exceeded.resource_type, ending.exceeded.code) == ("disk", ErrorCode.DISK_LIMIT_EXCEEDED.value)
    assert ending.exceeded.actual >= 11 * MIB
    assert ending.cause.startswith("exceeded its disk quota of 10Mi (resource_limits.disk): its workspace took 1")


async def test_one_that_begins_over_its_quota_may_make_room_but_not_add(
    sandboxes: Sandboxes, policy: SandboxPolicy, tmp_path: Path
) -> None:
    small, workspace = msgspec.structs.replace(policy, disk_bytes=5 * MIB), Path(policy.workspace)
    workspace.mkdir()
    for number in range(8):
        fill(workspace / f"old{number}", MIB)
    process = await sandboxes.spawn(RuntimeClass.LANDLOCK, small, writing(0), str(tmp_path / "log"))
    with DiskThreads() as threads:
        await process.watch_disk(threads)
        (workspace / "old1").unlink()
        await process.watch_disk(threads)
        assert not process.ended
        fill(workspace / "old1", MIB)
        await process.watch_disk(threads)
    ending = await process.wait()
    process.socket.close()
    assert "disk quota of 5Mi" in ending.cause


async def test_no_file_is_larger_than_the_quota(sandboxes: Sandboxes, policy: SandboxPolicy, tmp_path: Path) -> None:
    small, log = msgspec.structs.replace(policy, disk_bytes=MIB), tmp_path / "log"
    code = "open('large', 'wb').write(bytes(2 << 20))"
    process = await sandboxes.spawn(RuntimeClass.PROCESS, small, ProgramEntry((sys.executable, "-c", code)), str(log))
    assert (await process.wait()).cause == "exited with code 1"
    process.socket.close()
    await until(lambda: "File too large" in log.read_text())
