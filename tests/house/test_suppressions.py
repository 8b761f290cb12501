"""Whoever silences a checker says why, beside it."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

SILENCED = re.compile(r"#\s*(?:noqa|type:\s*ignore|pyright:\s*ignore)\b", re.IGNORECASE)
REASONED = re.compile(
    r"# (?:noqa: [A-Z]+\d+(?:, [A-Z]+\d+)*|pyright: ignore\[\w+(?:, \w+)*\]) - \S+ \S+"
    r"|# type: ignore\[[\w-]+(?:, [\w-]+)*\]  # \S+ \S+"  # mypy takes words only so
)


def unreasoned(name: str, source: str) -> Iterator[str]:
    """A sentence for each comment that silences a checker without its rule or without a reason."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            found = SILENCED.search(token.string)
            if found and not REASONED.match(token.string, found.start()):
                yield f"{name}:{token.start[0]}: {token.string!r} lacks its rule or its reason"


def test_every_suppression_has_its_reason(repository: Path, tracked: tuple[Path, ...]) -> None:
    """Without it nobody dares to remove one, and the next defect there is silent too."""
    complaints: list[str] = []
    for path in tracked:
        if path.suffix == ".py":
            name = str(path.relative_to(repository))
            complaints += unreasoned(name, path.read_text(encoding="utf-8"))
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize(
    "comment",
    [
        "# noqa",
        "# noqa - every rule of them",
        "# noqa: SIM115",
        "# noqa: SIM115 - closed",
        "# type: ignore",
        "# type: ignore[arg-type]",
        "# pyright: ignore[reportPrivateUsage]",
        "# pyright: ignore - it is private",
        "#type:ignore",
    ],
)
def test_each_bare_suppression_is_found(comment: str) -> None:
    """A check that cannot fail checks nothing."""
    assert len(list(unreasoned("a.py", f"x = 1  {comment}\n"))) == 1


@pytest.mark.parametrize(
    "line",
    [
        "x = 1  # noqa: SIM115 - closed by `close`",
        "x = 1  # noqa: SIM115, PT012 - see `open`",
        "x = 1  # pyright: ignore[reportPrivateUsage] - drawn by the fixture",
        "x = 1  # type: ignore[arg-type]  # checked above",
        'x = "a line that ends with # noqa"',
        "x = 1  # an ordinary remark",
    ],
)
def test_reasoned_suppressions_and_other_text_are_left_alone(line: str) -> None:
    """A check with false alarms is soon switched off."""
    assert list(unreasoned("a.py", f"{line}\n")) == []
