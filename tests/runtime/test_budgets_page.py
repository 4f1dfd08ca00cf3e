"""What docs/budgets.md shows is done as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

from l02.client.client import Client
from l02.node.running import Node
from tests.runtime.test_checkpoint_cli import l02

PAGE = (Path(__file__).parents[2] / "docs" / "budgets.md").read_text()


async def test_its_commands_and_its_program(node: Node, client: Client) -> None:
    said = []
    for line in re.findall(r"^    l02 (.+)$", PAGE, re.MULTILINE):
        code, output, errors = await l02(node, *shlex.split(line))
        assert code == 0, (line, errors)
        said.append(output)
    configured, raised, reset = (
        "budget team-a is configured\n",
        "budget team-a is raised\n",
        "budget team-a begins anew\n",
    )
    assert (said[1], said[4], said[5]) == (configured, raised, reset)
    assert re.search(r"^USD per day +20.00$", said[2], re.MULTILINE)
    assert re.search(r"^team-a +research +500000 +- +20.00 +- +ask$", said[3], re.MULTILINE)
    [program] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(program, "docs/budgets.md", "exec"), names)
    assert await names["configure"](client) == 2_500_000
