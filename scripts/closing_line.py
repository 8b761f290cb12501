"""The closing lines of several runs of pytest as one: `closing_line.py SECONDS LOG ...`."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

_CLOSING = re.compile(r"^=+ (?P<counts>.*) in [0-9][^=]*=+$", re.MULTILINE)
_COUNT = re.compile(r"(\d+) (\w+)")
_WORDS = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "warning", "error")
"""All that pytest may count, in its order, whether or not anything here is ever skipped: what is
not listed would not be seen. The last two it counts as nouns."""
_NOUNS = _WORDS[-2:]
_WIDTH = 80


def closing(text: str) -> Counter[str]:
    """What the last closing line of a log counts; an error if there is none."""
    lines = _CLOSING.findall(text)
    if not lines:
        return Counter(error=1)
    counts: Counter[str] = Counter()
    for number, what in _COUNT.findall(lines[-1]):
        noun = what.removesuffix("s")
        counts[noun if noun in _NOUNS else what] += int(number)
    return counts


def main(seconds: str, *logs: str) -> None:
    """Print it."""
    total: Counter[str] = Counter()
    for log in logs:
        total += closing(Path(log).read_text(encoding="utf-8", errors="replace"))
    # A word that is not known here is not left out.
    words = [it for it in _WORDS if total[it]] + sorted(it for it in total if it not in _WORDS)
    counts = ", ".join(f"{total[it]} {it}{_plural(it, total[it])}" for it in words)
    print(f" {counts} in {seconds}s ".center(_WIDTH, "="))


def _plural(word: str, count: int) -> str:
    return "s" if word in _NOUNS and count != 1 else ""


if __name__ == "__main__":
    main(*sys.argv[1:])
