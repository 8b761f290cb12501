"""One link over datagrams: in order, once, whole; and bounded, whatever the other end sends."""

from __future__ import annotations

import random

import pytest

from phalanx.transport.config import MS, PROFILES
from phalanx.transport.core.repair import SESSIONS, group_session, link_session
from phalanx.transport.core.udp_link import (
    EARLY_MAX,
    KEPT_BYTES_MAX,
    PART_BYTES_MAX,
    QUEUE_BYTES_MAX,
    WINDOW_FIRST_BYTES,
    WINDOW_LEAST_BYTES,
    Send,
    UdpLink,
)
from phalanx.transport.drivers.base import NUMBERS, SESSION_MAX, Incomplete
from phalanx.transport.wire_group import LACKS_MAX, Lack
from phalanx.transport.wire_link import (
    Ask,
    LinkAck,
    LinkHead,
    Open,
    Part,
    decode_link,
    encode_ack,
    encode_open,
    encode_part,
)

TIMING = PROFILES["lan"]
STEP_NS = MS // 4
FRAMES = 300


def opened(now_ns: int = 0) -> tuple[UdpLink, UdpLink]:
    """Two ends that know each other."""
    ends = [
        UdpLink(
            node=node,
            link=-1,
            session=session,
            rails=("a", "b"),
            timing=TIMING,
            now_ns=now_ns,
            urgent=False,
        )
        for node, session in ((2, 4), (1, 6))
    ]
    one, two = ends
    assert two.heard(one.opening()), "it does not say that it knows this session"
    assert one.heard(two.opening())
    assert not two.heard(one.opening())
    assert one.up
    assert two.up
    return one, two


def deliver(two: UdpLink, send: Send, now_ns: int) -> list[tuple[int, bytes]]:
    """A part has come as it was sent; drivers give what comes again to nobody."""
    part = decode_link(send.body, 0)
    assert isinstance(part, Part)
    return two.arrived(part, send.body, send.number, now_ns)


@pytest.mark.parametrize("seed", range(10))
def test_frames_come_in_the_order_of_their_streams_whatever_befalls_datagrams(seed: int) -> None:
    """Lost, doubled, overtaken; also large ones, and the answers likewise."""
    draw = random.Random(seed)
    one, two = opened()
    frames = [
        (draw.randrange(5), draw.randbytes(draw.choice((1, 900, PART_BYTES_MAX, 70_000))))
        for _ in range(FRAMES)
    ]
    waiting, got = list(frames), list[tuple[int, bytes]]()
    there: list[Send] = []
    back: list[LinkAck] = []
    come: set[int] = set()
    now_ns = 0
    for _ in range(20_000):
        now_ns += STEP_NS
        while waiting and one.take(*waiting[0]):
            waiting.pop(0)
        again = one.retransmit(now_ns)
        there += [it for it in (*one.send(now_ns), *again) if draw.random() < 0.8]
        if again and draw.random() < 0.8:
            two.asked(one.asking(), now_ns)
        while there and draw.random() < 0.9:
            send = there.pop(draw.randrange(min(len(there), 3)))
            if send.number not in come:
                come.add(send.number)
                got += deliver(two, send, now_ns)
        ack = two.ack((), now_ns)
        if ack is not None and draw.random() < 0.8:
            back.append(ack)
        while back and draw.random() < 0.7:
            there += one.acknowledged(back.pop(0), now_ns)
        assert not one.given_up(now_ns)
        if len(got) == FRAMES and one.drained:
            break
    for stream in range(5):
        assert [it for it in got if it[0] == stream] == [it for it in frames if it[0] == stream]
    assert one.drained


def test_no_more_is_taken_or_on_its_way_than_there_is_room_for() -> None:
    """A peer that says nothing stops the sender; a time-out makes the window smaller."""
    one, _ = opened()
    while one.take(3, bytes(10_000)):
        pass
    sent = sum(len(it.body) for it in one.send(0))
    assert WINDOW_FIRST_BYTES - 11_000 < sent <= WINDOW_FIRST_BYTES + 11_000
    assert one.send(MS) == []
    again = one.retransmit(100 * MS)
    assert 0 < sum(len(it.body) for it in again) <= WINDOW_FIRST_BYTES // 2
    assert {it.rail for it in again} == {"b"}, "over the other rail"
    now_ns = 100 * MS
    while not one.given_up(now_ns):
        now_ns += 10 * MS
        again = one.retransmit(now_ns)
    assert sum(len(it.body) for it in again) <= WINDOW_LEAST_BYTES + 11_000
    assert now_ns <= 4 * TIMING.suspect_ns
    assert sent < QUEUE_BYTES_MAX


