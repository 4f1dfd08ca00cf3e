"""A node of its own process, to be started in a control group of its own: says where it and its agents are.

The limit is one that every group has, whatever controllers the kernel has left to groups of version 2.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from l02.domain.specification import RuntimeClass
from l02.handlers.sandbox.confinement.cgroup import ControlGroups, move_below
from l02.handlers.sandbox.confinement.policy import ProgramEntry, PythonEntry, SandboxPolicy
from l02.handlers.sandbox.sandboxes import Sandboxes
from tests.sandbox.conftest import INSIDE


def group_of(pid: int | str) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text().partition("0::")[2].strip()


class Harmless(ControlGroups):
    limit_file = "cgroup.max.depth"

    def limit(self, cpu_millis: int) -> str:
        return str(cpu_millis)


async def main(base: str, directory: str) -> None:
    found = {}
    async with Sandboxes([INSIDE]) as sandboxes:
        move_below(Path(base))
        sandboxes._groups = Harmless(Path(base))
        policy = SandboxPolicy(workspace=f"{directory}/workspace", cpu_millis=500)
        made = []
        for kind in (RuntimeClass.PROCESS, RuntimeClass.LANDLOCK):
            for entry in (PythonEntry(f"{INSIDE}:serve"), ProgramEntry(("/bin/sh", "-c", "sleep 600 & read line"))):
                process = await sandboxes.spawn(kind, policy, entry, f"{directory}/log")
                made.append(process)
                assert process.control_group is not None
                limit = Path(process.control_group, Harmless.limit_file).read_text().strip()
                members = Path(process.control_group, "cgroup.procs").read_text().split()
                found[str(process.pid)] = [group_of(process.pid), limit, str(process.pid) in members]
        print(json.dumps({"node": group_of("self"), "agents": found}), flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for process in made:
            process.kill()
            await process.wait()
            process.socket.close()
        while any(Path(str(process.control_group)).exists() for process in made):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    print("gone", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
