"""What a failure has cost is read from when messages came: gaps, views, and what was lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from peers.corosync import TUNED, configuration
from peers.failover_result import (
    MS,
    Broken,
    FailoverReport,
    Failure,
    judge,
    look,
    summed_up,
)
from peers.lines import Trace
from peers.machine import this_machine
from peers.stage import Stage
from phalanx.barrier.demo_plot import draw
from phalanx.transport.testing.lab import Lab

AT_NS = 5_000 * MS


def trace(*at_ms: float, gaps: int = 0, views: tuple[tuple[float, int], ...] = ()) -> Trace:
    """Messages that came so many milliseconds after the failure, and views of so many members."""
    return Trace(
        times_ns=[AT_NS + int(ms * MS) for ms in at_ms],
        gaps=gaps,
        views=[(AT_NS + int(ms * MS), members) for ms, members in views],
    )


def test_the_longest_gap_is_that_of_the_worst_receiver_from_the_failure_on() -> None:
    """What was before is told apart, and the sender's own deliveries say nothing."""
    sender = trace(-2, -1, 0, 900, 901)
    fine, worse = trace(-9, -2, 3, 4, 5), trace(-3, -2, 1, 41, 42)
    broken = look(AT_NS, 5, [sender, fine, worse], None)
    assert (broken.gap_ms, broken.before_ms) == (40.0, 7.0)
    assert broken.view_ms is None
    assert broken.lost == 0
    assert broken.timeline == [(10.0, 3.0), (50.0, 40.0)]


def test_a_receiver_that_gets_nothing_any_more_has_no_end_of_its_gap() -> None:
    """It is not taken for the best of all."""
    assert look(AT_NS, 3, [trace(), trace(-2, -1)], None).gap_ms == float("inf")


def test_all_who_are_left_have_to_know() -> None:
    """The view counts that has so many members, and of the last to have it."""
    views = ((-300.0, 2), (20.0, 2), (500.0, 3))
    late = trace(1, 2, views=((30.0, 2),))
    assert look(AT_NS, 2, [trace(views=views), late], 2).view_ms == 30.0
    never = trace(1, 2, views=((-30.0, 2),))
    assert look(AT_NS, 2, [trace(views=views), never], 2).view_ms == float("inf")


def test_what_did_not_come_and_what_came_otherwise_is_lost() -> None:
    """Missing, doubled and overtaking messages, of every receiver."""
    assert look(AT_NS, 3, [trace(), trace(1, 2), trace(1, 2, 3, 4)], None).lost == 2
    assert look(AT_NS, 2, [trace(), trace(1, 2, gaps=1)], None).lost == 1


def row(system: str, fault: str, gap_ms: float, view_ms: float | None = None) -> Failure:
    """A figure of one run."""
    run = Broken(gap_ms=gap_ms, before_ms=2.0, view_ms=view_ms, lost=0, timeline=[(10.0, gap_ms)])
    return summed_up(system, fault, 3, 256, 1000, [run])


def test_the_median_of_the_runs_counts_and_all_that_is_lost() -> None:
    """One bad run is in the range."""
    runs = [
        Broken(gap_ms=gap, before_ms=gap / 10, view_ms=gap, lost=1, timeline=[(10.0, gap)])
        for gap in (40.0, 20.0, 900.0)
    ]
    figure = summed_up("phalanx", "killed", 3, 256, 1000, runs)
    assert (figure.gap_ms, figure.gap_range_ms) == (40.0, (20.0, 900.0))
    assert (figure.view_ms, figure.before_ms, figure.lost) == (40.0, 4.0, 3)
    assert figure.timeline == [(10.0, 40.0)]


@pytest.mark.parametrize(
    ("system", "fault", "gap_ms", "view_ms", "passed"),
    [
        ("phalanx", "silent drop", 60.0, None, True),
        ("phalanx", "silent drop", 60.1, None, False),
        ("phalanx, active rails", "silent drop", 10.1, None, False),
        ("phalanx", "link down", 30.1, None, False),
        ("phalanx", "killed", 900.0, 50.0, True),
        ("phalanx", "vanished", 0.0, 600.1, False),
    ],
)
def test_phalanx_has_limits(
    system: str, fault: str, gap_ms: float, view_ms: float | None, passed: bool
) -> None:
    """Of the gap where a rail fails, of the view where a member does."""
    assert [v.passed for v in judge([row(system, fault, gap_ms, view_ms)])] == [passed]


def test_others_are_only_told() -> None:
    """There are no limits of a peer."""
    assert not judge([row("corosync", "silent drop", 2616.0), row("corosync, tuned", "killed", 9)])


def test_a_result_fits_a_terminal_and_a_picture(tmp_path: Path) -> None:
    """And phalanx must have lost nothing for it to be sound; a peer may."""
    rows = [row("phalanx", "silent drop", 30.0), row("corosync, active links", "killed", 9.0, 8037)]
    report = FailoverReport(
        machine=this_machine(), versions={}, failures=rows, verdicts=judge(rows)
    )
    assert report.sound
    draw(tmp_path / "picture.png", report.figure())
    assert (tmp_path / "picture.png").stat().st_size > 10_000
    assert len(report.tables()) == 3


def test_a_tuned_daemon_has_its_lines_for_each_rail(tmp_path: Path) -> None:
    """Of a daemon as it comes the file says nothing of the kind."""
    stage = Stage(lab=Lab(3, ("a", "b"), "configured"), folder=tmp_path)
    text = configuration(stage, "bravo", 3, TUNED)
    assert text.count("knet_ping_timeout: 400\n") == 2
    assert "  token: 400\n" in text
    assert "interface" not in configuration(stage, "bravo", 3)