def test_a_lost_answer_is_asked_for() -> None:
    """Nothing else would bring it: what is sent again has come, and its driver tells nobody."""
    one, two = opened()
    one.take(3, b"x")
    (part,) = one.send(0)
    assert deliver(two, part, 0) == [(3, b"x")]
    assert two.ack((), MS) is not None, "and it is lost"
    assert two.next_ns is None
    assert one.retransmit(60 * MS) != []
    two.asked(one.asking(), 60 * MS)
    ack = two.ack((), 60 * MS)
    assert ack is not None
    assert one.acknowledged(ack, 61 * MS) == []
    assert one.drained


def test_who_is_asked_says_which_pieces_of_the_last_part_lack() -> None:
    """No later number shows that there is one."""
    one, two = opened()
    one.take(3, bytes(5000))
    one.send(0)
    two.asked(one.asking(), 60 * MS)
    ack = two.ack([Incomplete(1, 4, 0, 0b100)], 60 * MS)
    assert ack is not None
    assert ack.lacks == [Lack(0, 1, 0b100)]
    (again,) = one.acknowledged(ack, 61 * MS)
    assert again.pieces == 0b100


def test_a_question_about_the_far_future_is_garbage() -> None:
    """No peer has so much on its way; what has come stays so."""
    one, two = opened()
    two.asked(Ask(one.head, EARLY_MAX + 1), 0)
    ack = two.ack((), 0)
    assert ack is not None
    assert (ack.floor, ack.top, ack.lacks) == (0, 0, [])


def test_no_more_parts_are_on_their_way_than_their_receiver_keeps() -> None:
    """Of small ones the window takes more."""
    one, _ = opened()
    for _ in range(EARLY_MAX + 100):
        assert one.take(3, b"x")
    assert len(one.send(0)) == EARLY_MAX


def test_a_frame_that_never_ends_and_parts_of_the_future_fill_no_memory() -> None:
    """What has no room has not come: an honest peer sends it again."""
    _, two = opened()
    head, size = LinkHead(4, 6), 60_000
    kept = 0
    for place in range(2 * KEPT_BYTES_MAX // size):
        body = encode_part(Part(head, 1, False, place, 0)) + bytes(size)
        assert deliver(two, Send(body, place, 0, "a"), 0) == []
        ack = two.ack((), place + 10**9)
        if ack is not None:
            kept = ack.floor
    assert KEPT_BYTES_MAX - 2 * size < kept * size <= KEPT_BYTES_MAX
    _, two = opened()
    body = encode_part(Part(head, 1, True, EARLY_MAX + 1, 0)) + b"x"
    assert deliver(two, Send(body, 0, 0, "a"), 0) == []
    assert two.ack((), 10**9) is None, "it is not acknowledged"


def test_garbage_in_an_acknowledgement_costs_little_and_frees_nothing_that_lacks() -> None:
    """It may name any number, and any number of them."""
    one, _ = opened()
    for _ in range(3):
        one.take(1, b"x")
    assert len(one.send(0)) == 3
    many = [Lack(0, 65_535, 1)] * LACKS_MAX
    again = one.acknowledged(LinkAck(one.head, 0, 3, many), MS)
    assert sorted(it.number for it in again) == [0, 1, 2]
    far = [Lack(NUMBERS // 2, 65_535, 1)] * LACKS_MAX
    assert one.acknowledged(LinkAck(one.head, 0, 0, far), MS) == []
    assert not one.drained


def test_sessions_of_links_and_groups_are_never_the_same() -> None:
    """A receiver knows a numbered frame by its session."""
    numbers = (0, 1, 2, SESSIONS - 1, SESSIONS, SESSIONS + 1, 2**62 - 1)
    groups, links = {group_session(it) for it in numbers}, {link_session(it) for it in numbers}
    assert not groups & links
    assert all(0 < it <= SESSION_MAX for it in groups | links)


@pytest.mark.parametrize("seed", range(5))
def test_whatever_comes_as_a_link_frame_is_decoded_or_refused(seed: int) -> None:
    """Bytes of a stranger, and good frames of which some were changed or cut off."""
    draw = random.Random(seed)
    head = LinkHead(4, 6)
    good = [
        encode_open(Open(head, urgent=True, up=False)),
        encode_part(Part(head, 1, True, 7, 0)) + b"abc",
        encode_ack(LinkAck(head, 3, 9, [Lack(4, 2, 5)])),
    ]
    for _ in range(3000):
        body = bytearray(draw.choice([*good, draw.randbytes(draw.randrange(40))]))
        for _ in range(draw.randrange(3)):
            if body:
                body[draw.randrange(len(body))] = draw.randrange(256)
        decode_link(bytes(body[: draw.randrange(len(body) + 1)]), 0)
    for body in good:
        assert decode_link(body, 0) is not None
