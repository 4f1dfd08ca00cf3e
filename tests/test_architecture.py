"""The rules of the house: imports run one way, a file is one room, the domain is pure."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

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


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_imports_run_one_way() -> None:
    wrong = [
        f"{module_name(path)} may not import {module}"
        for path in SOURCES
        for module in imported_modules(path)
        if module.split(".")[0] == "l02"
        and layer(module) not in {layer(module_name(path)), *BELOW[layer(module_name(path))]}
    ]
    assert not wrong


def test_nothing_is_imported_by_a_name_that_is_not_installed() -> None:
    top_levels = {path: {module.split(".")[0] for module in imported_modules(path)} for path in ALL_FILES}
    assert not [named(path) for path in ALL_FILES if top_levels[path] & {*PACKAGES[:-1]}]


def test_a_folder_is_a_house_of_its_own() -> None:
    full = []
    for folder in {path.parent for path in SOURCES}:
        inside = [path for path in folder.iterdir() if not path.is_symlink()]
        rooms = [path for path in inside if path.suffix == ".py" and path.stem not in ("__init__", "__main__")]
        houses = [path for path in inside if (path / "__init__.py").exists()]
        if len(rooms) + len(houses) > MAX_ROOMS:
            full.append(named(folder))
    assert not full


def test_handlers_do_not_import_each_other() -> None:
    wrong = []
    for path in (path for path in SOURCES if "handlers" in path.parts):
        own = module_name(path).split(".")[2:3]
        for module in imported_modules(path):
            room = module.split(".")[2:3] if module.startswith("l02.handlers.") else []
            if room and room != own and room[0] not in SHARED_BY_HANDLERS:
                wrong.append(f"{module_name(path)} imports {module}")
    assert not wrong


def test_the_bus_knows_no_aggregate() -> None:
    """`connect` is given the table."""
    wrong = []
    for path in (path for path in SOURCES if path.is_relative_to(ROOT / "bus")):
        for module in imported_modules(path):
            room = room_of(module) if module.split(".")[0] == "l02" else ""
            if room.startswith("domain/") and room not in OF_NO_AGGREGATE:
                wrong.append(f"{module_name(path)} imports {module}")
    assert not wrong


def test_the_domain_is_pure() -> None:
    domain = [path for path in SOURCES if "domain" in path.parts]
    assert not [named(path) for path in domain if IMPURE & {module.split(".")[0] for module in imported_modules(path)}]


def test_a_file_is_one_room() -> None:
    assert not [named(path) for path in ALL_FILES if len(path.read_text().splitlines()) > MAX_LINES]


def test_a_file_says_why_it_exists() -> None:
    """In a docstring, which it begins with."""
    assert not [named(path) for path in SOURCES if not ast.get_docstring(ast.parse(path.read_text()))]


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
