"""The page of a node's settings, from the table that they are read by."""

from __future__ import annotations

from l02.node.settings_table import SETTINGS, Setting

_HEAD = """<!-- Written by `python -m l02.catalogue docs/`. -->
# Settings of a node

`l02 up --config FILE` (or `L02_CONFIG`) reads a YAML file with a section for each component:

```yaml
node:
  http_port: 8080
state_manager:
  checkpoint_compression: zstd
```

An option wins over a variable, a variable over the file, the file over the default. A key that is null or empty says
nothing. A key that does not exist is refused, with the nearest one that does. `l02 config check FILE` says whether a
file can be used; `l02 config show` which settings are in force and where each comes from, without secrets. A file
that holds secrets should be its owner's alone (`chmod 600`). Commands find a node with another `data_dir` by
`--data-dir` or `L02_DATA_DIR`.

Which models a node has stands in the section `models`: [models.md](models.md#what-a-node-has). SIGHUP has a running
node read its models and limits again.

| Key | Variable | Default | Takes | |
|---|---|---|---|---|
"""


def settings_page() -> str:
    """The page, with a row for each setting."""
    return _HEAD + "".join(_row(setting) for setting in SETTINGS)


def _row(setting: Setting) -> str:
    default = str(setting.default).lower() if setting.kind == "truth" else setting.default
    shown = "" if default in (None, ()) else f"`{default}`"
    secret = " (secret)" if setting.secret else ""
    return f"| `{setting.name}` | `{setting.variable}` | {shown} | {setting.takes} | {setting.meaning}{secret} |\n"
