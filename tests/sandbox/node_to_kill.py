"""A node of its own process for tests that kill it: starts one of everything, prints the process ids, and waits."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

from l02.domain.specification import RuntimeClass
from l02.handlers.sandbox.confinement.policy import ProgramEntry, PythonEntry, SandboxPolicy
from l02.handlers.sandbox.program import program_argv, program_environment
from l02.handlers.sandbox.sandboxes import Sandboxes


async def main(directory: str, module: str) -> None:
    policy = SandboxPolicy(workspace=f"{directory}/workspace")
    command = ("/bin/sh", "-c", "setsid sleep 601 & sleep 602 & wait")
    async with Sandboxes([module]) as sandboxes:
        for runtime_class in (RuntimeClass.LANDLOCK, RuntimeClass.PROCESS):
            entry = PythonEntry(f"{module}:serve")
            agent = await sandboxes.spawn(runtime_class, policy, entry, f"{directory}/agent.log")
            if runtime_class is RuntimeClass.PROCESS:
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(agent.socket, b'["daemon"]\n')
                await loop.sock_recv(agent.socket, 100)
            await sandboxes.spawn(runtime_class, policy, ProgramEntry(command), f"{directory}/program.log")
            subprocess.Popen(  # noqa: ASYNC220 - as an MCP client does
                program_argv(runtime_class, policy, command), env=program_environment(policy)
            )
        slow = SandboxPolicy(workspace=f"{directory}/workspace", cpu_millis=50)
        burning = ProgramEntry((sys.executable, "-c", "import os; os.fork()\nwhile True: pass"))
        for runtime_class in (RuntimeClass.LANDLOCK, RuntimeClass.PROCESS):
            await sandboxes.spawn(runtime_class, slow, burning, f"{directory}/burning.log")
        print(json.dumps({"pid": os.getpid()}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
