"""A specification as people write it: a YAML or JSON file whose relative paths mean what is beside the file.

YAML is read with every scalar as the text it is and given its type by the specification's own fields, so `cpu: 2`,
`VERSION: 1.10` and `COUNTRY: NO` mean what they say, and no tag can make anything but text, lists and mappings.
"""

from __future__ import annotations

import asyncio
import json
import os.path
import re
import secrets
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml
from msgspec.structs import replace

from l02.bus.wire.incoming import MAX_COMMAND_BYTES, wire_failure
from l02.domain.errors import ErrorCode, Failure
from l02.domain.specification import AgentSpecification, ToolServer, validate_specification

Specification = str | Path | AgentSpecification | Mapping[str, Any]
"""A file's path, or what would stand in it."""

_NULL_TAG = "tag:yaml.org,2002:null"
_TAGS = {_NULL_TAG, *(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))}


class _Loader(yaml.BaseLoader):
    """All scalars are text, but for null. A key that comes twice is a mistake, and so is a tag."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag not in _TAGS:
            raise yaml.constructor.ConstructorError(None, None, f"the tag {node.tag!r} is not taken", node.start_mark)
        return super().construct_object(node, deep)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value[:40]!r} comes twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(_NULL_TAG, re.compile(r"(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_Loader.add_constructor(_NULL_TAG, lambda loader, node: None)


def load_specification(path: str | Path) -> AgentSpecification:
    """The specification in the file `path`, with absolute paths; JSON if it is named `*.json`, else YAML.

    Relative to the file are: the entrypoint's file, `files` and a tool's `read` and `write`, and those words of a
    command that are `.` or `..` or begin with `./` or `../`. Raises Failure E2110 for every mistake, with the
    file's line or the field's path.
    """
    path = Path(path)
    text = _read(path)
    try:
        if path.suffix.lower() == ".json":
            found = msgspec.convert(_parse_json(text), AgentSpecification)
        else:
            # BaseLoader knows no tags, so it is the safest of all of PyYAML's loaders.
            found = msgspec.convert(yaml.load(text, _Loader), AgentSpecification, strict=False)  # noqa: S506
        specification = _with_absolute_paths(found, path.absolute().parent)
        validate_specification(specification, "$")
        msgspec.json.encode(specification)
    except Failure as failure:
        raise _mistake(path, failure.message, failure.path) from failure
    except msgspec.ValidationError as error:
        said = wire_failure(error)
        raise _mistake(path, said.message, said.path) from error
    except json.JSONDecodeError as error:
        raise _mistake(path, f"line {error.lineno}: {error.msg}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        raise _mistake(path, f"{where}{error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _mistake(path, f"line {line}: the character U+{ord(text[error.position]):04X} is not allowed") from error
    except UnicodeEncodeError as error:
        raise _mistake(path, "it has half a surrogate pair, which is not a character") from error
    except RecursionError as error:
        raise _mistake(path, "it is nested too deeply") from error
    except ValueError as error:
        raise _mistake(path, str(error)) from error
    return specification


def _mistake(path: Path, message: str, field: str | None = None) -> Failure:
    return Failure(ErrorCode.COMMAND_INVALID, f"{path}: {message}", field)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_COMMAND_BYTES + 1)
    except OSError as error:
        raise _mistake(path, f"the file cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Failure(ErrorCode.COMMAND_INVALID, f"{str(path)!r} cannot be a file's name: {error}") from error
    if len(raw) > MAX_COMMAND_BYTES:
        raise _mistake(path, f"the file has more than {MAX_COMMAND_BYTES} bytes; a specification is a page of text")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _mistake(path, f"line {line}: byte 0x{raw[error.start]:02x} is not UTF-8") from error


def _parse_json(text: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ValueError(f"the key {twice[:40]!r} comes twice")
        return fields

    return json.loads(text, object_pairs_hook=once)


def _with_absolute_paths(specification: AgentSpecification, base: Path) -> AgentSpecification:
    entrypoint = specification.entrypoint
    if entrypoint is not None and ":" not in entrypoint:
        entrypoint = _entrypoint(entrypoint, base)
    files = specification.files
    return replace(
        specification,
        entrypoint=entrypoint,
        command=_command(specification.command, base) if specification.command else None,
        files=replace(
            files,
            read=_paths(files.read, base, "$.files.read"),
            write=_paths(files.write, base, "$.files.write"),
        ),
        tools={name: _tool(server, base, f"$.tools.{name}") for name, server in specification.tools.items()},
    )


def _tool(server: ToolServer, base: Path, field: str) -> ToolServer:
    return replace(
        server,
        command=_command(server.command, base),
        read=_paths(server.read, base, f"{field}.read"),
        write=_paths(server.write, base, f"{field}.write"),
    )


def _entrypoint(entrypoint: str, base: Path) -> str:
    """A relative entrypoint is a file here, so that it is missing can be said here; any other is the node's to find."""
    found = _absolute(entrypoint, base, "$.entrypoint")
    if not entrypoint.startswith("/") and not Path(found).is_file():
        raise Failure(ErrorCode.COMMAND_INVALID, f"there is no file {found}", "$.entrypoint")
    return found


def _command(words: tuple[str, ...], base: Path) -> tuple[str, ...]:
    return tuple(
        os.path.normpath(base / word) if word in (".", "..") or word.startswith(("./", "../")) else word
        for word in words
    )


def _paths(paths: tuple[str, ...], base: Path, field: str) -> tuple[str, ...]:
    return tuple(_absolute(path, base, field) for path in paths)


def _absolute(path: str, base: Path, field: str) -> str:
    if not path or "\0" in path:
        raise Failure(ErrorCode.COMMAND_INVALID, f"{path!r} is not a path", field)
    return os.path.normpath(base / os.path.expanduser(path))  # noqa: PTH111 -- Path's raises for an unknown user


async def as_specification(given: Specification) -> AgentSpecification:
    """The specification that is given in one of these ways; Failure E2110 or E2115 if it is none."""
    if isinstance(given, AgentSpecification):
        return given
    if isinstance(given, str | Path):
        return await asyncio.to_thread(load_specification, given)
    try:
        specification = msgspec.convert(given, AgentSpecification)
    except msgspec.ValidationError as error:
        raise wire_failure(error) from error
    validate_specification(specification)
    return specification


def id_for(name: str) -> str:
    """A new agent's id: its name and six random hex digits."""
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', name)[:100]}-{secrets.token_hex(3)}"
