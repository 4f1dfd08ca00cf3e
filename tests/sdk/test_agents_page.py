"""The page about writing an agent is followed: its files are made as they are printed, and its own tests pass."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from l02.agent.context import Context
from l02.agent.loader import load
from l02.client.specification_file import load_specification

PAGE = (Path(__file__).parents[2] / "docs" / "agents.md").read_text()
FILES = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


def test_its_files_are_an_agent_and_its_tests_pass(tmp_path: Path) -> None:
    assert sorted(FILES) == ["courier.py", "courier.yaml", "test_courier.py"]
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    specification = load_specification(tmp_path / "courier.yaml")
    assert specification.entrypoint is not None
    agent = load(specification.entrypoint)
    assert {name: tool.description.idempotent for name, tool in agent.tools.items()} == {"weigh": True, "post": False}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", "test_courier.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, "2 passed" in done.stdout) == (0, True), done.stdout + done.stderr


def test_it_names_all_that_a_handler_has() -> None:
    methods = {name for name, value in vars(Context).items() if callable(value) and not name.startswith("_")}
    assert {name for name in methods if f"`ctx.{name}(" in PAGE or f"`await ctx.{name}(" in PAGE} == methods
