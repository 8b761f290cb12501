"""The examples of the documentation run as they stand, and show what they say."""

from __future__ import annotations

import ast
import asyncio
import codeop
import re
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
GUARD_S = 30.0
"""An example that takes longer than this hangs."""

_BLOCK = re.compile(r"^```python run *\n(?P<body>.*?)^``` *$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A code block marked `python run`."""

    place: str
    """File and line of its first line of code."""
    line: int
    source: str


def examples_in(path: Path) -> Iterator[Example]:
    """The runnable examples of a document."""
    text = path.read_text(encoding="utf-8")
    for block in _BLOCK.finditer(text):
        line = text.count("\n", 0, block.start("body")) + 1
        yield Example(f"{path.name}:{line}", line, textwrap.dedent(block["body"]))


def all_examples() -> list[Example]:
    """Those of every document."""
    return [example for path in sorted(DOCS.glob("*.md")) for example in examples_in(path)]


def run(example: Example) -> None:
    """Run an example like `python -m asyncio` does: `await` may stand at the top.

    Raises:
        Exception: whatever the example raises; its traceback has the line of the document.
    """
    code = compile(
        "\n" * (example.line - 1) + example.source,
        example.place.partition(":")[0],
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )
    outcome = types.FunctionType(code, {"__name__": "__example__"})()
    if asyncio.iscoroutine(outcome):
        asyncio.run(asyncio.wait_for(outcome, GUARD_S))


def pasted_wrongly(source: str) -> Iterator[str]:
    """What the prompt of `python -m asyncio` would not take, line by line as it is pasted.

    There an empty line ends a block, and so must one follow each block.
    """
    compile_command = codeop.CommandCompiler()
    compile_command.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    typed: list[str] = []
    for number, line in enumerate([*source.splitlines(), ""], start=1):
        typed.append(line)
        try:
            if compile_command("\n".join(typed), "<stdin>", "single") is not None:
                typed.clear()
        except SyntaxError as error:
            yield f"line {number}: {error.msg}"
            typed.clear()
    if typed:
        yield "its end is not reached"


def asserts(source: str) -> int:
    """How many assertions an example makes."""
    return sum(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(source)))


EXAMPLES = all_examples()
PASTED = list(examples_in(DOCS / "guarantees.md"))
"""Those which the text tells the reader to paste."""


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.place for example in EXAMPLES])
def test_examples_run_and_their_assertions_hold(example: Example) -> None:
    """What a reader copies must work; what the text claims must be what happens."""
    run(example)


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.place for example in EXAMPLES])
def test_examples_assert_what_they_show(example: Example) -> None:
    """An example without an assertion would pass whatever happens."""
    assert asserts(example.source) > 0


@pytest.mark.parametrize("example", PASTED, ids=[example.place for example in PASTED])
def test_examples_can_be_pasted_at_the_prompt(example: Example) -> None:
    """The text says so; in Python 3.11 an empty line in a block is a syntax error there."""
    found = list(pasted_wrongly(example.source))
    assert not found, "\n".join(found)


def test_what_cannot_be_pasted_is_found() -> None:
    """A check that cannot fail checks nothing."""
    good = "async with x as y:\n    await y\n    for z in y:\n        pass\n\nassert y\n"
    assert list(pasted_wrongly(good)) == []
    for bad in (
        "with x:\n    pass\n\n    assert x\n",
        "with x:\n    pass\nassert x\n",
        "assert (x\n",
    ):
        assert list(pasted_wrongly(bad))


def test_each_guarantee_has_its_example() -> None:
    """Thirteen guarantees; one that cannot be shown is not to be claimed."""
    text = (DOCS / "guarantees.md").read_text(encoding="utf-8")
    sections = re.split(r"^## (?=\d+\. )", text, flags=re.MULTILINE)[1:]
    assert len(sections) == 13
    without = [section.splitlines()[0] for section in sections if not _BLOCK.search(section)]
    assert not without


def test_a_wrong_example_is_found(tmp_path: Path) -> None:
    """A check that cannot fail checks nothing; only marked blocks are run."""
    document = tmp_path / "a.md"
    document.write_text(
        "# A\n```python\nraise KeyError\n```\n"
        "```python run\nimport asyncio\nawait asyncio.sleep(0)\nassert not asyncio, 'seen'\n```\n"
    )
    (example,) = examples_in(document)
    assert (example.place, asserts(example.source)) == ("a.md:6", 1)
    with pytest.raises(AssertionError, match="seen") as caught:
        run(example)
    assert caught.traceback[-1].lineno == 7, "counted from 0: the line of the document"
