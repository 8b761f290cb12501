"""What is missing of numbered frames: who asks when, and what goes again to whom."""

from __future__ import annotations

import itertools
import random

import pytest

from phalanx.transport.config import MS
from phalanx.transport.core.fan_out import BACKOFF_GRTTS, backoff_ns
from phalanx.transport.core.repair import (
    KEPT_BYTES_MAX,
    KEPT_FRAMES_MAX,
    LATER_MAX,
    RETRY_MIN_NS,
    TRIES_MAX,
    ReceiveWindow,
    SendWindow,
    near,
    share,
)
from phalanx.transport.drivers.base import ALL_PIECES, DATAGRAM_BYTES_MAX, NUMBERS
from phalanx.transport.wire_group import LACKS_MAX, Lack, Stand

GUARD_NS = MS // 4
GRTT_NS = MS
START = NUMBERS - 5
"""So that numbers begin anew in the middle of each case."""


def whole(number: int, frames: int = 1) -> Lack:
    """A lack of whole frames."""
    return Lack((START + number) % NUMBERS, frames, ALL_PIECES)


class Receiver:
    """A window with a clock; numbers count from `START`."""

    def __init__(self) -> None:
        self.window = ReceiveWindow(session=1, first=START)
        self.now_ns = 0

    def gets(self, *numbers: int) -> list[bool]:
        return [
            self.window.arrived((START + it) % NUMBERS, self.now_ns, guard_ns=GUARD_NS)
            for it in numbers
        ]

    def hears(self, following: int, oldest: int = 0) -> None:
        wired = [(START + it) % NUMBERS for it in (following, oldest)]
        self.window.told(wired[0], wired[1], self.now_ns, guard_ns=GUARD_NS)

    def asks(self, incomplete: dict[int, int] | None = None) -> list[Lack]:
        partly = {(START + it) % NUMBERS: bits for it, bits in (incomplete or {}).items()}
        return self.window.ask(self.now_ns, partly, retry_ns=0)[0]

    @property
    def floor(self) -> int:
        return self.window.floor - START


# -------------------------------------------------------------------------------- the receiver


def test_what_comes_in_order_leaves_nothing_to_ask_for() -> None:
    """Most of the time, for hours."""
    receiver = Receiver()
    assert all(receiver.gets(*range(20)))
    assert (receiver.floor, receiver.window.lacking, receiver.window.next_ns) == (20, False, None)


def test_a_frame_that_comes_again_is_none() -> None:
    """Below the floor, and above a gap."""
    receiver = Receiver()
    assert receiver.gets(0, 2, 0, 2, 1, 1, 2) == [True, True, False, False, True, False, False]
    assert receiver.floor == 3


def test_what_was_overtaken_is_not_asked_for() -> None:
    """It is given a moment, and comes."""
    receiver = Receiver()
    receiver.gets(0, 2)
    assert receiver.window.next_ns == GUARD_NS
    assert receiver.asks() == []
    receiver.gets(1)
    receiver.now_ns = GUARD_NS
    assert receiver.asks() == []


def test_a_gap_is_asked_for_after_a_moment_or_when_enough_has_come_behind_it() -> None:
    """Several of those behind it cannot all have overtaken it."""
    receiver = Receiver()
    receiver.gets(0, 3)
    assert receiver.asks() == []
    receiver.now_ns = GUARD_NS
    assert receiver.asks() == [whole(1, 2)]
    receiver = Receiver()
    receiver.gets(0, *range(2, 2 + LATER_MAX - 1))
    assert receiver.asks() == []
    receiver.gets(2 + LATER_MAX - 1)
    assert receiver.asks() == [whole(1)]


def test_the_last_frame_is_missed_when_its_sender_says_where_it_stands() -> None:
    """Nothing follows it."""
    receiver = Receiver()
    receiver.gets(0)
    receiver.hears(3)
    receiver.now_ns = GUARD_NS
    assert receiver.asks() == [whole(1, 2)]
    receiver.hears(3)
    assert receiver.asks() == [], "the same news is none"


