"""What the demo shows: the table while it runs, and the picture at its end."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from phalanx.barrier.demo_book import Book, Process
from phalanx.barrier.demo_live import compose, node_table
from phalanx.barrier.demo_plot import PlotUnavailable, check_path, draw, make_figure, view_words
from phalanx.barrier.demo_reports import (
    SLOT_NS,
    BarrierSeen,
    Deliveries,
    PathSeen,
    Report,
    ViewSeen,
)
from phalanx.barrier.demo_script import Act, Mark, make_plan

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


def crowded(nodes: int) -> tuple[tuple[str, ...], dict[str, Process]]:
    """Everybody but the last, each with two paths to each peer of which one is suspect."""
    names = (*NAMES, *(f"node{number}" for number in range(4, nodes + 1)))
    processes: dict[str, Process] = {}
    everybody = tuple((node, 1) for node in range(1, nodes + 1))
    for node, name in enumerate(names[:-1], start=1):
        book = Book()
        process = processes[name] = book.begin(node)
        paths = [
            PathSeen(peer, rail, "suspect" if rail == "a" else "up", rail == "b")
            for peer, _ in everybody
            if peer != node
            for rail in "ab"
        ]
        views = [ViewSeen(1, 14, everybody, S)]
        released = [BarrierSeen((1, 4, number), "", S) for number in range(140)]
        report = Report(
            node=node,
            incarnation=1,
            at_ns=S,
            deliveries=[Deliveries(1, slot, 30, 411_000) for slot in range(100)],
            paths=paths,
            views=views,
            barriers=[*released, BarrierSeen((0, 0, 0), "left", S)],
        )
        book.add(process, report)
    return names, processes


def screen(width: int, height: int, nodes: int) -> list[str]:
    """The lines of a terminal of that size."""
    names, processes = crowded(nodes)
    said = [f"{second:6.2f} s  rail a of node{second} silently dropped" for second in range(20)]
    console = Console(width=width, height=height, color_system=None)
    with console.capture() as capture:
        console.print(compose(console, "hosts on rails a, b", names, processes, said))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_on_a_small_terminal_no_row_is_broken_and_the_last_fault_is_seen() -> None:
    """The usual terminal is 80 by 24; a fault below its last line did not happen for the viewer."""
    lines = screen(80, 24, 3)
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    assert lines[2].endswith("node19 silently dropped"), "above the table"
    for name in NAMES:
        assert sum(line.startswith(f" {name} ") for line in lines) == 1
    [alpha] = [" ".join(line.split()) for line in lines if line.startswith(" alpha ")]
    assert alpha == "alpha 1.14 bravo:a?b* charlie:a?b* 3000 411ms 140 (1) 0/0/0"
    # So many nodes do not fit; the last fault does all the same.
    assert any("node19" in line for line in screen(80, 24, 12)[:5])


def test_on_a_large_terminal_what_happened_stands_below_with_more_of_it() -> None:
    """Lines that come and go above a table make it jump."""
    lines = screen(160, 24, 3)
    assert lines[-1].endswith("node19 silently dropped")
    assert sum("silently dropped" in line for line in lines) == 8
    assert any("1.14: alpha bravo charlie" in line for line in lines)
    assert "node19" in screen(120, 14, 3)[2], "a low terminal is a small one"


def figure(marks: Sequence[Mark] = (), go_ns: int = 0, end_ns: int = S) -> Any:
    """What `book_of_one` has, as a picture."""
    return make_figure(
        book=book_of_one(),
        marks=marks,
        names=NAMES,
        start_ns=0,
        go_ns=go_ns,
        end_ns=end_ns,
        title="title",
        captions={Act.DROP: "longest gap in deliveries 120 ms"},
    )


def picture(path: Path) -> None:
    """Draw what `book_of_one` has, with one fault."""
    draw(path, figure([Mark(act=Act.DROP, at_ns=S // 2, words="rail a dropped")]))


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("seconds", [4, 15, 300])
def test_no_label_of_the_picture_hides_another(seconds: int, fallback: bool) -> None:
    """Events follow each other within a second; "new view after 14 msrestarted" says nothing."""
    words = {
        Act.DROP: "rail a of bravo silently dropped",
        Act.LINK_DOWN: "link of charlie to rail a down",
        Act.BLOCK: "SCTP blocked between all hosts",
        Act.KILL: "charlie killed (SIGKILL)",
    }
    plan = make_plan(seconds=seconds, nodes=3, rails=2, breakable=True, fallback=fallback)
    marks = [Mark(act=act, at_ns=int(at * S), words=words.get(act, "")) for at, act in plan.acts]
    drawn = figure(marks, end_ns=seconds * S)
    drawn.draw_without_rendering()
    labels = [text for text in drawn.axes[0].texts if text.get_text()]
    assert len(labels) == len(marks) + 1, "and the view"
    boxes = [label.get_window_extent() for label in labels]
    for one, other in itertools.combinations(range(len(boxes)), 2):
        hidden = boxes[one].overlaps(boxes[other])
        assert not hidden, (labels[one].get_text(), labels[other].get_text())


def test_views_that_follow_each_other_closely_are_written_in_rows() -> None:
    """An unsteady network is when somebody looks at the picture."""
    book = Book()
    views = [ViewSeen(1, k, ((1, 1), (2, 1), (3, 1)), S + k * S // 50) for k in range(1, 5)]
    slots = [Deliveries(2, slot, 30, 11_000) for slot in range(300)]
    book.add(book.begin(1), Report(node=1, incarnation=1, at_ns=S, views=views, deliveries=slots))
    drawn = make_figure(
        book=book,
        marks=[],
        names=NAMES,
        start_ns=0,
        go_ns=0,
        end_ns=S + S // 10,
        title="title",
        captions={},
    )
    drawn.draw_without_rendering()
    boxes = [label.get_window_extent() for label in drawn.axes[0].texts]
    assert len(boxes) == 4
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    right = drawn.axes[0].get_window_extent().x1
    assert all(box.x1 <= right + 1 for box in boxes)


def test_the_picture_names_the_members_of_a_view() -> None:
    """A number alone does not say who is missing; the names of many would fill the picture."""
    few, many = ((1, 1), (3, 1)), tuple((node, 1) for node in range(1, 8))
    names = tuple("abcdefgh")
    assert view_words(ViewSeen(1, 2, few, 0), names) == "view 2: a, c"
    assert view_words(ViewSeen(1, 3, many, 0), names) == "view 3: 7 of 8 nodes"


def test_the_picture_is_written_even_of_little(tmp_path: Path) -> None:
    """A run that went wrong early is the one whose picture is wanted most."""
    picture(tmp_path / "demo.png")
    assert (tmp_path / "demo.png").stat().st_size > 10_000


def test_without_matplotlib_there_is_a_reason_and_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Drawing is an extra, so its absence must not cost the rest of the result.

    The remedy works in this environment: phalanx itself is on no index.
    """
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotUnavailable, match=rf"{sys.executable} -m pip install matplotlib\)"):
        picture(tmp_path / "demo.png")


