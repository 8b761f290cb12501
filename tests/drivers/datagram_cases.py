"""Conformance: what datagrams promise is little, and that holds wherever they run."""

from __future__ import annotations

import random

import pytest

from phalanx.transport.drivers.base import (
    ALL_PIECES,
    CAST_BYTES_MAX,
    DATAGRAM_BYTES_MAX,
    DATAGRAMS_POLL_MAX,
    GROUP,
    NUMBERS,
    PARITIES,
    PIECE_HEAD_BYTES,
    SESSION_MAX,
    Datagram,
    Incomplete,
)
from phalanx.transport.errors import UsageError

from .bench import RAILS
from .datagram_bench import HOSTS, Bench, plain

PIECE = DATAGRAM_BYTES_MAX - PIECE_HEAD_BYTES
BURST = 12_000
"""Of the largest frames: several times what a buffer holds."""


class DatagramCases:
    """Casting, polling, faults of rails, opening and closing."""

    def test_a_cast_reaches_the_nodes_it_names_and_says_from_whom_and_where(
        self, bench: Bench
    ) -> None:
        """The core knows a sender by this until it has read the frame."""
        one, two, three = (bench.start(number) for number in HOSTS)
        for rail in RAILS:
            two.cast([1], rail, rail.encode())
        two.cast([1, 3], "b", b"to both")
        assert sorted(bench.collect(one, 3)) == [
            (2, "a", b"a"),
            (2, "b", b"b"),
            (2, "b", b"to both"),
        ]
        assert bench.collect(three, 1) == [(2, "b", b"to both")]
        assert bench.collect(two, 0) == []

    def test_frames_of_every_size_arrive_whole_and_unchanged(self, bench: Bench) -> None:
        """Up to the limit, also where a frame is cut: around one packet, two, and all."""
        one, two = bench.start(1), bench.start(2)
        assert one.frame_bytes_max == CAST_BYTES_MAX
        generator = random.Random(1)
        edges = (DATAGRAM_BYTES_MAX, PIECE, 2 * PIECE, 17 * PIECE, CAST_BYTES_MAX - 1)
        sizes = [1, 2, 100, *(edge + more for edge in edges for more in (-1, 0, 1))]
        frames = [generator.randbytes(size) for size in sizes]
        for frame in frames:
            one.cast([2], "a", frame)
        assert sorted(frame for *_, frame in bench.collect(two, len(frames))) == sorted(frames)

    def test_casts_that_cannot_be_are_refused(self, bench: Bench) -> None:
        """None, one byte past the limit, and a rail that is not configured: a caller's mistakes."""
        one = bench.start(1)
        for frame in (b"", b"x" * (CAST_BYTES_MAX + 1)):
            with pytest.raises(UsageError):
                one.cast([2], "a", frame)
        with pytest.raises(UsageError, match="known are a, b"):
            one.cast([2], "c", b"x")

    def test_what_is_cast_to_nobody_is_lost_and_harms_nobody(self, bench: Bench) -> None:
        """A host that does not run, a node that is not configured, no node at all."""
        one, two = bench.start(1), bench.start(2)
        for _ in range(3):
            one.cast([3, 99, 2], "a", b"x")
            one.cast([], "a", b"y")
        assert bench.collect(two, 3) == [(1, "a", b"x")] * 3
        two.cast([1], "a", b"back")
        assert bench.collect(one, 1) == [(2, "a", b"back")]

    def test_a_rail_that_is_cut_loses_datagrams_and_the_other_one_carries_them(
        self, bench: Bench
    ) -> None:
        """They are not rerouted: the core chooses the rail."""
        one, two = bench.start(1), bench.start(2)
        bench.cut(2, "a")
        for rail in RAILS:
            one.cast([2], rail, b"cut")
            two.cast([1], rail, b"cut")
        assert bench.collect(two, 1) == [(1, "b", b"cut")]
        assert bench.collect(one, 1) == [(2, "b", b"cut")]
        bench.heal(2, "a")
        one.cast([2], "a", b"healed")
        assert bench.collect(two, 1) == [(1, "a", b"healed")]

    def test_one_poll_gives_so_many_and_the_rest_stays_readable(self, bench: Bench) -> None:
        """What comes in must not keep a turn of the pump for long, nor get stuck."""
        one, two = bench.start(1), bench.start(2)
        bench.collect(one, 0)
        for number in range(2 * DATAGRAMS_POLL_MAX + 10):
            one.cast([2], RAILS[number % 2], b"%d" % number)
        assert len(bench.collect(one, 0)) == 0
        first = plain(two.poll())
        assert len(first) == DATAGRAMS_POLL_MAX
        rest = bench.collect(two, DATAGRAMS_POLL_MAX + 10)
        assert len(rest) == DATAGRAMS_POLL_MAX + 10
        for rail in RAILS:
            numbers = [int(frame) for _, on, frame in (*first, *rest) if on == rail]
            assert numbers == sorted(numbers), "without trouble they arrive in order"

    def test_a_full_buffer_loses_the_latest_and_stops_nobody(self, bench: Bench) -> None:
        """A sender never waits; what lies unread is bounded, and is still there."""
        one, two = bench.start(1), bench.start(2)
        for number in range(BURST):
            one.cast([2], "a", (b"%d" % number).ljust(DATAGRAM_BYTES_MAX))
        bench.collect(one, 0)
        got = [int(frame) for *_, frame in bench.collect(two, 1)]
        assert got == list(range(len(got))), "the first ones are there, and the rest is lost"
        assert 100 < len(got) < BURST - 100
        one.cast([2], "a", b"after")
        assert bench.collect(two, 1) == [(1, "a", b"after")]

    def test_a_rail_without_an_address_is_left_out_and_named(self, bench: Bench) -> None:
        """It costs speed, never the start of a node."""
        one, two = bench.start(1, absent=["b"]), bench.start(2)
        assert one.missing_rails == ("b",)
        assert two.missing_rails == ()
        for rail in RAILS:
            one.cast([2], rail, b"x")
            two.cast([1], rail, b"y")
        assert bench.collect(two, 1) == [(1, "a", b"x")]
        assert bench.collect(one, 1) == [(2, "a", b"y")]
        assert one.stats()["rail_missing"] == 1

    def test_without_any_rail_everything_is_lost_and_nothing_raised(self, bench: Bench) -> None:
        """Then all goes over SCTP, if that has one."""
        one, two = bench.start(1, absent=RAILS), bench.start(2)
        assert one.missing_rails == RAILS
        one.cast([2], "a", b"x")
        two.cast([1], "a", b"y")
        assert bench.collect(two, 0) == []
        assert one.poll() == []

    def test_what_was_closed_refuses_to_work_and_can_be_opened_again(self, bench: Bench) -> None:
        """A node that is restarted takes the same addresses; what came for it before is gone."""
        one, two = bench.start(1), bench.start(2)
        two.cast([1], "a", b"for the process before")
        bench.collect(two, 0)
        one.close()
        one.close()
        for call in (one.poll, one.fileno, one.stats, lambda: one.cast([2], "a", b"x")):
            with pytest.raises(UsageError):
                call()
        again = bench.start(1)
        with pytest.raises(UsageError, match="open already"):
            again.open()
        two.cast([1], "a", b"for this one")
        assert bench.collect(again, 1)[-1] == (2, "a", b"for this one")

    def test_counters_say_what_went_each_way(self, bench: Bench) -> None:
        """Since `open`: an operator has nothing else to see a firewall by."""
        one, two = bench.start(1), bench.start(2)
        one.cast([2, 3], "a", b"12345")
        one.cast([2], "b", b"1")
        assert len(bench.collect(two, 2)) == 2
        sent, got = one.stats(), two.stats()
        assert (sent["frames_sent"], sent["bytes_sent"]) == (3, 11)
        assert (got["frames_received"], got["bytes_received"]) == (2, 6)
        assert got.get("frames_sent", 0) == sent.get("frames_received", 0) == 0

    # ------------------------------------------------------------------------- groups and numbers

    def test_what_goes_to_a_group_comes_once_to_all_others_on_its_rail(self, bench: Bench) -> None:
        """Sent once, whatever their number; the sender hears nothing of it."""
        one, two, three = (bench.start(number) for number in HOSTS)
        assert one.group_rails == RAILS
        for rail in RAILS:
            one.cast((GROUP,), rail, rail.encode())
        for other in (two, three):
            assert sorted(bench.collect(other, 2)) == [(1, "a", b"a"), (1, "b", b"b")]
        assert bench.collect(one, 0) == []
        assert one.stats()["frames_sent"] == 2

    def test_numbered_frames_come_with_their_numbers_to_nodes_and_to_groups(
        self, bench: Bench
    ) -> None:
        """Of every size, and up to the ends of both ranges."""
        one, two = bench.start(1), bench.start(2)
        generator = random.Random(3)
        sizes = (1, PIECE - 1, PIECE, PIECE + 1, DATAGRAM_BYTES_MAX, CAST_BYTES_MAX)
        wanted: list[Datagram] = []
        for place, size in enumerate(sizes):
            for session, number, nodes in (
                (1, place, [2]),
                (SESSION_MAX, NUMBERS - 1 - place, (GROUP,)),
            ):
                frame = generator.randbytes(size)
                one.cast_numbered(nodes, "a", frame, session, number)
                wanted.append((1, "a", frame, session, number))
        assert sorted(bench.collect_numbered(two, len(wanted))) == sorted(wanted)
        assert two.incomplete() == []

    def test_sessions_and_numbers_that_cannot_be_are_refused(self, bench: Bench) -> None:
        """They would be taken for others."""
        one = bench.start(1)
        for session, number in ((0, 1), (SESSION_MAX + 1, 1), (1, -1), (1, NUMBERS)):
            with pytest.raises(UsageError, match="session or number"):
                one.cast_numbered([2], "a", b"x", session, number)

    def test_what_is_missing_is_said_and_may_come_by_the_other_rail(self, bench: Bench) -> None:
        """Single pieces are mended, wherever they are sent from."""
        one, two = bench.start(1), bench.start(2)
        frame = random.Random(4).randbytes(3 * PIECE + 1)
        one.cast_numbered([2], "a", frame, 7, 9, 0b1001)
        one.cast_numbered([2], "a", frame, 7, 10, 0b0111)
        one.cast_numbered([2], "a", b"unharmed", 7, 11)
        assert bench.collect_numbered(two, 1) == [(1, "a", b"unharmed", 7, 11)]
        assert sorted(two.incomplete()) == [
            Incomplete(1, 7, 9, 0b0110),
            Incomplete(1, 7, 10, 0b1000),
        ]
        one.cast_numbered([2], "b", frame, 7, 9, 0b0110)
        assert bench.collect_numbered(two, 1) == [(1, "b", frame, 7, 9)]
        one.cast_numbered((GROUP,), "b", frame, 7, 10, 0b1000)
        assert bench.collect_numbered(two, 1) == [(1, "b", frame, 7, 10)]
        assert two.incomplete() == []

    def test_a_frame_that_is_mended_twice_comes_once(self, bench: Bench) -> None:
        """Pieces of what was whole are kept nowhere: nothing would ever complete them."""
        one, two = bench.start(1), bench.start(2)
        frame = b"x" * (3 * PIECE)
        for pieces in (ALL_PIECES, 0b010, 0b101, ALL_PIECES):
            one.cast_numbered([2], "a", frame, 7, 9, pieces)
        one.cast_numbered([2], "a", b"y", 7, 10)
        one.cast_numbered([2], "a", b"y", 7, 10)
        got = bench.collect_numbered(two, 2)
        assert got == [(1, "a", frame, 7, 9), (1, "a", b"y", 7, 10)]
        assert two.incomplete() == []

    @pytest.mark.parametrize(
        ("size", "parities"),
        [(PIECE + 1, 1), (12 * PIECE, 1), (12 * PIECE + 7, 2), (CAST_BYTES_MAX - 5, 4)],
    )
    def test_of_the_pieces_of_a_parity_one_may_be_lost(
        self, bench: Bench, size: int, parities: int
    ) -> None:
        """Whichever it is, the last one too, which is shorter; and one of each parity at once."""
        one, two = bench.start(1), bench.start(2)
        generator = random.Random(size)
        count = -(-size // PIECE)
        losses = [1 << place for place in range(count)]
        losses += [sum(losses[at] for at in range(parities)), sum(losses[-parities:])]
        wanted: list[Datagram] = []
        for number, lost in enumerate(losses):
            frame = generator.randbytes(size)
            one.cast_numbered([2], "a", frame, 7, number, ALL_PIECES & ~lost)
            one.cast_numbered([2], "b", frame, 7, number, PARITIES)
            wanted.append((1, "b", frame, 7, number))
            assert bench.collect_numbered(two, 1) == wanted[-1:]
        assert two.incomplete() == []

    def test_a_parity_serves_when_all_but_one_of_its_pieces_have_come(self, bench: Bench) -> None:
        """It may come first, and twice; of two that are lost both are missing."""
        one, two = bench.start(1), bench.start(2)
        frame = random.Random(5).randbytes(13 * PIECE)
        even, odd = 1 << 4, 1 << 1 | 1 << 7
        for pieces in (PARITIES, ALL_PIECES & ~even & ~odd, PARITIES):
            one.cast_numbered([2], "a", frame, 7, 9, pieces)
        one.cast_numbered([2], "a", b"of one piece", 7, 10, ALL_PIECES | PARITIES)
        assert bench.collect_numbered(two, 1) == [(1, "a", b"of one piece", 7, 10)]
        assert two.incomplete() == [Incomplete(1, 7, 9, odd)]
        one.cast_numbered([2], "b", frame, 7, 9, 1 << 7)
        assert bench.collect_numbered(two, 1) == [(1, "b", frame, 7, 9)]
        one.cast_numbered([2], "b", frame, 7, 9, 1 << 1 | PARITIES)
        assert bench.collect_numbered(two, 0) == []
        assert two.incomplete() == []

    def test_the_same_number_of_two_sessions_is_two_frames(self, bench: Bench) -> None:
        """A sender that was restarted numbers anew."""
        one, two = bench.start(1), bench.start(2)
        for session in (7, 8):
            one.cast_numbered([2], "a", b"%d" % session * PIECE * 2, session, 9, 0b01)
        for session in (8, 7):
            one.cast_numbered([2], "a", b"%d" % session * PIECE * 2, session, 9, 0b10)
        got = [(frame[:1], session) for _, _, frame, session, _ in bench.collect_numbered(two, 2)]
        assert got == [(b"8", 8), (b"7", 7)]