def test_pieces_that_are_here_are_not_asked_for() -> None:
    """Of a large frame most of it has come."""
    receiver = Receiver()
    receiver.gets(0, 4)
    receiver.now_ns = GUARD_NS
    lacks = receiver.asks({2: 0b101, 9: 0b1})
    assert lacks == [whole(1), Lack((START + 2) % NUMBERS, 1, 0b101), whole(3)]


def test_it_asks_again_less_and_less_often_and_then_gives_up() -> None:
    """Whoever needs what was in it is sent it over an association."""
    receiver = Receiver()
    receiver.gets(0, 2)
    times: list[int] = []
    for _ in range(100):
        if (due_ns := receiver.window.next_ns) is None:
            break
        receiver.now_ns = due_ns
        if receiver.asks() == [whole(1)]:
            times.append(due_ns)
    assert len(times) == TRIES_MAX
    waits = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert waits == [RETRY_MIN_NS << place for place in range(TRIES_MAX - 1)]
    assert (receiver.floor, receiver.window.lacking, receiver.window.given_up) == (3, False, 1)
    assert receiver.gets(1) == [False], "it is too late"


def test_what_its_sender_cannot_send_again_is_given_up_at_once() -> None:
    """It says what the oldest is that it keeps."""
    receiver = Receiver()
    receiver.gets(0, 5)
    receiver.hears(9, oldest=7)
    receiver.now_ns = GUARD_NS
    assert receiver.asks() == [whole(7, 2)]
    assert (receiver.floor, receiver.window.given_up) == (7, 5)


def test_garbage_costs_no_more_than_a_window() -> None:
    """A number from far away, which anybody on the rail may send."""
    receiver = Receiver()
    receiver.gets(0, 10**9)
    receiver.hears(2 * 10**9)
    receiver.now_ns = GUARD_NS
    assert sum(lack.frames for lack in receiver.asks()) <= KEPT_FRAMES_MAX
    assert receiver.floor >= 10**9 - KEPT_FRAMES_MAX


def test_one_report_has_room_for_so_many_and_the_rest_is_asked_for_next() -> None:
    """It is one packet."""
    receiver = Receiver()
    receiver.gets(*range(0, 4 * LACKS_MAX, 2))
    receiver.now_ns = GUARD_NS
    first, second = receiver.asks(), receiver.asks()
    assert len(first) == LACKS_MAX
    assert first + second == [whole(it) for it in range(1, 4 * LACKS_MAX - 2, 2)]


def test_all_that_is_missing_is_asked_for_when_its_sender_waits() -> None:
    """Also what was asked for, and is waited for longer and longer."""
    receiver = Receiver()
    receiver.gets(0)
    receiver.hears(5)
    assert receiver.window.next_ns is not None
    receiver.window.hurry(receiver.now_ns)
    assert receiver.asks() == [whole(1, 4)]
    assert receiver.asks() == []
    receiver.window.hurry(receiver.now_ns)
    assert receiver.asks() == [whole(1, 4)]


