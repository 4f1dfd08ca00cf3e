"""`python -m tests.golden.write` keeps the bytes of event types that have none yet. It never changes a file."""

from __future__ import annotations

from pathlib import Path

from tests.golden.samples import EVENTS, SAMPLES, encoded, file_name


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


if __name__ == "__main__":
    for name in write(EVENTS):
        print(f"new: {name}")
