"""Control groups of the kernel, where this machine lets one be divided; and when they are left alone."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from l02.handlers.sandbox.confinement.cgroup import ControlGroups, is_delegated


def mounted() -> Path | None:
    """Where groups of version 2 are, if they may be made here."""
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields = line.split()
            if fields[fields.index("-") + 1] == "cgroup2" and os.access(fields[4], os.W_OK):
                return Path(fields[4])
    return None


@pytest.fixture
def group() -> Iterator[Path]:
    """A group that this test alone has."""
    top = mounted()
    if top is None:
        pytest.skip("no control groups of version 2 can be made here")
    base = top / f"l02-test-{secrets.token_hex(4)}"
    base.mkdir()
    yield base
    for below in base.iterdir():
        if below.is_dir():
            below.rmdir()
    base.rmdir()


def test_one_with_the_processes_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu memory\n")
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n1\n")
    assert not is_delegated(tmp_path)
    (tmp_path / "cgroup.procs").write_text(f"{os.getpid()}\n")
    assert is_delegated(tmp_path)


def test_one_without_the_controller_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset memory\n")
    assert not is_delegated(tmp_path)


@pytest.mark.parametrize(
    ("millis", "limit"), [(500, "50000 100000"), (2000, "200000 100000"), (1, "1000 100000"), (15, "1500 100000")]
)
def test_a_share_is_a_quota_of_each_period(tmp_path: Path, millis: int, limit: str) -> None:
    group = ControlGroups(tmp_path).make(millis)
    assert (group / "cpu.max").read_text() == limit


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are a part of Linux")
async def test_each_agent_is_in_one_of_its_own_and_that_goes_with_it(group: Path, tmp_path: Path) -> None:
    script = f'echo $$ > {group}/cgroup.procs; exec {sys.executable} -m tests.sandbox.in_control_group "$@"'
    node = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-c", script, "sh", str(group), str(tmp_path)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert node.stdout and node.stdin
    async with asyncio.timeout(60):
        said = json.loads(await node.stdout.readline())
        assert said["node"].endswith(f"{group.name}/l02-node")
        places = [place for place, *_ in said["agents"].values()]
        assert len(set(places)) == 4
        assert all(f"{group.name}/l02-agent-" in place for place in places)
        assert all(limit == "500" and is_there for _, limit, is_there in said["agents"].values())
        node.stdin.write(b"end\n")
        assert await node.stdout.readline() == b"gone\n"
        assert await node.wait() == 0
