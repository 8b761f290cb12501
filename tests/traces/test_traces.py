"""Each scene happens to the letter as its text says, which the protocol's description links.

`pytest tests/traces --rewrite-traces` writes the texts anew; read them before they are committed.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from pathlib import Path

import pytest

from ..sim.other_hashes import said_under
from .scenes import SCENES
from .stage import Scene

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LINES_MAX = 75
REFERENCE = re.compile(r"^\[(t\d+)\]: \.\./tests/traces/(\w+\.txt)$", re.MULTILINE)
REMEDY = "pytest tests/traces --rewrite-traces"
HASHES = """
import hashlib
from tests.traces.scenes import SCENES
for scene in SCENES:
    print(scene.file, hashlib.sha256(scene.text().encode()).hexdigest())
"""


def difference(expected: str, text: str, file: str) -> str:
    """What has changed, with the way to accept it; empty if nothing has."""
    lines = difflib.unified_diff(
        expected.splitlines(), text.splitlines(), file, "what happens now", lineterm="", n=2
    )
    told = "\n".join(lines)
    return f"{told}\n\nIf this is right, write it down: {REMEDY}" if told else ""


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.file.removesuffix(".txt"))
def test_a_scene_happens_as_it_is_written(scene: Scene, pytestconfig: pytest.Config) -> None:
    """A frame more or less, or another order, is a change of the protocol: somebody reads it."""
    text = scene.text()
    path = HERE / scene.file
    if pytestconfig.getoption("--rewrite-traces"):
        path.write_text(text, encoding="utf-8")
    expected = path.read_text(encoding="utf-8") if path.exists() else ""
    complaint = difference(expected, text, scene.file)
    assert not complaint, f"\n{complaint}"


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.file.removesuffix(".txt"))
def test_a_trace_is_short_enough_to_be_read(scene: Scene) -> None:
    """They are documentation; a long one is two."""
    text = (HERE / scene.file).read_text(encoding="utf-8")
    assert 10 < len(text.splitlines()) <= LINES_MAX


def test_every_trace_has_its_scene_and_is_linked_from_the_description() -> None:
    """A text without a scene is never checked, and one without a link never read."""
    scenes = [scene.file for scene in SCENES]
    assert sorted(path.name for path in HERE.glob("*.txt")) == sorted(scenes)
    described = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    references = REFERENCE.findall(described)
    assert [file for _, file in references] == scenes
    for name, file in references:
        number = int(file.partition("_")[0])
        assert name == f"t{number}"
        assert f"| [{number}][{name}] |" in described, "it is in the table"
        assert f"[trace {number}][{name}]" in described, "a step names it"


def test_traces_do_not_depend_on_the_order_of_hashes() -> None:
    """Sets and dicts of strings have another order in each process: here, there, and then."""
    written = [
        (scene.file, hashlib.sha256((HERE / scene.file).read_bytes()).hexdigest())
        for scene in SCENES
    ]
    assert [tuple(line.split()) for line in said_under(1, HASHES).splitlines()] == written


def test_a_difference_is_shown_with_its_surroundings_and_the_remedy() -> None:
    """A check that cannot fail checks nothing."""
    assert difference("a\nb\nc\n", "a\nb\nc\n", "01_x.txt") == ""
    told = difference("a\nb\nc\n", "a\nB\nc\n", "01_x.txt")
    assert "-b\n+B\n" in told
    assert "--- 01_x.txt" in told
    assert told.endswith(REMEDY)
