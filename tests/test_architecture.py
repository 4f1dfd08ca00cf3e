"""The rules of the house: imports run one way, a file is one room, the domain is pure."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAX_LINES = 400
MAY_IMPORT = {
    "domain": {"domain"},
    "bus": {"domain", "bus"},
    "handlers": {"domain", "bus", "handlers", "l02.agent"},
    "projections": {"domain", "bus", "projections"},
    "l02": {"domain", "bus", "handlers", "projections", "l02", "l02.agent"},
    "l02.agent": {"l02.agent"},
}
# What handlers stand on: not components themselves.
SHARED_BY_HANDLERS = {"sandbox", "channel", "processes", "tool_servers"}
IMPURE = {"asyncio", "datetime", "nats", "os", "pathlib", "random", "secrets", "socket", "subprocess", "time", "uuid"}

SOURCES = sorted(
    path for package in ("domain", "bus", "handlers", "projections", "l02") for path in (ROOT / package).rglob("*.py")
)
ALL_FILES = SOURCES + sorted(
    path for folder in ("tests", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(module: str) -> str:
    return "l02.agent" if module == "l02.agent" or module.startswith("l02.agent.") else module.split(".")[0]


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            assert node.module
            yield node.module


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_imports_run_one_way(path: Path) -> None:
    allowed = MAY_IMPORT[layer(module_name(path))]
    for module in imported_modules(path):
        if layer(module) in MAY_IMPORT:
            assert layer(module) in allowed, f"{module_name(path)} may not import {module}"


@pytest.mark.parametrize("path", [path for path in SOURCES if "handlers" in path.parts], ids=ids)
def test_handlers_do_not_import_each_other(path: Path) -> None:
    own = module_name(path).split(".")[1:2]
    for module in imported_modules(path):
        parts = module.split(".")
        if parts[0] == "handlers" and len(parts) > 1:
            assert parts[1:2] == own or parts[1] in SHARED_BY_HANDLERS, f"{module_name(path)} imports {module}"


@pytest.mark.parametrize("path", [path for path in SOURCES if "domain" in path.parts], ids=ids)
def test_the_domain_is_pure(path: Path) -> None:
    assert not IMPURE & {module.split(".")[0] for module in imported_modules(path)}


@pytest.mark.parametrize("path", ALL_FILES, ids=ids)
def test_a_file_is_one_room(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_a_file_says_why_it_exists(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "begin with a docstring that says why the file exists"


def test_the_sdk_imports_nothing_but_msgspec() -> None:
    script = (
        "import sys; before = set(sys.modules); import l02.agent, l02.agent.runtime; "
        "print(*{name.split('.')[0] for name in sys.modules.keys() - before})"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    foreign = set(answer.stdout.split()) - set(sys.stdlib_module_names) - {"l02", "msgspec", "typing_extensions"}
    assert not foreign
