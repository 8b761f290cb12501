"""Numbered streams: batches, pieces, windows and tokens, at their limits and one past."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.transport import wire_data
from phalanx.transport.config import Limits
from phalanx.transport.core.batches import Arrived, Stamp
from phalanx.transport.core.framing import Framer
from phalanx.transport.core.streams import MESSAGE_COST_BYTES, InStream, OutStream
from phalanx.transport.events import Lane, ViewId
from phalanx.transport.wire_data import Data, StreamKey

SMALL = Limits(
    message_bytes_max=5000,
    batch_bytes=1024,
    bulk_batch_bytes=512,
    batch_messages_max=5,
    window_bytes=4000,
    queue_bytes=3000,
)
FRAMER = Framer(cluster="c", node=1, incarnation=1)


def stream(limits: Limits = SMALL, lane: Lane = Lane.FIFO) -> OutStream:
    """To nodes 2 and 3."""
    out = OutStream(origin=1, addressee=0, lane=lane, limits=limits)
    out.start((2, 3))
    return out


STAMP = Stamp(ViewId(1, 1), 0, 0)


def number(out: OutStream) -> tuple[Data, bytes] | None:
    """The next batch as its receivers see it."""
    if not (out.urgent or out.queue):
        return None
    out.number(FRAMER, STAMP)
    frame = out.sent[out.last].frame
    data = wire_data.decode_data(frame, 64)
    assert data is not None
    return data, frame


def deliver(out: OutStream, limits: Limits = SMALL) -> list[bytes]:
    """Number everything, and put it together again."""
    incoming = InStream(StreamKey(1, 0, int(out.key.lane)))
    got: list[bytes] = []
    while out.queue:
        numbered = number(out)
        assert numbered is not None
        assert len(numbered[1]) <= 1 << 16, "a frame must fit into every driver"
        payloads = incoming.assemble(*numbered, limits.message_bytes_max)
        assert payloads is not None
        got += payloads
    return got


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 500, 1019, 1020, 1021, 1023, 1024, 1025, 2048, 2049, 5000]),
            st.sampled_from([b"", b"x", b"y"]),
        ),
        max_size=30,
    ),
    st.sampled_from([Lane.FIFO, Lane.BULK, Lane.ORDERED]),
)
@settings(deadline=None)
def test_what_goes_in_comes_out_whatever_the_sizes(
    messages: list[tuple[int, bytes]], lane: Lane
) -> None:
    """Batches and pieces are nobody's business but the stream's."""
    out = stream(lane=lane)
    sent: list[bytes] = []
    for place, (size, channel) in enumerate(messages):
        payload = bytes([place]) * size
        assert out.accept(payload, channel) == place + 1
        sent.append(payload)
    assert deliver(out) == sent
    assert out.token_numbered == out.token_accepted == len(messages)


@pytest.mark.parametrize(
    ("size", "batches"),
    [(0, 1), (1, 1), (60 << 10, 1), ((60 << 10) + 1, 2), (16 << 20, 274)],
)
def test_a_message_is_cut_only_past_the_size_of_a_batch(size: int, batches: int) -> None:
    """At the limit it goes in one batch, that still fits into a frame of every driver."""
    limits = Limits()
    out = stream(limits)
    payload = bytes(size)
    out.accept(payload, b"c" * 64)
    assert deliver(out, limits) == [payload]
    assert out.last == batches


def test_a_message_past_the_limit_is_dropped_by_its_receiver() -> None:
    """A peer whose limit is higher must not make us hold more than ours."""
    limits = Limits(message_bytes_max=3000, batch_bytes=1024)
    for size, fits in ((3000, True), (3001, False)):
        out = stream(limits)
        out.accept(bytes(size), b"")
        incoming = InStream(StreamKey(1, 0, 2))
        results: list[list[bytes] | None] = []
        while out.queue:
            numbered = number(out)
            assert numbered is not None
            results.append(incoming.assemble(*numbered, limits.message_bytes_max))
        assert (results[-1] == [bytes(size)]) is fits
        assert not incoming.pieces


def test_a_batch_holds_messages_of_one_channel_up_to_its_count() -> None:
    """The channel stands once in a batch; the table of lengths is bounded."""
    out = stream()
    for _ in range(6):
        out.accept(b"m", b"x")
    out.accept(b"m", b"y")
    taken: list[int] = []
    while out.queue:
        before = len(out.queue)
        number(out)
        taken.append(before - len(out.queue))
    assert taken == [5, 1, 1]


@pytest.mark.parametrize(("more", "room"), [(-1, True), (0, True), (1, False)])
def test_the_queue_takes_up_to_its_bytes(more: int, room: bool) -> None:
    """Past it the sender waits; nothing grows without a bound."""
    out = stream()
    out.accept(bytes(2000), b"")
    left = SMALL.queue_bytes - 2000 - 2 * MESSAGE_COST_BYTES
    assert out.room_for(left + more) is room


def test_empty_messages_fill_the_queue_as_well() -> None:
    """Each takes memory, so that a flood of nothing must end."""
    out = stream()
    count = 0
    while out.room_for(0):
        out.accept(b"", b"")
        count += 1
    assert count == SMALL.queue_bytes // MESSAGE_COST_BYTES


def test_an_empty_queue_takes_any_message() -> None:
    """Or one that is larger than the queue could never be sent."""
    assert stream().room_for(SMALL.queue_bytes + 1)


def test_the_window_closes_when_it_is_full_and_opens_when_all_have_taken() -> None:
    """The slowest addressee sets the pace of its stream."""
    out = stream()
    for _ in range(20):
        out.accept(bytes(900), b"")
    while out.window_open():
        number(out)
    assert SMALL.window_bytes <= out.window_used_bytes < SMALL.window_bytes + 1200
    out.acknowledged(2, out.last, out.last)
    assert not out.window_open()
    out.acknowledged(3, out.last, 0)
    assert not out.window_open()
    out.acknowledged(3, out.last, 1)
    assert out.window_open()


def test_impossible_acknowledgements_are_clipped() -> None:
    """A number that was never given must not free what comes later."""
    out = stream()
    out.accept(b"a", b"")
    number(out)
    out.acknowledged(2, 99, 99)
    out.acknowledged(3, 1, 99)
    out.acknowledged(9, 99, 99)
    assert out.settle() == 1
    out.accept(b"b", b"")
    number(out)
    assert out.settle() is None
    assert sorted(out.sent) == [2]
    out.acknowledged(2, 0, 0)
    assert out.progress[2].held == 1


def test_a_half_numbered_message_goes_again_as_a_whole_in_the_next_view() -> None:
    """Its pieces of the old view are no message there, and nobody may get only the rest."""
    out = stream()
    whole = bytes(range(250)) * 16
    out.accept(b"before", b"")
    out.accept(whole, b"")
    number(out)
    number(out)
    number(out)
    assert out.token_numbered == 1
    assert [token for _, token in out.unsettled()] == [1, 1, 1]
    out.start((2,))
    assert deliver(out) == [whole]
    assert out.token_numbered == 2


def test_the_last_whole_batch_is_where_a_message_ends() -> None:
    """A mark in the middle of a message could never be reached by what is delivered."""
    out = stream()
    out.accept(b"one", b"")
    out.accept(bytes(2000), b"")
    number(out)
    assert out.last_whole == 1
    number(out)
    assert (out.last, out.last_whole) == (2, 1)
    number(out)
    assert (out.last, out.last_whole) == (3, 3)


def test_entries_of_layers_go_first_also_between_the_pieces_of_a_message() -> None:
    """They release others from waiting, so that neither a queue nor a window holds them up."""
    out = stream(lane=Lane.ORDERED)
    whole, large = bytes(range(250)) * 16, bytes(range(200)) * 10
    out.accept(whole, b"")
    number(out)
    out.accept_entry(b"small", b"!barrier", safe=False, meeting=None)
    out.accept_entry(large, b"!barrier", safe=True, meeting=None)
    incoming = InStream(out.key)
    got: list[bytes] = []
    first = wire_data.decode_data(out.sent[1].frame, 64)
    assert first is not None
    assert incoming.assemble(first, out.sent[1].frame, 1 << 20) == []
    while (numbered := number(out)) is not None:
        got += incoming.assemble(*numbered, 1 << 20) or []
    assert got == [b"small", large, whole]
    assert out.token_numbered == 1


def test_the_last_batch_of_a_turn_closes_its_epoch() -> None:
    """An END of its own for everybody would cost more than the batch."""
    out = stream(lane=Lane.ORDERED)
    for _ in range(7):
        out.accept(b"m", b"x")
    stamp = replace(STAMP, epoch=4, done=3, may_end=True)
    ends: list[bool] = []
    while out.can_number:
        data, _ = out.number(FRAMER, stamp)
        decoded = wire_data.decode_data(out.sent[out.last].frame, 64)
        assert decoded is not None
        assert (decoded.flags, decoded.done) == (data.flags, 3)
        ends.append(bool(data.flags & wire_data.END))
    assert ends == [False, True]


def test_broken_pieces_are_dropped_and_the_next_message_is_whole() -> None:
    """What a peer mixes up must not spoil what follows."""
    incoming = InStream(StreamKey(1, 0, 2))

    def piece(flags: int, body: bytes) -> list[bytes] | None:
        data = Data(1, 1, *incoming.key, wire_data.FRAGMENT | flags, 0, 1, 0, 0, "", 0)
        return incoming.assemble(data, body, 100)

    assert piece(0, b"no beginning") is None
    assert piece(wire_data.FIRST, b"a") == []
    assert piece(wire_data.FIRST, b"again") is None
    assert piece(wire_data.FIRST, b"x") == []
    assert piece(wire_data.LAST, b"y") == [b"xy"]
    assert not incoming.pieces


def test_kept_batches_are_forgotten_from_the_front() -> None:
    """Memory is given back as soon as nobody can ask."""
    incoming = InStream(StreamKey(1, 0, 2))
    batch = Arrived(Data(1, 1, *incoming.key, 0, 0, 1, 0, 0, "", 0), b"", 0)
    incoming.kept = dict.fromkeys(range(1, 6), batch)
    incoming.forget_up_to(3)
    incoming.forget_up_to(2)
    assert sorted(incoming.kept) == [4, 5]


def test_what_a_member_is_known_to_hold_is_not_sent_to_it_again() -> None:
    """By then it may be forgotten: a new association would ask for what is there no more."""
    out = stream(lane=Lane.ORDERED)
    for payload in (b"1", b"2"):
        out.accept(payload, b"")
        number(out)
    for node, progress in out.progress.items():
        progress.sent = 0  # on a new association, where it has not said what it holds
        out.progress[node].holds(1)
    out.settle()
    assert sorted(out.sent) == [2]
    assert all(progress.sent == 1 for progress in out.progress.values())
