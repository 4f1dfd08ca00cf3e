"""The section `models` of the settings file: mappings and lists, and what is wrong with them said with its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from l02.handlers.models.settings import Defaults, ModelSettings, ModelSettingsError, model_settings
from l02.node.settings_file import MODELS, compose
from l02.node.settings_table import SettingsError

# What an anchor names counts wherever it is named.
_MOST_NODES = 20_000
_SCALARS = frozenset(f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null"))


def read_models(path: Path, defaults: Defaults) -> ModelSettings:
    """The models of the settings file; files of keys are relative to its folder. Raises SettingsError."""
    root = compose(path)
    section = _section(root)
    if section is None:
        return ModelSettings(defaults=defaults)
    reader = _Reader(path)
    value = reader.value(section, ())
    try:
        return model_settings({} if value is None else value, defaults, path.absolute().parent)
    except ModelSettingsError as error:
        raise SettingsError(f"{reader.place(error.path)} {error}") from error


def _section(root: yaml.Node | None) -> yaml.Node | None:
    if not isinstance(root, yaml.MappingNode):
        return None
    return next((value for key, value in root.value if key.value == MODELS), None)


class _Reader:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[tuple[Any, ...], int] = {}
        self._nodes = 0
        self._scalars = yaml.constructor.SafeConstructor()

    def value(self, node: yaml.Node, at: tuple[Any, ...]) -> Any:
        """What a node means. Raises SettingsError."""
        self._nodes += 1
        self._lines.setdefault(at, node.start_mark.line + 1)
        if self._nodes > _MOST_NODES or len(at) > 20:
            raise SettingsError(f"{self.place(at)} is too much: at most {_MOST_NODES} keys and values, 20 deep")
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.value(each, (*at, index)) for index, each in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, at)
        if node.tag not in _SCALARS:
            raise SettingsError(f"{self.place(at)} has a value of another type: {node.tag[:100]!r}")
        try:
            return self._scalars.construct_object(node)
        except (ValueError, yaml.YAMLError) as error:
            raise SettingsError(f"{self.place(at)} cannot be read: {error}") from error

    def _mapping(self, node: yaml.MappingNode, at: tuple[Any, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "a list or mapping"
            self._lines[*at, name] = key.start_mark.line + 1
            if name in found:
                raise SettingsError(f"{self.place((*at, name))} is there twice; keep one")
            found[name] = self.value(value, (*at, name))
        return found

    def place(self, at: tuple[Any, ...]) -> str:
        """`FILE:LINE: models.small[0].price`; the line of what encloses it, if it is not there itself."""
        line = next(self._lines[at[:end]] for end in range(len(at), -1, -1) if at[:end] in self._lines)
        steps = "".join(f"[{step}]" if isinstance(step, int) else f".{str(step)[:100]}" for step in at)
        return f"{self._path}:{line}: {MODELS}{steps}"
