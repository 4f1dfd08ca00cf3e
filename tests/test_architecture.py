"""The rules of the house: imports run one way, a file is one room, the domain is pure."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rooms import (
    PACKAGES,
    PAGE,
    ROOT,
    SOURCES,
    circles,
    files_in_circles,
    imported_modules,
    module_name,
    room_of,
    with_picture,
)

MAX_LINES = 400
MAX_ROOMS = 15
# What lies below what: a room may import itself and what stands behind it here, and nothing else of l02.
BELOW = {
    "domain": set[str](),
    "bus.wire.agent": {"domain"},
    "bus": {"domain", "bus.wire.agent"},
    "handlers": {"domain", "bus", "bus.wire.agent"},
    "projections": {"domain", "bus", "bus.wire.agent"},
    "l02.agent": {"domain", "bus.wire.agent"},
    "l02": {"domain", "bus", "bus.wire.agent", "handlers", "projections", "l02.agent"},
}
# What handlers stand on: not components themselves.
SHARED_BY_HANDLERS = {"sandbox", "tool_servers"}
# Rooms of the domain that are of no aggregate.
OF_NO_AGGREGATE = {"domain/kernel", "domain/upcasting"}
IMPURE = {"asyncio", "datetime", "nats", "os", "pathlib", "random", "secrets", "socket", "subprocess", "time", "uuid"}

ALL_FILES = SOURCES + sorted(
    path for folder in ("tests", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)


def layer(module: str) -> str:
    own = module.removeprefix("l02.")
    return next((name for name in LAYERS if f"{own}.".startswith(f"{name.removeprefix('l02.')}.")), "l02")


# The longest name first, since `bus.wire.agent` stands in `bus`.
LAYERS = sorted(BELOW.keys() - {"l02"}, key=len, reverse=True)


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_imports_run_one_way(path: Path) -> None:
    own = layer(module_name(path))
    for module in imported_modules(path):
        if module.split(".")[0] == "l02":
            assert layer(module) in {own, *BELOW[own]}, f"{module_name(path)} may not import {module}"


@pytest.mark.parametrize("path", ALL_FILES, ids=ids)
def test_nothing_is_imported_by_a_name_that_is_not_installed(path: Path) -> None:
    assert not {module.split(".")[0] for module in imported_modules(path)} & {*PACKAGES[:-1]}


@pytest.mark.parametrize("folder", sorted({path.parent for path in SOURCES}), ids=ids)
def test_a_folder_is_a_house_of_its_own(folder: Path) -> None:
    rooms = [
        path for path in folder.iterdir() if path.suffix == ".py" and path.name not in ("__init__.py", "__main__.py")
    ]
    houses = [path for path in folder.iterdir() if (path / "__init__.py").exists() and not path.is_symlink()]
    assert len(rooms) + len(houses) <= MAX_ROOMS


@pytest.mark.parametrize("path", [path for path in SOURCES if "handlers" in path.parts], ids=ids)
def test_handlers_do_not_import_each_other(path: Path) -> None:
    own = module_name(path).split(".")[2:3]
    for module in imported_modules(path):
        parts = module.split(".")
        if parts[:2] == ["l02", "handlers"] and len(parts) > 2:
            assert parts[2:3] == own or parts[2] in SHARED_BY_HANDLERS, f"{module_name(path)} imports {module}"


@pytest.mark.parametrize("path", [path for path in SOURCES if path.parts[len(ROOT.parts)] == "bus"], ids=ids)
def test_the_bus_knows_no_aggregate(path: Path) -> None:
    for module in imported_modules(path):
        room = room_of(module) if module.split(".")[0] == "l02" else ""
        assert not room.startswith("domain/") or room in OF_NO_AGGREGATE, f"{module}: `connect` is given the table"


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


def test_rooms_import_one_way() -> None:
    assert not circles()


def test_files_import_one_way() -> None:
    assert not files_in_circles()


def test_the_picture_of_the_rooms_is_true() -> None:
    assert PAGE.read_text() == with_picture(PAGE.read_text()), "run `python -m tests.rooms`"
