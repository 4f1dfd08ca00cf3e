"""A disk that is full loses nothing that was acknowledged, and what waits goes on when there is room again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform != "linux", reason="uses a mount namespace")
def test_nats_goes_on_when_there_is_room_again(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=160m none "$1" && exec "$2" -m tests.embedded.on_small_disk "$1"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "-"]
    if subprocess.run([*command[:4], "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this system allows no user namespaces")
    result = subprocess.run(
        [*command, str(tmp_path), sys.executable], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].startswith("ok ")
