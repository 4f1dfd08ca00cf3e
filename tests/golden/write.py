"""`python -m tests.golden.write` keeps event types, states and tables that are not kept yet.

What is kept is not changed: states after new events are put among those after the others, if those still hold.
"""

from __future__ import annotations

from pathlib import Path

from l02.projections.tables.definitions import TABLES
from tests.golden.samples import EVENTS, SAMPLES, encoded, file_name
from tests.golden.states import LIVES, as_lines, folded, kept, state_file, still_holds
from tests.golden.tables import table_file


def write(folder: Path) -> list[str]:
    """Write the golden files that are missing in `folder`; their names."""
    written = []
    for event_type, recorded in SAMPLES.items():
        path = folder / file_name(event_type)
        if not path.exists():
            with path.open("xb") as file:
                file.write(encoded(recorded))
            written.append(path.name)
    return written


def write_states() -> list[str]:
    """Write the golden states of folds that have a new number, or new events and all else as it was; their names."""
    new = [
        name for name in LIVES if not state_file(name).exists() or (still_holds(name) and kept(name) != folded(name))
    ]
    for name in new:
        state_file(name).write_bytes(as_lines(folded(name)))
    return [state_file(name).name for name in new]


def write_tables() -> list[str]:
    """Write the tables that are new, or all of them in a new layout; their names."""
    new = [table for table in TABLES.values() if not table_file(table.name).exists()]
    for table in new:
        table_file(table.name).write_text(table.create + "\n")
    return [table_file(table.name).name for table in new]


if __name__ == "__main__":
    for name in (*write(EVENTS), *write_states(), *write_tables()):
        print(f"new: {name}")
