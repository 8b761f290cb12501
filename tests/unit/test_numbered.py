"""The checks of the demo find what they are there to find."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phalanx.transport.testing.numbered import Received, Tally, make_message

SIZE = 40


def message(number: int, *, incarnation: int = 5, node: int = 2) -> bytes:
    """A message as a worker makes it."""
    return make_message(node, incarnation, number, SIZE)


def watching(*, joined: tuple[int, ...] = (2,)) -> Tally:
    """Node 1, in a view with node 2."""
    tally = Tally(1)
    tally.installed({1: 1, 2: 5}, joined)
    return tally


def figures(tally: Tally) -> tuple[int, int, int]:
    """Lost, duplicated, reordered."""
    return tally.lost, tally.duplicated, tally.reordered


def test_consecutive_numbers_are_right() -> None:
    """The usual case, and the totals that are compared at the end."""
    tally = watching()
    assert tally.take(2, [message(number) for number in (1, 2, 3)]) == 3
    assert figures(tally) == (0, 0, 0)
    assert tally.streams() == [Received(sender=2, incarnation=5, first=1, last=3, count=3)]


def test_a_newcomer_to_the_view_starts_with_number_1() -> None:
    """Who was there when the sender came must have its first message."""
    tally = watching()
    tally.take(2, [message(2)])
    assert figures(tally) == (1, 0, 0)


def test_one_who_has_just_joined_starts_anywhere() -> None:
    """What was sent before the receiver came was never meant for it."""
    tally = watching(joined=(1,))
    tally.take(2, [message(700), message(701)])
    assert figures(tally) == (0, 0, 0)
    tally.take(2, [message(703)])
    assert figures(tally) == (1, 0, 0)


def test_a_message_of_an_ended_life_is_out_of_place() -> None:
    """Ids are never reused: nothing of an incarnation follows its end."""
    tally = watching()
    tally.take(2, [message(1)])
    tally.installed({1: 1, 2: 6}, (2,))
    tally.take(2, [message(2), message(1, incarnation=6)])
    assert figures(tally) == (0, 0, 1)


def test_a_changed_message_is_not_the_one_that_was_sent() -> None:
    """Integrity is a part of the promise."""
    tally = watching()
    tally.take(2, [message(1)[:-1] + b"?", message(1, node=3)])
    assert tally.lost == 2


@given(st.data())
def test_every_disturbance_is_found_and_named(data: st.DataObject) -> None:
    """Whatever was done to the stream, the three figures say how much of it and which kind."""
    count = data.draw(st.integers(3, 60), label="messages")
    numbers = list(range(1, count + 1))
    # The last one stays, since what is missing at the end is found by comparing totals.
    dropped = data.draw(st.sets(st.sampled_from(numbers[:-1]), max_size=5), label="dropped")
    kept = [number for number in numbers if number not in dropped]
    doubled = data.draw(st.lists(st.sampled_from(kept), max_size=5), label="doubled")
    late = data.draw(
        st.lists(st.sampled_from(sorted(dropped)), unique=True) if dropped else st.just([]),
        label="late",
    )
    tally = watching()
    tally.take(2, map(message, kept))
    tally.take(2, map(message, doubled))
    tally.take(2, map(message, late))
    assert figures(tally) == (len(dropped) - len(late), len(doubled), len(late))
