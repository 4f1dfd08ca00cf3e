"""A running node that is sent SIGHUP reads its settings file again, and stays as it was if it cannot."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from l02.bus.embedded import EmbeddedNats


@pytest.mark.server
def test_models_are_read_again(fresh_nats: EmbeddedNats, database: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("L02_")}
    file = tmp_path / "l02.yaml"

    def write(models: dict[str, Any]) -> None:
        told = {"node": {"nats_url": fresh_nats.url, "postgres_url": database}, "session_bridge": {"server": "off"}}
        file.write_text(json.dumps(told | {"models": models}))
        file.chmod(0o600)

    def endpoints(http_url: str) -> set[str]:
        with urlopen(f"{http_url}/metrics") as page:
            return set(
                re.findall(r'^agent_runtime_model_bridge_breaker_open\{endpoint="(.*)"\}', page.read().decode(), re.M)
            )

    write({"small": [{"endpoint": "http://a/v1", "model": "m"}]})
    command = [sys.executable, "-m", "l02.cli", "up", "--config", str(file), "--data-dir", str(tmp_path / "d")]
    with subprocess.Popen(
        [*command, "--log-format", "json"], stderr=subprocess.PIPE, text=True, env=environment
    ) as node:
        assert node.stderr
        try:
            for line in node.stderr:
                match json.loads(line):
                    case {"event": "ready", "http_url": str(http_url)}:
                        assert endpoints(http_url) == {"a"}
                        write({"small": [{"endpoint": "http://b/v1", "model": "m"}]})
                        node.send_signal(signal.SIGHUP)
                    case {"event": "the settings have been read again"}:
                        assert endpoints(http_url) == {"b"}
                        write({"small": [{"endpoint": "http://c/v1", "modle": "m"}]})
                        node.send_signal(signal.SIGHUP)
                    case {"event": "the settings stay as they were", "error": error}:
                        assert "models.small[0].modle is unknown; the nearest is 'model'" in error
                        assert endpoints(http_url) == {"b"}
                        node.send_signal(signal.SIGTERM)
            assert node.wait() == 0
            assert "error" in locals()
        finally:
            node.kill()
