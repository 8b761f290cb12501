"""What the demo concludes from its processes' reports."""

from __future__ import annotations

import msgspec
import pytest

from phalanx.barrier.demo_book import Book, Process
from phalanx.barrier.demo_reports import (
    SLOT_NS,
    BarrierSeen,
    Deliveries,
    Report,
    ViewSeen,
    decode,
    encode,
)
from phalanx.barrier.demo_result import Findings
from phalanx.barrier.demo_script import Act, Mark, make_plan
from phalanx.transport.testing.numbered import Received

MS = 1_000_000
S = 1000 * MS


def report(node: int, **fields: object) -> Report:
    """A report of a process that has stopped sending."""
    plain = Report(node=node, incarnation=1, at_ns=0, sent=0, quiet=True)
    return msgspec.structs.replace(plain, **fields)


def told(book: Book, node: int, **fields: object) -> Process:
    """A process that has made one report."""
    process = book.begin(node)
    book.add(process, report(node, **fields))
    return process


def streams(**last: int) -> list[Received]:
    """Streams by sender and incarnation: s1_2=30 is node 1, start 2, received up to 30."""
    found: list[Received] = []
    for name, number in last.items():
        sender, incarnation = map(int, name.removeprefix("s").split("_"))
        found.append(Received(sender, incarnation, 1, number, number))
    return found


def test_a_report_survives_the_pipe() -> None:
    """Both ends of the pipe are of the same version, so nothing may be lost on it."""
    original = report(
        2,
        sent=3,
        streams=streams(s1_1=4),
        deliveries=[Deliveries(1, 7, 4, 1500)],
        views=[ViewSeen(1, 2, ((1, 1), (2, 1)), 99)],
        barriers=[BarrierSeen((1, 2, 3), "", 5)],
        undelivered={3: 1},
    )
    assert decode(encode(original)) == original


def test_the_last_messages_must_have_arrived_everywhere() -> None:
    """A gap in the numbers is only seen by one who gets a later one; the end needs comparing."""
    book = Book()
    first = told(book, 1, sent=10, streams=streams(s1_1=10, s2_1=20))
    second = told(book, 2, sent=20, streams=streams(s1_1=9, s2_1=20))
    assert not book.complete([first, second])
    assert book.faults([first, second]).lost == 1
    book.add(second, report(2, sent=20, streams=streams(s1_1=10, s2_1=20)))
    assert book.complete([first, second])
    assert book.faults([first, second]).none


def test_survivors_must_have_the_same_of_one_who_died() -> None:
    """View synchrony: who goes on together has delivered the same of the dead."""
    book = Book()
    processes = [
        told(book, node, streams=streams(s1_1=0, s2_1=0, s3_7=last))
        for node, last in ((1, 50), (2, 48))
    ]
    assert book.faults(processes).lost == 2


