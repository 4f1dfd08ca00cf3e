"""What sandboxed programs leave behind is removed, whatever it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from l02.handlers.sandbox.removal import remove_tree

LEVELS = 3000
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=60).filter(
    lambda name: name not in {".", ".."}
)
TREES = st.recursive(st.none(), lambda below: st.dictionaries(NAMES, below, max_size=4), max_leaves=20)


def make_deep(directory: Path) -> None:
    """A file at the end of so many directories that no path reaches it."""
    directory.mkdir()
    here = os.open(directory, os.O_RDONLY)
    for _ in range(LEVELS):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


def test_a_deep_tree(deep_path: Path) -> None:
    make_deep(deep_path / "tree")
    remove_tree(deep_path / "tree")
    assert list(deep_path.iterdir()) == []


def test_links_are_not_followed_and_permissions_do_not_matter(tmp_path: Path) -> None:
    kept, gone = tmp_path / "kept", tmp_path / "gone"
    (kept / "inner").mkdir(parents=True)
    (kept / "file").write_text("stays")
    kept.chmod(0o750)
    (gone / "a" / "b").mkdir(parents=True)
    (gone / "link").symlink_to(kept)
    (gone / "a" / "link").symlink_to(kept)
    (gone / "a" / "dangling").symlink_to("nowhere")
    os.mkfifo(gone / "a" / "b" / "pipe")
    for directory in (gone / "a" / "b", gone / "a", gone):
        directory.chmod(0)
    remove_tree(gone)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (kept / "file").read_text() == "stays"
    assert (kept / "inner").is_dir()
    assert kept.stat().st_mode & 0o777 == 0o750


def test_what_is_not_there_is_removed_and_what_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with capture_logs() as logs:
        remove_tree(tmp_path / "nothing")
        assert logs == []
        remove_tree(tmp_path / "file")
    assert [(line["log_level"], line["path"]) for line in logs] == [("warning", str(tmp_path / "file"))]


@settings(max_examples=50, deadline=None)
@given(tree=st.dictionaries(NAMES, TREES, max_size=6))
def test_any_tree(tmp_path_factory: pytest.TempPathFactory, tree: dict[str, object]) -> None:
    root = tmp_path_factory.mktemp("tree")
    _make(root, tree)
    remove_tree(root)
    assert not root.exists()


def _make(path: Path, tree: object) -> None:
    if not isinstance(tree, dict):
        path.write_text("")
        return
    path.mkdir(exist_ok=True)
    for name, below in tree.items():
        if len(name.encode()) <= 255:
            _make(path / name, below)