def test_a_picture_that_cannot_be_written_is_no_crash(tmp_path: Path) -> None:
    """The run of a minute is over by then; its figures are still to be printed."""
    with pytest.raises(PlotUnavailable, match=r"No picture: .*missing"):
        picture(tmp_path / "missing" / "demo.png")
    with pytest.raises(PlotUnavailable, match=r"No picture: .*nonsense"):
        picture(tmp_path / "demo.nonsense")


def test_a_picture_that_cannot_be_written_is_found_out_before_the_run(tmp_path: Path) -> None:
    """A minute of traffic for a picture that cannot be had is a minute lost."""
    check_path(tmp_path / "demo.png")
    assert list(tmp_path.iterdir()) == [], "looking leaves nothing behind"
    (tmp_path / "there.svg").write_text("of the last run")
    check_path(tmp_path / "there.svg")
    assert (tmp_path / "there.svg").read_text() == "of the last run"
    (tmp_path / "folder.png").mkdir()
    for path, words in (
        (tmp_path / "demo.xyz", r"use one of the suffixes \.png"),
        (tmp_path / "demo", "use one of the suffixes"),
        (tmp_path / "folder.png", "cannot be written: Is a directory"),
        (Path("/proc/demo.png"), "cannot be written"),
    ):
        with pytest.raises(PlotUnavailable, match=words):
            check_path(path)


@pytest.mark.parametrize(
    "suffix", [".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp", ".eps", ".ps"]
)
def test_what_passes_the_look_ahead_can_be_drawn(tmp_path: Path, suffix: str) -> None:
    """A format that is let through must not fail at the end."""
    path = tmp_path / f"demo{suffix}"
    check_path(path)
    picture(path)
    assert path.stat().st_size > 1000