def test_a_gap_counts_if_it_overlaps_the_window() -> None:
    """A gap that began before the fault, or ended long after, is the fault's as well."""
    book = Book()
    second = S // SLOT_NS
    told(book, 1, deliveries=[Deliveries(2, second, 1, 300_000), Deliveries(2, second + 1, 1, 900)])
    assert book.gap_ms(S, 2 * S) == 300
    assert book.gap_ms(S // 2, S - 250 * MS) == 300
    assert book.gap_ms(S // 2, S - 310 * MS) is None
    assert book.gap_ms(S + 10 * MS, 2 * S) == pytest.approx(0.9)
    assert book.gap_ms(S, 2 * S, frozenset({1, 3})) is None


def test_what_followed_a_crash_is_dated_by_the_slowest() -> None:
    """Everybody must know of a death; the quickest to hear of it proves nothing."""
    book = Book()
    all_three = ViewSeen(1, 1, ((1, 1), (2, 1), (3, 1)), S)
    for node, at_ms in ((1, 12), (2, 40)):
        without = ViewSeen(1, 2, ((1, 1), (2, 1)), 5 * S + at_ms * MS)
        again = ViewSeen(1, 3, ((1, 1), (2, 1), (3, 2)), 7 * S + (500 + at_ms) * MS)
        told(book, node, views=[all_three, without, again])
    told(book, 3, views=[all_three])
    told(book, 3, views=[ViewSeen(1, 3, ((1, 1), (2, 1), (3, 2)), 7 * S + 600 * MS)])
    findings = Findings(
        book=book,
        marks=[
            Mark(act=Act.KILL, at_ns=5 * S, words="killed"),
            Mark(act=Act.RESTART, at_ns=7 * S, words="restarted"),
        ],
        names=("alpha", "bravo", "charlie"),
        living=[book.processes[0], book.processes[1], book.processes[3]],
        start_ns=0,
        go_ns=S,
        end_ns=9 * S,
    )
    result = findings.result()
    assert (result.crash_detected_ms, result.rejoined_ms) == (40, 600)
    assert [view["members"] for view in result.views] == [[1, 2, 3], [1, 2], [1, 2, 3]]
    assert [view["at_ms"] for view in result.views] == [1000, 5012, 7512]
    assert findings.good


def test_the_title_of_the_picture_has_the_verdict() -> None:
    """The picture is shown without the words that the command wrote beside it."""
    for lost, words in (
        (0, "Nothing was lost, duplicated or reordered among the members that stayed."),
        (2, "WRONG: 2 messages were lost, 0 duplicated, 0 reordered."),
    ):
        book = Book()
        living = [told(book, 1, lost=lost, carrier="user_sctp")]
        findings = Findings(
            book=book, marks=[], names=("alpha",), living=living, start_ns=0, go_ns=S, end_ns=2 * S
        )
        title = findings.title(3, 1, 1000.0)
        assert title == f"phalanx demo: 3 nodes, 1 rail, 1000 messages/s each, user_sctp\n{words}"
        assert words in findings.words()


def test_a_generation_is_counted_once() -> None:
    """Three processes that pass a barrier together pass one barrier."""
    book = Book()
    for node, whys in ((1, ["", "left"]), (2, ["", ""]), (3, [""])):
        outcomes = [
            BarrierSeen((0, 0, 0) if why else (1, 1, number), why, 0)
            for number, why in enumerate(whys, start=1)
        ]
        told(book, node, barriers=outcomes)
    assert book.barriers() == (2, 1)


@pytest.mark.parametrize(
    ("nodes", "rails", "breakable", "acts", "left_out"),
    [
        (3, 2, True, 6, 0),
        (2, 2, True, 4, 1),
        (3, 1, True, 2, 1),
        (3, 1, False, 2, 1),
        (2, 1, False, 0, 2),
    ],
)
def test_what_cannot_be_shown_is_left_out_and_said(
    nodes: int, rails: int, breakable: bool, acts: int, left_out: int
) -> None:
    """A demo that silently shows less would be taken for one that shows all."""
    plan = make_plan(seconds=15, nodes=nodes, rails=rails, breakable=breakable)
    assert (len(plan.acts), len(plan.left_out)) == (acts, left_out)
    more = make_plan(seconds=15, nodes=nodes, rails=rails, breakable=breakable, fallback=True)
    assert len(more.acts) - acts == 2 * breakable, "SCTP can be blocked on a single rail too"


@pytest.mark.parametrize("fallback", [False, True])
def test_every_fault_of_a_full_run_has_its_two_seconds(fallback: bool) -> None:
    """A gap is measured to two seconds after the fault, so nothing else may happen in them."""
    plan = make_plan(seconds=15, nodes=3, rails=2, breakable=True, fallback=fallback)
    times = [at for at, _ in plan.acts]
    faults = times[::2]
    followers = [*times[1::2]]
    assert all(later - fault >= 1.99 for fault, later in zip(faults, followers, strict=True))
    assert 15 - times[-1] >= 2
