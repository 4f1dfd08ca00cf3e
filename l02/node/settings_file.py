"""The settings file: YAML, sections by component; whatever is wrong with it is said with its line."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import yaml

from l02.node.settings_table import SETTINGS, Setting, SettingsError

_MOST_BYTES = 1 << 20
_BY_NAME = {setting.name: setting for setting in SETTINGS}
_KEYS = {
    section: [each.key for each in SETTINGS if each.section == section] for section in {s.section: 0 for s in SETTINGS}
}
MODELS = "models"
"""The section that has aliases for keys: `models_file` reads it."""
_TAGS = {"text": "str", "number": "int", "truth": "bool"}
_ITEMS = {"words": "str", "parts": "float"}
_TRUE = ("true", "yes", "on")


class InFile(NamedTuple):
    """What a file says of a setting: the text that a variable would have, and where it stands."""

    text: str
    place: str


def read_settings_file(path: Path) -> dict[str, InFile]:
    """What the file says, by `section.key`; each value fits its setting. Raises SettingsError."""
    found: dict[str, InFile] = {}
    for section, _, keys in _entries(compose(path), path, "the file", [*_KEYS, MODELS]):
        if section == MODELS:
            continue
        for key, line, node in _entries(keys, path, section, _KEYS[section]):
            setting = _BY_NAME[f"{section}.{key}"]
            place = f"{path}:{line}: {setting.name}"
            text = _text(node, setting, place)
            if text:
                setting.value(text, place)
                found[setting.name] = InFile(text, place)
    return found


def compose(path: Path) -> yaml.Node | None:
    """The file as YAML has it, before anything is made of it. Raises SettingsError."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise SettingsError(f"the settings file {path} cannot be read: {error}") from error
    if len(raw) > _MOST_BYTES:
        raise SettingsError(f"the settings file {path} is larger than {_MOST_BYTES} bytes")
    try:
        return yaml.compose(raw, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SettingsError(f"{path}:{line}: this is no YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, UnicodeError, ValueError) as error:
        raise SettingsError(f"{path}:1: this is no YAML: {type(error).__name__}") from error


def secrets_seen_by_others(path: Path) -> str | None:
    """A warning if the file holds secrets and others than its owner may read it."""
    secrets = [name for name in read_settings_file(path) if _BY_NAME[name].secret]
    if not secrets or not path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH):
        return None
    return f"others can read {path}, which holds {' and '.join(secrets)}; run: chmod 600 {path}"


def _entries(node: yaml.Node | None, path: Path, of: str, known: list[str]) -> Iterator[tuple[str, int, yaml.Node]]:
    if node is None or _is_null(node):
        return
    if not isinstance(node, yaml.MappingNode) or not _has_tag(node, "map"):
        raise SettingsError(f"{path}:{node.start_mark.line + 1}: {of} takes keys with values, such as `{known[0]}:`")
    seen: set[str] = set()
    for key, value in node.value:
        line, name = key.start_mark.line + 1, key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
        if name not in known:
            near = get_close_matches(name[:100], known, 1, 0.0)
            raise SettingsError(f"{path}:{line}: {of} has no {name[:100]!r}; the nearest is {near[0]!r}")
        if name in seen:
            raise SettingsError(f"{path}:{line}: {of} has {name!r} twice; keep one")
        seen.add(name)
        yield name, line, value


def _text(node: yaml.Node, setting: Setting, place: str) -> str:
    if _is_null(node):
        return ""
    if setting.kind in _ITEMS:
        is_list, tag = isinstance(node, yaml.SequenceNode) and _has_tag(node, "seq"), _ITEMS[setting.kind]
        if is_list and all(_is(item, tag) and "," not in item.value for item in node.value):
            return ",".join(item.value for item in node.value)
    elif _is(node, _TAGS[setting.kind]):
        return str(int(node.value.lower() in _TRUE)) if setting.kind == "truth" else str(node.value)
    raise SettingsError(f"{place} has a value of another type; it takes {setting.takes}")


def _is(node: yaml.Node, tag: str) -> bool:
    return isinstance(node, yaml.ScalarNode) and _has_tag(node, tag)


def _has_tag(node: yaml.Node, tag: str) -> bool:
    return bool(node.tag == f"tag:yaml.org,2002:{tag}")


def _is_null(node: yaml.Node) -> bool:
    return _is(node, "null")
