"""Loads an author's file or module, and says in one sentence what is wrong with it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from l02.agent.definition import Agent

MODULE = "l02_agent_main"
"""The module name of an agent's file: no other module has it, so that a file called json.py hides none."""


class LoadError(Exception):
    """The agent cannot be loaded; the message says why, and trying again will not help."""


def load(entrypoint: str, name: str | None = None) -> Agent:
    """The agent of an entrypoint: a file's path ending in `.py`, `module` or `module:object`.

    `name` is the object's name too; without one there must be exactly one `Agent`. Raises `LoadError`.
    """
    if entrypoint.endswith(".py"):
        target, module = entrypoint, _load_file(Path(entrypoint))
    else:
        target, _, chosen = entrypoint.partition(":")
        name, module = chosen or name, _load_module(target)
    agent = _find_agent(module, target, name)
    if agent.handler is None:
        raise LoadError(
            f"{target}: the agent {agent.name!r} has no handler; write "
            "`@agent.on_message` above `async def handle(ctx, message): ...`"
        )
    return agent


class _SourceLoader(SourceFileLoader):
    """Runs the source that was read: no bytecode of an older version, and none left beside the author's file."""

    def __init__(self, name: str, path: str, source: bytes) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self._source, self.path)


def _load_file(path: Path) -> ModuleType:
    try:
        source = path.read_bytes()
    except FileNotFoundError as error:
        raise LoadError(f"there is no file {path}") from error
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror}") from error
    loader = _SourceLoader(MODULE, str(path), source)
    spec = importlib.util.spec_from_loader(MODULE, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE] = module  # dataclasses and type hints look their module up there
    _make_importable(path.parent)
    try:
        loader.exec_module(module)
    except BaseException as error:
        raise LoadError(_describe(error, str(path))) from error
    return module


def _make_importable(directory: Path) -> None:
    """Puts the files beside an agent's own before installed packages, but behind the standard library.

    An agent may well be called calendar.py, and parts of the standard library are imported late.
    """
    packages = ("site-packages", "dist-packages")
    places = (place for place, entry in enumerate(sys.path) if Path(entry).name in packages)
    sys.path.insert(next(places, len(sys.path)), str(directory))
    sys.path_importer_cache[str(directory)] = _ListlessFinder(str(directory), (SourceFileLoader, SOURCE_SUFFIXES))


class _ListlessFinder(FileFinder):
    """Finds a file that may be read in a directory that may not be listed, as where a sandbox may read single files."""

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> ModuleSpec | None:
        found = super().find_spec(fullname, target)
        if found is not None and found.loader is not None:
            return found
        name = fullname.rpartition(".")[2]
        package, file = Path(self.path, name, "__init__.py"), Path(self.path, f"{name}.py")
        if package.is_file():
            return importlib.util.spec_from_file_location(
                fullname, package, submodule_search_locations=[str(package.parent)]
            )
        if file.is_file():
            return importlib.util.spec_from_file_location(fullname, file)
        return found


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except BaseException as error:
        raise LoadError(_describe(error, name)) from error


def _describe(error: BaseException, target: str) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == target]
    place = f"{target}, line {frames[-1].lineno}" if frames else target
    if isinstance(error, ModuleNotFoundError):
        there = "Python's standard library, msgspec, and what `files.read` of its specification names beside its file"
        return f"{place}: {error}; an agent has {there}"
    if isinstance(error, PermissionError) and error.filename is not None:
        return (
            f"{place}: {type(error).__name__}: {error}; `files.read` of its specification names what an agent may read"
        )
    return f"{place}: {type(error).__name__}: {error}"


def _find_agent(module: ModuleType, target: str, name: str | None) -> Agent:
    if name is not None:
        named = getattr(module, name, None)
        if not isinstance(named, Agent):
            raise LoadError(f"{target} has no Agent named {name!r}")
        return named
    agents = {key: value for key, value in vars(module).items() if isinstance(value, Agent)}
    if not agents:
        raise LoadError(f"{target} holds no Agent; write `agent = Agent('name')` at its top level")
    if len(set(agents.values())) > 1:
        raise LoadError(f"{target} holds several Agents ({', '.join(agents)}); keep one, or say which: `module:object`")
    return next(iter(agents.values()))
