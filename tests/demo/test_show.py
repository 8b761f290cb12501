"""What the demo shows: the table while it runs, and the picture at its end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from rich.console import Console

from phalanx.barrier.demo_book import Book
from phalanx.barrier.demo_live import node_table
from phalanx.barrier.demo_plot import PlotUnavailable, draw
from phalanx.barrier.demo_reports import (
    SLOT_NS,
    BarrierSeen,
    Deliveries,
    PathSeen,
    Report,
    ViewSeen,
)
from phalanx.barrier.demo_script import Act, Mark

S = 1_000_000_000
NAMES = ("alpha", "bravo", "charlie")


def book_of_one() -> Book:
    """Alpha has got 30 messages in each hundredth of its first second, and bravo is unwell."""
    book = Book()
    book.add(
        book.begin(1),
        Report(
            node=1,
            incarnation=1,
            at_ns=S,
            deliveries=[Deliveries(2, slot, 30, 11_000) for slot in range(S // SLOT_NS)],
            views=[ViewSeen(1, 4, ((1, 1), (2, 1)), S // 2)],
            paths=[PathSeen(2, "a", "suspect", False), PathSeen(2, "b", "up", True)],
            barriers=[BarrierSeen((1, 4, 1), "", S // 2), BarrierSeen((0, 0, 0), "left", S)],
        ),
    )
    return book


def test_the_table_says_how_everybody_is() -> None:
    """Names, the view, the path in use, rate, gap and barriers; whoever is down has a row, too."""
    table = node_table("title", NAMES, {"alpha": book_of_one().processes[0]})
    console = Console(width=160, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    alpha, bravo = (
        next(line for line in capture.get().splitlines() if line.startswith(f"│ {name}"))
        for name in ("alpha", "bravo")
    )
    cells = [cell.strip() for cell in alpha.strip("│").split("│")]
    assert cells == [
        "alpha",
        "1.4: alpha bravo",
        "bravo: a suspect b*",
        "3,000",
        "11 ms",
        "1 (1 broken)",
        "0/0/0",
    ]
    assert {cell.strip() for cell in bravo.strip("│").split("│")[1:]} == {"-"}


def picture(path: Path) -> None:
    """Draw what `book_of_one` has, with one fault."""
    draw(
        path,
        book=book_of_one(),
        marks=[Mark(act=Act.DROP, at_ns=S // 2, words="rail a dropped")],
        names=NAMES,
        start_ns=0,
        go_ns=0,
        end_ns=S,
        title="title",
        captions={Act.DROP: "longest gap 1 ms"},
    )


def test_the_picture_is_written_even_of_little(tmp_path: Path) -> None:
    """A run that went wrong early is the one whose picture is wanted most."""
    picture(tmp_path / "demo.png")
    assert (tmp_path / "demo.png").stat().st_size > 10_000


def test_without_matplotlib_there_is_a_reason_and_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Drawing is an extra, so its absence must not cost the rest of the result."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotUnavailable, match=r"pip install 'phalanx\[plot\]'"):
        picture(tmp_path / "demo.png")


def test_a_picture_that_cannot_be_written_is_no_crash(tmp_path: Path) -> None:
    """The run of a minute is over by then; its figures are still to be printed."""
    with pytest.raises(PlotUnavailable, match=r"No picture: .*missing"):
        picture(tmp_path / "missing" / "demo.png")
    with pytest.raises(PlotUnavailable, match=r"No picture: .*nonsense"):
        picture(tmp_path / "demo.nonsense")
