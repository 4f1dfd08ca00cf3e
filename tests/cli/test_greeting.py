"""What `l02 up` says once it is ready, to a person and to a machine, on a node of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from l02.bus.embedded import EmbeddedNats
from l02.node.greeting import greeting
from l02.node.settings import Settings


def up(data_dir: Path, nats_url: str, database: str, last: str, *options: str) -> list[str]:
    """The lines on standard error until the node has been stopped, which happens after the line that begins so."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("L02_")}
    file = data_dir.parent / "l02.yaml"
    told = {"node": {"nats_url": nats_url, "postgres_url": database}, "session_bridge": {"server": "off"}}
    file.write_text(json.dumps(told))
    file.chmod(0o644)
    command = [sys.executable, "-m", "l02.cli", "up", "--config", str(file), "--data-dir", str(data_dir), *options]
    said = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr
        try:
            for line in process.stderr:
                said.append(line.rstrip("\n"))
                if last in line:
                    process.send_signal(signal.SIGTERM)
        finally:
            process.kill()
    return said


def test_a_person_is_told_what_is_up_and_what_to_type_next(
    fresh_nats: EmbeddedNats, database: str, tmp_path: Path
) -> None:
    said = up(tmp_path / "my data", fresh_nats.url, database, "Ctrl-C")
    [first] = [place for place, line in enumerate(said) if line.startswith("l02 is up: node ")]
    assert said[first].endswith(" s")
    assert said[first + 1] == f"  data        {tmp_path}/my data"
    assert f"  l02 ps --data-dir '{tmp_path}/my data'" in said
    assert not any("\x1b" in line or fresh_nats.url in line or database in line for line in said)
    end = next(place for place, line in enumerate(said) if line.startswith("Ctrl-C"))
    assert said[end + 1] == "" and "[info   ] stopping" in said[end + 2]


def test_a_machine_is_told_in_structured_lines_only(fresh_nats: EmbeddedNats, database: str, tmp_path: Path) -> None:
    said = [
        json.loads(line) for line in up(tmp_path / "d", fresh_nats.url, database, '"ready"', "--log-format", "json")
    ]
    [ready] = [line for line in said if line["event"] == "ready"]
    assert ready["data_dir"] == f"{tmp_path}/d" and ready["seconds"] > 0
    assert said[0]["level"] == "warning" and f"chmod 600 {tmp_path}/l02.yaml" in said[0]["event"]


def test_nothing_steers_a_terminal_and_a_node_at_home_needs_no_option(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("L02_DATA_DIR", str(tmp_path))
    at_home = greeting(Settings(data_dir=tmp_path), "n1", "http://127.0.0.1:1", 1.26)
    assert "\n  l02 ps\n" in at_home and "ready in 1.3 s" in at_home
    assert "\x1b" not in greeting(Settings(data_dir=tmp_path / "\x1b[31m"), "n1", "http://127.0.0.1:1", 1)
