"""One node to a directory, files nobody else reads, and one clear line for a directory that cannot be used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from l02.bus.embedded import DataDirectory, DataDirectoryError
from tests.embedded.support import ROOT, mode

_OPEN = "import sys, pathlib, l02.bus.embedded as e; d = e.DataDirectory(pathlib.Path(sys.argv[1])); d.acquire()"


def test_creates_the_directory_for_this_user_only(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "a" / "b") as directory:
        directory.write_runtime_file({"nats_url": "nats://x"})
        assert mode(directory.path) == 0o700
        assert {mode(file) for file in directory.path.iterdir()} == {0o600}


def test_second_node_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as first:
        first.write_runtime_file({})
        with pytest.raises(DataDirectoryError, match=rf"is in use by the node with pid {os.getpid()}; stop it or"):
            DataDirectory(tmp_path).acquire()
        assert DataDirectory.read_runtime_file(tmp_path) == {"pid": os.getpid()}
    with DataDirectory(tmp_path):
        pass


def test_lock_and_runtime_file_do_not_survive_a_killed_node(tmp_path: Path) -> None:
    program = _OPEN + "; d.write_runtime_file({}); import os; os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, check=False)
    assert (tmp_path / "l02.json").exists()
    with pytest.raises(DataDirectoryError, match=r"no node is running in .*; start one with: l02 up"):
        DataDirectory.read_runtime_file(tmp_path)
    with DataDirectory(tmp_path):
        assert not (tmp_path / "l02.json").exists()


def test_node_id_is_kept(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as directory:
        first = directory.node_id
    with DataDirectory(tmp_path) as directory:
        assert directory.node_id == first
    assert re.fullmatch(r"node-[0-9a-f]{8}", first)


def test_runtime_file_is_gone_after_a_clean_stop(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as directory:
        directory.write_runtime_file({"http_url": "http://x", "pid": 1})
        assert DataDirectory.read_runtime_file(tmp_path) == {"http_url": "http://x", "pid": 1}
    with pytest.raises(DataDirectoryError, match="no node is running"):
        DataDirectory.read_runtime_file(tmp_path)


def test_a_process_with_a_dead_nodes_number_is_not_the_node(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as directory:
        directory.write_runtime_file({})
        os.utime(tmp_path / "l02.json", (1, 1))
        with pytest.raises(DataDirectoryError, match="no node is running"):
            DataDirectory.read_runtime_file(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"pid": "x"}', b"\xff"])
def test_damaged_runtime_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "l02.json").write_bytes(content)
    with pytest.raises(DataDirectoryError, match=r"l02\.json is not a node's runtime file"):
        DataDirectory.read_runtime_file(tmp_path)


@pytest.mark.parametrize("below", ["", "deeper", "deeper/still"])
def test_a_file_in_its_place(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirectoryError, match="is not a directory; choose another --data-dir"):
        DataDirectory(tmp_path / "file" / below).acquire()


@pytest.mark.skipif(sys.platform != "linux", reason="uses a mount namespace")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("size=1m,ro", "is read-only; choose another --data-dir"),
        ("size=1m", "has 1 MiB free and a node needs 100 MiB; make room or choose another --data-dir"),
        ("size=300m,nr_inodes=1", "is on a full disk; choose another --data-dir"),
    ],
)
def test_read_only_and_full(tmp_path: Path, options: str, message: str) -> None:
    mount = f'mount -t tmpfs -o {options} none "$1" && exec "$2" -c "$3" "$1"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "-"]
    if subprocess.run([*command[:4], "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this system allows no user namespaces")
    result = subprocess.run(
        [*command, str(tmp_path), sys.executable, _OPEN], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == f"l02.bus.embedded.errors.DataDirectoryError: {tmp_path} {message}"
