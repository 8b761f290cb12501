"""The closing lines of several runs of pytest as one: `closing_line.py SECONDS LOG ...`."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

_CLOSING = re.compile(r"^=+ (?P<counts>.*) in [0-9][^=]*=+$", re.MULTILINE)
_COUNT = re.compile(r"(\d+) (\w+)")
_WIDTH = 80


def closing(text: str) -> Counter[str]:
    """What the last closing line of a log counts; an error if there is none."""
    lines = _CLOSING.findall(text)
    if not lines:
        return Counter(error=1)
    counts: Counter[str] = Counter()
    for number, what in _COUNT.findall(lines[-1]):
        counts[what.removesuffix("s") if what in ("errors", "warnings") else what] += int(number)
    return counts


def main(seconds: str, *logs: str) -> None:
    """Print it."""
    total: Counter[str] = Counter()
    for log in logs:
        total += closing(Path(log).read_text(encoding="utf-8", errors="replace"))
    # As pytest does, what matters first.
    words = ", ".join(f"{total[what]} {what}" for what in sorted(total, key=_rank))
    print(f" {words} in {seconds}s ".center(_WIDTH, "="))


def _rank(what: str) -> tuple[int, str]:
    order = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "warning", "error")
    return (order.index(what) if what in order else len(order)), what


if __name__ == "__main__":
    main(*sys.argv[1:])
