"""The checks of the worker find what they look for: a check that cannot fail checks nothing."""

from __future__ import annotations

import pytest

from .audit import TIMES_KEPT, Audit, Times, make_message

MEMBERS = {1: 1, 2: 7}


def receiver(*numbers: int, incarnation: int = 7) -> Audit:
    """Node 1, in a view with node 2, after it received these numbers of it."""
    audit = Audit(1)
    audit.installed({1: 1}, [1])
    audit.installed(MEMBERS, [2])
    for number in numbers:
        message = make_message(2, incarnation, number, 200)
        audit.take(2, [message], directed=False, at_ns=number * 1000)
    return audit


@pytest.mark.parametrize(
    ("numbers", "faults"),
    [
        ((1, 2, 3), (0, 0, 0)),
        ((2, 3), (1, 0, 0)),
        ((1, 4), (2, 0, 0)),
        ((1, 2, 2), (0, 1, 0)),
        ((1, 3, 2), (0, 0, 1)),
    ],
)
def test_losses_duplicates_and_wrong_order_are_told_apart(
    numbers: tuple[int, ...], faults: tuple[int, int, int]
) -> None:
    """A newcomer's very first message must arrive at all who were there before it."""
    audit = receiver(*numbers)
    assert (audit.lost, audit.duplicated, audit.reordered) == faults


def test_a_message_of_a_former_life_is_stale() -> None:
    """Incarnations are in the messages, so that none can be taken for one of the next life."""
    assert receiver(1, incarnation=6).stale == 1


def test_a_damaged_message_counts_as_lost() -> None:
    """Integrity covers every byte."""
    audit = receiver()
    audit.take(2, [make_message(2, 7, 1, 200)[:-1] + b"?"], directed=False, at_ns=0)
    assert audit.lost == 1


def test_a_newcomer_starts_wherever_the_others_are() -> None:
    """What was sent before it came is none of its business; from then on nothing may be missing."""
    audit = Audit(1)
    audit.installed(MEMBERS, [1, 2])
    for number in (50, 51, 53):
        audit.take(2, [make_message(2, 7, number, 200)], directed=False, at_ns=0)
    assert (audit.lost, audit.last(2, directed=False)) == (1, 53)


def test_a_gap_counts_from_the_fault_and_as_far_as_the_silence_goes() -> None:
    """A stream that never comes back must show the whole span, not nothing."""
    audit = receiver(1, 2, 3, 7)
    assert audit.gap_ns(2, directed=False, from_ns=0, to_ns=8000) == 4000
    assert audit.gap_ns(2, directed=False, from_ns=2500, to_ns=5000) == 2000
    assert audit.gap_ns(2, directed=False, from_ns=7000, to_ns=19_000) == 12_000
    assert audit.gap_ns(3, directed=False, from_ns=0, to_ns=5000) == 5000


def test_times_keep_the_newest() -> None:
    """Memory is bounded, and what a gap is made of is recent."""
    times = Times()
    for at_ns in range(TIMES_KEPT + 2):
        times.add(at_ns)
    assert (next(iter(times)), times.last) == (2, TIMES_KEPT + 1)
    assert len(list(times)) == TIMES_KEPT
