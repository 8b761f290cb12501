"""The documents lead to what they name, and their examples are Python."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<ticks>```+|~~~+) *(?P<language>[^\s`{]*)[^\n]*\n"
    r"(?P<body>.*?)^ *(?P=ticks) *$",
    re.MULTILINE | re.DOTALL,
)
_CODE_SPAN = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*<?(\S+?)>?(?:\s|$)", re.M)
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$", re.MULTILINE)
_ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def prose(text: str) -> str:
    """A document without its code."""
    return _CODE_SPAN.sub("", _FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """The names by which a document's headings can be linked, as the usual forges make them."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = base = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        again = 0
        while name in found:
            again += 1
            name = f"{base}-{again}"
        found.add(name)
    return found


def has_heading(document: Path, anchor: str) -> bool:
    """Whether a document has a heading that is linked by that name."""
    return anchor in anchors(document.read_text(encoding="utf-8"))


def dead_links(document: Path) -> Iterator[str]:
    """Every relative link of a document that leads nowhere."""
    text = document.read_text(encoding="utf-8")
    for groups in _LINK.findall(prose(text)):
        link: str = groups[0] or groups[1]
        if _ELSEWHERE.match(link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = document.parent / path if path else document
        if not target.exists():
            yield f"{document.name}: {link}: there is no such file"
        elif anchor and target.suffix == ".md" and not has_heading(target, anchor):
            yield f"{document.name}: {link}: there is no such heading"


def broken_examples(document: Path) -> Iterator[str]:
    """Every code block marked `python` that is not Python; `await` may stand at the top."""
    text = document.read_text(encoding="utf-8")
    for block in _FENCE.finditer(text):
        if block["language"] != "python":
            continue
        line = text.count("\n", 0, block.start()) + 1
        try:
            compile(
                textwrap.dedent(block["body"]),
                document.name,
                "exec",
                flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
                dont_inherit=True,
            )
        except SyntaxError as error:
            yield f"{document.name}:{line}: {error.msg} in line {error.lineno} of the block"


def documents(tracked: tuple[Path, ...]) -> list[Path]:
    """All Markdown files."""
    found = [path for path in tracked if path.suffix == ".md"]
    assert found, "there is at least the changelog"
    return found


def test_relative_links_lead_somewhere(tracked: tuple[Path, ...]) -> None:
    """A reader who follows a dead link stops trusting the rest."""
    found = [line for path in documents(tracked) for line in dead_links(path)]
    assert not found, "\n".join(found)


def test_python_examples_compile(tracked: tuple[Path, ...]) -> None:
    """Examples are copied; one with a typing error costs every reader the same minute."""
    found = [line for path in documents(tracked) for line in broken_examples(path)]
    assert not found, "\n".join(found)


def test_dead_links_are_found_and_living_ones_are_not(tmp_path: Path) -> None:
    """A check that cannot fail checks nothing."""
    (tmp_path / "other.md").write_text("# The `wire` format, v2\n```sh\n# no heading\n```\n")
    document = tmp_path / "a.md"
    document.write_text(
        "[a](other.md) [b](other.md#the-wire-format-v2) [c](https://example.org/x) `[d](no.md)`\n"
        "```text\n[e](no.md)\n```\n"
        "[f](gone.md) ![g](other.md#gone)\n[h]: gone.txt\n# Here\n[i](#here) [j](#there)\n"
    )
    complaints = list(dead_links(document))
    assert [line.split(": ")[1] for line in complaints] == [
        "gone.md",
        "other.md#gone",
        "gone.txt",
        "#there",
    ]


def test_broken_examples_are_found_and_good_ones_are_not(tmp_path: Path) -> None:
    """A check that cannot fail checks nothing."""
    document = tmp_path / "a.md"
    document.write_text(
        "```python\nasync with x as y:\n    await y\n```\n"
        "  ```python\n  await z\n  ```\n"
        "```text\ndef f(:\n```\n"
        "```python\ndef f(:\n```\n"
    )
    assert [line.split(": ")[0] for line in broken_examples(document)] == ["a.md:11"]
