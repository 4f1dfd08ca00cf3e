"""The rooms of the house and who imports whom, read from the code; `python -m tests.rooms` draws them in the docs."""

from __future__ import annotations

import ast
from collections.abc import Set
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("domain", "bus", "handlers", "projections", "l02")
PAGE = ROOT / "docs" / "architecture.md"
_BEGIN, _END = "<!-- rooms: python -m tests.rooms -->\n", "<!-- end of rooms -->\n"
# What stands at the top of a package is one room, but for these files.
_OF_THEIR_OWN = {"domain/aggregates", "domain/upcasting"}

SOURCES = sorted(
    path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if not any(parent.is_symlink() for parent in path.parents)
)


def module_name(path: Path) -> str:
    """As it is imported: all folders but `l02` itself are linked into `l02`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts if parts[0] == "l02" else ("l02", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _imports(path: Path) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]


@cache
def imported_modules(path: Path) -> frozenset[str]:
    """What a file imports, wherever in it."""
    found: set[str] = set()
    for node in _imports(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        else:
            assert node.level == 0, f"{path}: write imports in full"
            assert node.module
            found.add(node.module)
    return frozenset(found)


def room_of(module: str) -> str:
    """The room that a module of l02 stands in: a folder of a package, or the package itself for what is at its top."""
    parts = module.removeprefix("l02").strip(".").split(".")
    if parts[0] not in PACKAGES[:-1]:
        parts = ["l02", *(part for part in parts if part)]
    room = "/".join(parts[:2])
    return room if room in _OF_THEIR_OWN or (ROOT / room).is_dir() else parts[0]


def arrows() -> dict[str, set[str]]:
    """For each room, those it imports from."""
    found: dict[str, set[str]] = {}
    for path in SOURCES:
        if path == ROOT / "l02" / "__init__.py":  # the face: it imports when it is asked, and nobody imports it
            continue
        own = room_of(module_name(path))
        others = {room_of(module) for module in imported_modules(path) if module.split(".")[0] == "l02"}
        found.setdefault(own, set()).update(others - {own})
    return found


def files_in_circles() -> set[str]:
    """The modules that import, by way of others, themselves."""
    paths = {module_name(path): path for path in SOURCES}
    every = {own: _imported_files(path, paths.keys()) - {own} for own, path in paths.items()}
    return {module for module in every if module in _reachable(every, module)}


def _imported_files(path: Path, modules: Set[str]) -> set[str]:
    found = set(imported_modules(path))
    for node in _imports(path):
        if isinstance(node, ast.ImportFrom) and node.module:
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= named
            if named <= modules:  # files of a folder, and nothing of the folder itself
                found.discard(node.module)
    return found & modules


def _reachable(arrows: dict[str, set[str]], room: str) -> set[str]:
    seen: set[str] = set()
    waiting = [room]
    while waiting:
        for other in arrows.get(waiting.pop(), set()) - seen:
            seen.add(other)
            waiting.append(other)
    return seen


def circles() -> set[str]:
    """The rooms that import, by way of others, themselves."""
    every = arrows()
    return {room for room in every if room in _reachable(every, room)}


def drawn() -> str:
    """A flow chart of the rooms. An arrow that others make up for is left out, so that one can read it."""
    every = arrows()
    lines = ["```mermaid", "flowchart BT"]
    for package in PACKAGES:
        rooms = sorted(room for room in every if room.split("/")[0] == package)
        lines.append(f"  subgraph {package}")
        lines += [f'    {_name(room)}["{room.partition("/")[2] or "."}"]' for room in rooms]
        lines.append("  end")
    for room in sorted(every):
        needed = every[room]
        for other in sorted(needed):
            around = needed - {other} - {rest for rest in needed if other in every and rest in _reachable(every, other)}
            if not any(other in _reachable(every, rest) for rest in around):
                lines.append(f"  {_name(room)} --> {_name(other)}")
    return "\n".join([*lines, "```", ""])


def _name(room: str) -> str:
    return room.replace("/", "_")


def with_picture(page: str) -> str:
    """The page with the picture as it is now."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}{drawn()}{_END}{after}"


if __name__ == "__main__":
    PAGE.write_text(with_picture(PAGE.read_text()))
