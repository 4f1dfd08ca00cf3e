"""The wheel beside a project whose packages have the names of our folders: neither is in the other's way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.conformance
ROOT = Path(__file__).parent.parent
OUR_FOLDERS = ("domain", "bus", "handlers", "projections")
_SECONDS = 100
CLIENT = """
import bus, domain, handlers, projections
import l02
from l02 import Client
from l02.domain.errors import ErrorCode
from l02.domain.aggregates import AGENT

print([package.WHOSE for package in (bus, domain, handlers, projections)], l02.__file__, sorted(AGENT.wire_commands))
"""
AGENT = """
from domain import WHOSE
from handlers.greeting import greet
from l02.agent import Agent

agent = Agent("greeter")


@agent.on_message
async def handle(ctx, message):
    return f"{greet(message)}, by {WHOSE}"
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, as building leaves files in it."""
    source = tmp_path_factory.mktemp("source") / "l02"
    unwanted = shutil.ignore_patterns(".*", "*.egg-info", "build", "__pycache__", "tests", "docs", "benchmarks")
    shutil.copytree(ROOT, source, symlinks=True, ignore=unwanted)
    return source


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build(source, tmp_path_factory.mktemp("wheel"))


def _build(source: Path, target: Path) -> Path:
    _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", target, source)
    [built] = target.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel, and what it depends on from ours."""
    place = tmp_path_factory.mktemp("environment")
    _run(sys.executable, "-m", "venv", "--without-pip", place)
    python = place / "bin" / "python"
    _run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    [packages] = place.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in OUR_FOLDERS:
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").write_text('WHOSE = "mine"\n')
    (tmp_path / "handlers" / "greeting.py").write_text("def greet(name):\n    return f'hello {name}'\n")
    (tmp_path / "client.py").write_text(CLIENT)
    (tmp_path / "greeter.py").write_text(AGENT)
    (tmp_path / "greeter.json").write_text(
        json.dumps({"name": "greeter", "entrypoint": "greeter.py", "files": {"read": ["."]}})
    )
    return tmp_path


def _run(*words: str | Path, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    answer = subprocess.run(
        words, cwd=cwd, env=environment or dict(os.environ), capture_output=True, text=True, timeout=_SECONDS
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_only_l02_is_installed_and_all_of_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    here = {
        path.relative_to(ROOT)
        for package in (*OUR_FOLDERS, "l02")
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".sql", ".typed") and not any(parent.is_symlink() for parent in path.parents)
    }
    assert names == {str(path) if path.parts[0] == "l02" else f"l02/{path}" for path in here}


def test_the_source_distribution_makes_the_same_wheel(source: Path, wheel: Path, tmp_path: Path) -> None:
    make = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    _run(sys.executable, "-c", make, tmp_path / "sdist", cwd=source)
    [packed] = (tmp_path / "sdist").iterdir()
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(_build(packed, tmp_path / "wheel")) as other:
        assert one.namelist() == other.namelist()


def test_a_client_program_has_packages_of_all_four_names(installed: Path, project: Path) -> None:
    said = _run(installed, "client.py", cwd=project)
    assert said.startswith("['mine', 'mine', 'mine', 'mine']")
    assert str(installed.parent.parent) in said and "'execute'" in said


@pytest.fixture
def node(installed: Path, project: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """A node of the installation; the environment in which its command line finds it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("L02_")}
    environment["L02_DATA_DIR"] = str(tmp_path / "data")
    words = (installed, "-m", "l02.cli", "up")
    with subprocess.Popen(words, cwd=project, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = []
        try:
            for line in process.stderr:
                said.append(line)
                if (tmp_path / "data" / "l02.json").exists():
                    break
            assert process.poll() is None, "".join(said)
            yield environment
        finally:
            process.terminate()
            process.communicate(timeout=_SECONDS)


def test_an_agent_has_packages_of_these_names(installed: Path, project: Path, node: dict[str, str]) -> None:
    command = (installed, "-m", "l02.cli")
    _run(*command, "spawn", "greeter.json", "--id", "g1", cwd=project, environment=node)
    said = _run(*command, "exec", "g1", "ann", "--json", cwd=project, environment=node)
    assert "hello ann, by mine" in said
