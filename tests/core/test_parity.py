"""Parities: sent while they cost less than the questions that they spare."""

from __future__ import annotations

from phalanx.transport.core.parity import OVER_BYTES, Parity
from phalanx.transport.drivers.base import ALL_PIECES, PARITIES

LONG = OVER_BYTES + 1


def lose(parity: Parity, frames: int, each: int) -> None:
    """Of so many frames every one of `each` is asked for in part."""
    for place in range(frames):
        parity.sent(LONG)
        if place % each == 0:
            parity.asked(1)


def test_where_much_is_asked_for_parities_go_along() -> None:
    """And with nothing that is short: they would be a large part of it."""
    parity = Parity()
    assert parity.pieces(LONG) == ALL_PIECES
    lose(parity, 200, each=5)
    assert parity.pieces(LONG) == ALL_PIECES | PARITIES
    assert parity.pieces(OVER_BYTES) == ALL_PIECES


def test_where_little_is_asked_for_none_do() -> None:
    """One question in a hundred frames costs less than a parity with each."""
    parity = Parity()
    lose(parity, 5000, each=100)
    assert not parity.pays


def test_they_go_on_while_a_few_are_asked_for_in_spite_of_them() -> None:
    """A tenth of the questions is left with parities, so that these alone say how much is lost."""
    parity = Parity()
    lose(parity, 200, each=5)
    lose(parity, 5000, each=100)
    assert parity.pays


def test_they_end_when_nothing_is_asked_for_any_more() -> None:
    """After some thousand frames; what is short says nothing."""
    parity = Parity()
    lose(parity, 200, each=2)
    for _ in range(10_000):
        parity.sent(OVER_BYTES)
    assert parity.pays
    for _ in range(2000):
        parity.sent(LONG)
    assert not parity.pays
