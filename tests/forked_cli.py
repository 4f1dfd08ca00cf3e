"""`l02` in a process of its own, forked from one that has imported it: starting Python for each takes half a second.

For tests of what commands say; those of the program itself (tests/cli) start it as a person does.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NoReturn


async def forked_cli(*words: str, environment: dict[str, str]) -> tuple[int, str, str]:
    """Exit code, output and errors of `l02 words`."""
    with tempfile.TemporaryDirectory() as directory:
        request = {"words": words, "environment": environment, "directory": directory}
        async with asyncio.timeout(60):
            code = await asyncio.to_thread(_parent().ask, json.dumps(request))
        return code, (Path(directory) / "output").read_text(), (Path(directory) / "errors").read_text()


class _Parent:
    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked_cli"],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self._process.kill)

    def ask(self, request: str) -> int:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(f"{request}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@cache
def _parent() -> _Parent:
    return _Parent()


def _serve() -> None:
    for name in ("l02.cli", "l02.client.client", "l02.verify"):  # a command imports what it needs when it runs
        import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _run(Path(request["directory"]), request["words"], request["environment"])
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(directory: Path, words: list[str], environment: dict[str, str]) -> NoReturn:
    from l02.cli import main

    for descriptor, path in ((0, os.devnull), (1, directory / "output"), (2, directory / "errors")):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["l02", *words]
    code: object = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    _serve()
