"""Files and functions stay small enough to be read in one go."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
FOLDERS = ("transport", "barrier", "_native")


def too_large(name: str, source: str) -> Iterator[str]:
    """A sentence for the file if it is too long, and for each of its functions that is."""
    lines = len(source.splitlines())
    if lines > FILE_LINES_MAX:
        yield f"{name} has {lines} lines; {FILE_LINES_MAX} are allowed"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None, "the parser sets it"
            length = node.end_lineno - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                where = f"{name}:{node.lineno}"
                yield f"{where} {node.name} has {length} lines; {FUNCTION_LINES_MAX} are allowed"


def shipped_sources(repository: Path, tracked: Iterable[Path]) -> dict[str, str]:
    """Text of each Python file of the package, by its path from the root."""
    return {
        str(path.relative_to(repository)): path.read_text(encoding="utf-8")
        for path in tracked
        if path.suffix == ".py" and path.relative_to(repository).parts[0] in FOLDERS
    }


def test_files_and_functions_stay_within_their_limits(
    repository: Path, tracked: tuple[Path, ...]
) -> None:
    """Every model project of this field regrets its one 3,000-line file."""
    sources = shipped_sources(repository, tracked)
    assert sources, "no file was looked at"
    found = [line for name, text in sources.items() for line in too_large(name, text)]
    assert not found, "\n".join(found)


def test_the_limits_hold_to_the_line() -> None:
    """A check that cannot fail checks nothing: one line more is found, the limit itself is not."""
    function = "def f():\n" + "    pass\n" * (FUNCTION_LINES_MAX - 1)
    file = "x = 1\n" * FILE_LINES_MAX
    assert list(too_large("a.py", function)) == []
    assert list(too_large("a.py", file)) == []
    assert len(list(too_large("a.py", "async " + function + "    pass\n"))) == 1
    assert len(list(too_large("a.py", file + "x = 1\n"))) == 1