def test_who_hears_another_one_ask_waits_for_the_answer() -> None:
    """It will come to the group."""
    receiver = Receiver()
    receiver.gets(0, 4)
    receiver.window.seen_asked([whole(1, 2)], receiver.now_ns, wait_ns=GRTT_NS)
    assert receiver.window.spared == 2
    receiver.now_ns = GUARD_NS
    assert receiver.asks() == [whole(3)]
    receiver.now_ns = GRTT_NS
    assert receiver.asks() == [whole(1, 2)]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_lost_and_overtaken_is_asked_for_and_comes_once(seed: int) -> None:
    """A window against the plainest model of one: a set. What is asked for may be lost again."""
    draw = random.Random(seed)
    receiver, seen, on_its_way = Receiver(), set[int](), list[int]()
    for number in range(500):
        receiver.now_ns += draw.randrange(MS // 8)
        if draw.random() < 0.8:
            on_its_way.append(number)
        for lack in receiver.asks():
            first = near(lack.first, START + number) - START
            asked = range(first, first + lack.frames)
            assert not seen.intersection(asked), "it is here"
            on_its_way += [it for it in asked if draw.random() < 0.8]
        while on_its_way and draw.random() < 0.9:
            comes = on_its_way.pop(draw.randrange(min(len(on_its_way), 4)))
            assert receiver.gets(comes) == [comes not in seen]
            seen.add(comes)
    receiver.hears(500)
    missing = {
        near(lack.first, START + 500) - START + place
        for lack in _everything(receiver)
        for place in range(lack.frames)
    }
    assert missing == set(range(min(seen), 500)) - seen
    assert receiver.window.given_up == len(missing)


def _everything(receiver: Receiver) -> list[Lack]:
    asked: list[Lack] = []
    while (due_ns := receiver.window.next_ns) is not None:
        receiver.now_ns = due_ns
        asked += receiver.asks()
    return asked


# ---------------------------------------------------------------------------------- the sender


class Sender:
    """A window with a clock; numbers count from `START`."""

    def __init__(self, frames: int = 10) -> None:
        self.window = SendWindow(session=1, first=START)
        self.window.taking = dict.fromkeys(range(2, 10), START)
        self.now_ns = 0
        for place in range(frames):
            self.window.keep(b"%d" % place)

    def asked(self, node: int, *lacks: Lack, gather_ns: int = 0) -> tuple[float, int]:
        lost = self.window.ask(node, lacks, self.now_ns, hold_ns=GRTT_NS, gather_ns=gather_ns)
        return lost.frames, lost.gone

    def sends(self) -> list[tuple[tuple[int, ...], bytes, int, bool]]:
        return [
            (tuple(it.nodes), it.frame, it.pieces, it.again) for it in self.window.due(self.now_ns)
        ]


def test_who_asks_is_sent_it_alone_and_more_than_two_are_sent_it_as_a_group() -> None:
    """The union of the pieces that any of them lacks."""
    sender = Sender()
    assert sender.asked(2, Lack((START + 6) % NUMBERS, 1, 0b01)) == (1, 0)
    assert sender.sends() == [((2,), b"6", 0b01, False)]
    sender = Sender()
    for node in (2, 3):
        sender.asked(node, Lack((START + 6) % NUMBERS, 1, node))
    assert sender.sends() == [((2,), b"6", 2, False), ((3,), b"6", 3, False)]
    for node, pieces in ((4, 0b001), (5, 0b100), (6, 0b001)):
        sender.asked(node, Lack((START + 6) % NUMBERS, 1, pieces))
    assert sender.sends() == [((), b"6", 0b101, False)]


def test_the_first_question_is_given_time_for_others() -> None:
    """Of a group of several."""
    sender = Sender()
    sender.asked(2, whole(3), gather_ns=GRTT_NS)
    assert sender.window.next_ns == GRTT_NS
    assert sender.sends() == []
    sender.now_ns = GRTT_NS
    assert sender.sends() == [((2,), b"3", ALL_PIECES, False)]
    assert sender.window.next_ns is None


def test_what_has_just_gone_again_is_on_its_way() -> None:
    """A question that crosses with the answer is not answered twice; a later one is."""
    sender = Sender()
    sender.asked(2, whole(3, 2))
    assert len(sender.sends()) == 2
    sender.now_ns = GRTT_NS - 1
    assert sender.asked(2, whole(3, 2)) == (0, 0)
    assert sender.asked(3, whole(3)) == (1, 0)
    assert sender.sends() == [((3,), b"3", ALL_PIECES, False)]
    sender.now_ns = GRTT_NS
    assert sender.asked(2, whole(3)) == (1, 0)
    assert sender.sends() == [((2,), b"3", ALL_PIECES, True)]


def test_what_is_not_kept_any_more_is_gone() -> None:
    """By bytes and by number; who asks for it hears by the next STAND that it is."""
    sender = Sender(0)
    size = KEPT_BYTES_MAX // 4
    for _ in range(6):
        sender.window.keep(b"x" * size)
    assert sender.window.oldest == START + 2
    assert sender.asked(2, whole(0, 4)) == (2, 2)
    sender = Sender(KEPT_FRAMES_MAX + 10)
    assert sender.window.oldest == START + 10
    assert sender.asked(2, whole(9, 2)) == (1, 1)


def test_what_was_not_sent_to_somebody_it_does_not_lack() -> None:
    """It came by other ways; whoever begins is told from where on it takes part."""
    sender = Sender()
    sender.window.taking = {2: START + 4}
    assert sender.asked(2, whole(0, 10)) == (6, 4)
    assert sender.asked(3, whole(0, 10)) == (0, 10)
    following = START + 10
    for node, oldest in ((0, START), (2, START + 4), (3, following)):
        stand = sender.window.stand(7, 5, to=node)
        assert stand == Stand(1, 7, following % NUMBERS, oldest % NUMBERS, 5)


def test_of_a_frame_as_much_is_lost_as_its_pieces_are() -> None:
    """Else a group whose large frames lack a piece each would seem to lose everything."""
    assert share(ALL_PIECES, 10 * DATAGRAM_BYTES_MAX) == 1.0
    assert share(0b101, 10 * DATAGRAM_BYTES_MAX) == pytest.approx(0.2)
    assert share(0b1, 100) == 1.0


def test_what_was_never_sent_cannot_be_asked_for() -> None:
    """Garbage: numbers of the future, far away, and so many that no window has them."""
    sender = Sender(100)
    garbage = [whole(100), whole(10**9), Lack(0, NUMBERS - 1, 1), whole(-(10**9), 7)]
    for lack in garbage:
        noted, _ = sender.asked(2, lack)
        assert noted <= 100
    sender.asked(2, *(whole(0, KEPT_FRAMES_MAX) for _ in range(LACKS_MAX)))
    assert len(sender.sends()) <= 100


def test_losses_that_many_share_are_known_as_such() -> None:
    """Then receivers wait for each other."""
    sender = Sender(40)
    for number in range(10):
        sender.asked(2, whole(number))
        sender.sends()
    sender.window.decide()
    assert not sender.window.shared
    for number in range(10, 20):
        for node in (2, 3, 4):
            sender.asked(node, whole(number))
        sender.sends()
    sender.window.decide()
    assert sender.window.shared
    for number in range(20, 24):  # of three that lack it one asks, and the others need not
        sender.asked(2, whole(number))
        assert sender.sends() == [((), b"%d" % number, ALL_PIECES, False)]
    sender.window.spare(8)
    sender.window.decide()
    assert sender.window.shared
    for number in range(24, 38):
        sender.asked(2, whole(number))
        sender.sends()
    sender.window.decide()
    assert not sender.window.shared


def test_numbers_are_taken_for_the_nearest_count() -> None:
    """They have 32 bits on the wire."""
    for count in (0, 5, NUMBERS - 1, NUMBERS, 7 * NUMBERS + 3):
        for away in (-1000, -1, 0, 1, 1000):
            assert near((count + away) % NUMBERS, count) == count + away


def test_of_many_that_lack_the_same_few_ask() -> None:
    """RFC 5401: about exp(1.2 L / 2K) of them before the first one is heard, L = ln(G) + 1."""
    draw = random.Random(1)
    for listeners, most in ((8, 2.0), (32, 2.6)):
        asked = 0
        for _ in range(2000):
            times = sorted(backoff_ns(GRTT_NS, listeners, draw.random()) for _ in range(listeners))
            assert 0 <= times[0] <= times[-1] <= BACKOFF_GRTTS * GRTT_NS
            # Whoever asks is heard half a round trip later.
            asked += sum(it < times[0] + GRTT_NS // 2 for it in times)
        assert 1 <= asked / 2000 <= most
