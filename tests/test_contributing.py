"""CONTRIBUTING.md is followed in a copy of the tree, by its own blocks: an event with its command, and an aggregate."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from l02.bus.embedded import EmbeddedNats
from l02.node.running import running_node
from l02.node.settings import Settings

pytestmark = pytest.mark.conformance
ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
FILES = {"An event with its command, in three files": 3, "An aggregate, in six files": 6}
_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<kind>python|diff) (?P<path>\S+)\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S
)
_SUBJECTS = re.compile(r"`(l02\.(?:api|cmd|evt|due)\b[^`]*)`")
_RECIPE = (ROOT / "Makefile").read_text().partition("\ndocs: ")[2].partition("\n\n")[0]
MAKE_DOCS = re.findall(r"\$\(BIN\)/python (.+)", _RECIPE)
_SECONDS = 100


class Block(NamedTuple):
    """A change of one file."""

    kind: str
    path: str
    text: str

    def apply(self, tree: Path) -> None:
        """Append it, or make the file; or change what it names, which must be there exactly once."""
        file = tree / self.path
        if self.kind == "python":
            before = f"{file.read_text()}\n\n" if file.exists() else ""
            file.parent.mkdir(exist_ok=True)
            file.write_text(before + self.text)
            return
        for hunk in self.text.split("@@\n"):
            lines = hunk.splitlines(keepends=True)
            old, new = ("".join(line[1:] for line in lines if line[0] in sides) for sides in (" -", " +"))
            text = file.read_text()
            assert text.count(old) == 1, f"CONTRIBUTING.md: {self.path} has not exactly one\n{old}"
            file.write_text(text.replace(old, new))


def blocks(section: str) -> list[Block]:
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = [*_BLOCK.finditer(text)]
    assert len(found) == text.count("```") // 2, "each block says what it is and which file it is for"
    return [Block(one["kind"], one["path"], re.sub(f"^{one['indent']}", "", one["text"], flags=re.M)) for one in found]


BLOCKS = [block for section in FILES for block in blocks(section)]


def run(tree: Path, *words: str, **variables: str) -> str:
    """What a Python program prints whose l02 is the copy."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=tree,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all that is kept, changed as the page says."""
    copy = tmp_path_factory.mktemp("contributing") / "tree"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    for block in BLOCKS:
        block.apply(copy)
    for words in MAKE_DOCS:
        run(copy, *words.split())
    return copy


def test_there_are_ten_steps() -> None:
    assert re.findall(r"^(\d+)\. \*\*", PAGE, re.M) == [str(number) for number in range(1, 11)]


@pytest.mark.parametrize(("section", "files"), FILES.items())
def test_it_takes_as_many_files_as_it_says(section: str, files: int) -> None:
    assert len({block.path for block in blocks(section)}) == files


def test_the_rooms_that_it_names_are_there() -> None:
    named = set(re.findall(r"`((?:l02\.[\w.]+|[\w]+/[\w/.]*))`", PAGE)) - set(_SUBJECTS.findall(PAGE))
    assert len(named) > 10
    for name in named:
        assert (ROOT / (f"{name.replace('.', '/')}.py" if name.startswith("l02.") else name)).exists(), name


def test_what_it_touches_passes_the_checks(tree: Path) -> None:
    touched = sorted({block.path for block in BLOCKS})
    for words in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]):
        run(tree, "-m", *words, *touched)


def test_what_it_touches_passes_the_tests(tree: Path) -> None:
    folders = sorted({str(Path(block.path).parent) for block in BLOCKS if block.path.startswith("tests/")})
    of_all = ("tests/domain/test_table_of_contents.py", "tests/domain/test_bad_commands.py", "tests/test_catalogue.py")
    rules = ("tests/test_architecture.py", "-k", "not test_architecture or notice or signals or rooms or house")
    said = run(tree, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *folders, *of_all, *rules)
    assert " passed" in said


def test_the_documents_have_it(tree: Path) -> None:
    page, asyncapi = ((tree / "docs" / name).read_text() for name in ("events.md", "asyncapi.yaml"))
    for word in ("l02.evt.agent.<id>.signals.discarded", "l02.api.agent.discard", "l02.cmd.notice.<id>.<verb>"):
        assert word in page
    assert "l02.api.notice.post" in asyncapi


@pytest.mark.server
async def test_a_node_takes_it(tree: Path, tmp_path: Path, fresh_nats: EmbeddedNats, database: str) -> None:
    post = ("l02.api.notice.post", '{"id": "n1", "text": "lunch"}')
    asked = (*post, *post, "l02.api.agent.discard", '{"id": "nobody", "name": "approve"}')
    urls = {"L02_NATS_URL": fresh_nats.url, "L02_POSTGRES_URL": database}
    said = run(tree, "-m", "tests.test_contributing", str(tmp_path / "data"), *asked, **urls)
    posted, again, refused = (msgspec.json.decode(line) for line in said.splitlines() if line.startswith("{"))
    assert (posted["ok"], posted["events"], posted["version"]) == (True, ["notice.posted"], 1)
    assert (again["ok"], again["events"], again["version"]) == (True, [], 1)
    assert refused["error"]["code"] == "E2111"


async def ask_a_node(data_dir: str, *asked: str) -> None:
    """Run a node of this tree, and print what it answers: subjects and bodies alternate."""
    async with running_node(Settings.from_environment(data_dir=Path(data_dir))) as node:
        for subject, body in zip(asked[::2], asked[1::2], strict=True):
            print((await node.parts.bus.client.request(subject, body.encode(), timeout=20)).data.decode())


if __name__ == "__main__":
    asyncio.run(ask_a_node(*sys.argv[1:]))
