"""Numbered datagrams: what is missing of them, who asks for it and when, and what is sent again.

Frames that go to a multicast group are numbered within a session of their sender. A receiver sees
by a later number, or by what the sender says of itself (STAND), that something is missing, waits a
moment for what was only overtaken, and asks its sender by a REPORT: for whole frames, or for single
pieces. The sender keeps what it has sent for a while. To one or two that ask it goes by itself,
with more it goes to the group (RFC 5740, 5.4; the times are those of docs/protocol.md).

Nothing is promised here. A frame that is not kept any more, or is asked for in vain again and
again, is given up: what was in it is sent again, over an association, by whoever needs it
acknowledged (`carrying.py`). So a defect here costs time and no message.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ..config import MS
from ..drivers.base import ALL_PIECES, DATAGRAM_BYTES_MAX, NUMBERS, SESSION_MAX
from ..wire_group import LACKS_MAX, Lack, Stand

KEPT_BYTES_MAX: Final = 4 << 20
KEPT_FRAMES_MAX: Final = 4096
"""What a sender keeps; numbers further apart than this are of no use to each other."""
LATER_MAX: Final = 3
"""When so many have come behind a gap, it was not only overtaken (as in RFC 5681, 3.2)."""
TRIES_MAX: Final = 6
"""So many times a receiver asks for the same; each time it waits twice as long."""
RETRY_MIN_NS: Final = MS
UNICAST_MAX: Final = 2
"""What more than so many ask for goes to the group."""
SHARED_AFTER: Final = 4
"""By so many frames that go again it is decided whether losses are shared."""
REPAIR_COST: Final = 2.0
"""A frame that is asked for costs as much as so many copies: the question, and the answer."""
LOSS_WEIGHT: Final = 1 / 256
"""Of the newest frame in the measured share of those that are lost."""
UNNUMBERED: Final = -1
"""In place of the number of a frame that has none."""

SESSIONS: Final = SESSION_MAX // 2
"""Of each kind: what goes to groups has odd ones, links have even ones."""


def group_session(start: int) -> int:
    """Of what an incarnation sends to groups; `start` is a number of its own."""
    return 1 + 2 * (start % SESSIONS)


def link_session(opening: int) -> int:
    """Of one opening of a link; `opening` counts them, from somewhere on."""
    return 2 + 2 * (opening % SESSIONS)


def near(number: int, other: int) -> int:
    """The count of a 32-bit number that is nearest to another count."""
    half = NUMBERS >> 1
    return other + (number - other + half) % NUMBERS - half


def named(lacks: Iterable[Lack], around: int, low: int, high: int) -> Iterator[tuple[int, int]]:
    """The numbers from `low` to below `high` that lack, with the pieces of each.

    `around` is near to all that can be meant. Garbage may name any number, again and again: no more
    of them are given than a window has.
    """
    left = KEPT_FRAMES_MAX
    for lack in lacks:
        first = near(lack.first, around)
        numbers = range(max(first, low), min(first + lack.frames, high))[:left]
        left -= len(numbers)
        for number in numbers:
            yield number, lack.pieces


def share(pieces: int, size: int) -> float:
    """How much of a frame of `size` bytes these pieces are, about."""
    return 1.0 if pieces == ALL_PIECES else min(1.0, pieces.bit_count() * DATAGRAM_BYTES_MAX / size)


# ------------------------------------------------------------------------------ the sender's side


class Repair(NamedTuple):
    """A frame, or pieces of it, that go once more."""

    nodes: Sequence[int]
    """Empty: to the group."""
    number: int
    pieces: int
    frame: bytes
    again: bool
    """It has gone to some of them before, in vain."""


class Lost(NamedTuple):
    """What a receiver asks for."""

    frames: float
    """So much of frames."""
    torn: int
    """So many of them it has a part of."""
    gone: int
    """Besides, so many are not kept any more."""


@dataclass(slots=True)
class _Asked:
    """Who asks for a frame, and which pieces of it."""

    due_ns: int
    pieces: dict[int, int] = field(default_factory=dict[int, int])


class SendWindow:
    """What this node has sent to the group lately."""

    def __init__(self, *, session: int, first: int) -> None:
        self.session = session
        self._first = first
        self.following = first
        """The number of the next frame."""
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._kept_bytes = 0
        self.taking: dict[int, int] = {}
        """Who is sent all frames, to the group or by itself, and from which number on."""
        self._asked: dict[int, _Asked] = {}
        self._repaired: dict[int, dict[int, int]] = {}
        """By number and node, when it last went again."""
        self.shared = False
        """Most of what is lost is lost by many."""
        self._lacked = self._mended = 0
        """How many receivers lacked, and how many frames went again, since that was decided."""

    @property
    def oldest(self) -> int:
        """The oldest number that can be sent again; the next one if none can."""
        return next(iter(self._kept), self.following)

    def stand(self, rail: int, sent_ns: int, *, to: int = 0) -> Stand:
        """What says where it stands, to the group or to one."""
        following, oldest = self.following, self.oldest
        if to:
            oldest = max(oldest, self.taking.get(to, following))
        numbers = following % NUMBERS, oldest % NUMBERS
        return Stand(self.session, rail, *numbers, sent_ns, int(self.shared))

    def keep(self, frame: bytes) -> int:
        """Give a frame its number."""
        number = self.following
        self.following += 1
        self._kept[number] = frame
        self._kept_bytes += len(frame)
        while self._kept_bytes > KEPT_BYTES_MAX or len(self._kept) > KEPT_FRAMES_MAX:
            dropped, old = self._kept.popitem(last=False)
            self._kept_bytes -= len(old)
            self._asked.pop(dropped, None)
            self._repaired.pop(dropped, None)
        return number

    def ask(
        self, node: int, lacks: Iterable[Lack], now_ns: int, *, hold_ns: int, gather_ns: int
    ) -> Lost:
        """A receiver lacks these; returns how much that is.

        What has just gone to it is on its way (`hold_ns`); others may be about to ask for the same
        (`gather_ns`). What was not sent to it, it has by other ways.
        """
        lost, torn, gone = 0.0, 0, 0
        first = self.taking.get(node, self.following)
        for number, pieces in named(lacks, self.following, self._first, self.following):
            if number < first or number not in self._kept:
                gone += 1
            elif now_ns - self._repaired.get(number, {}).get(node, now_ns - hold_ns) >= hold_ns:
                asked = self._asked.setdefault(number, _Asked(now_ns + gather_ns))
                self._lacked += node not in asked.pieces
                asked.pieces[node] = asked.pieces.get(node, 0) | pieces
                lost += share(pieces, len(self._kept[number]))
                torn += pieces != ALL_PIECES
        return Lost(lost, torn, gone)

    def spare(self, receivers: int) -> None:
        """So many lacked something as well, and did not have to ask."""
        self._lacked += receivers

    def decide(self) -> None:
        """Whether losses are shared: now and then, when all have said what they were spared."""
        if self._mended >= SHARED_AFTER:
            self.shared = self._lacked > UNICAST_MAX * self._mended
            # What receivers were spared is heard an interval later than what they asked for.
            self._lacked //= 2
            self._mended //= 2

    @property
    def next_ns(self) -> int | None:
        """When something goes again; None if nothing is asked for."""
        return min((asked.due_ns for asked in self._asked.values()), default=None)

    def due(self, now_ns: int) -> list[Repair]:
        """What goes again now."""
        repairs: list[Repair] = []
        for number in sorted(n for n, asked in self._asked.items() if asked.due_ns <= now_ns):
            asked, frame = self._asked.pop(number), self._kept[number]
            before = self._repaired.setdefault(number, {})
            again = not before.keys().isdisjoint(asked.pieces)
            before.update(dict.fromkeys(asked.pieces, now_ns))
            self._mended += 1
            if self.shared or len(asked.pieces) > UNICAST_MAX:
                pieces = 0
                for wanted in asked.pieces.values():
                    pieces |= wanted
                repairs.append(Repair((), number, pieces, frame, again))
            else:
                for node, wanted in sorted(asked.pieces.items()):
                    repairs.append(Repair((node,), number, wanted, frame, again))
        return repairs


# ---------------------------------------------------------------------------- the receiver's side


@dataclass(slots=True)
class _Gap:
    """A number that has not come."""

    due_ns: int
    """When it is asked for, if it does not come."""
    behind: int
    """How many had come when it was missed."""
    tries: int = 0


class ReceiveWindow:
    """What has come of one sender's session."""

    def __init__(self, *, session: int, first: int) -> None:
        self.session = session
        self.floor = first
        """Everything below has come, or was given up."""
        self._top = first
        """Nothing from here on has been heard of."""
        self._early: set[int] = set()
        """What has come from the floor on."""
        self._gaps: dict[int, _Gap] = {}
        self._young: deque[int] = deque()
        """Gaps that may only have been overtaken."""
        self._come = 0
        """How many frames have."""
        self.given_up = self.spared = 0

    def follows(self, number: int) -> bool:
        """Take a frame in, if nothing is missing and it is the next one; else False."""
        if number != self._top % NUMBERS or self.floor != self._top:
            return False
        self.floor = self._top = self._top + 1
        self._come += 1
        return True

    def arrived(self, number: int, now_ns: int, *, guard_ns: int) -> bool:
        """A frame is here; False if it was here before.

        It may have overtaken others: these are given `guard_ns` to come.
        """
        if self.follows(number):
            return True
        at = near(number, self._top)
        if at < self.floor or at in self._early:
            return False
        self._miss(at, now_ns, guard_ns)
        self._come += 1
        self._top = max(self._top, at + 1)
        self._early.add(at)
        self._gaps.pop(at, None)
        self._settle()
        while self._young and (not (gap := self._gaps.get(self._young[0])) or self._old(gap)):
            if gap is not None:
                gap.due_ns = min(gap.due_ns, now_ns)
            self._young.popleft()
        return True

    def _old(self, gap: _Gap) -> bool:
        return self._come - gap.behind >= LATER_MAX

    def told(self, following: int, oldest: int, now_ns: int, *, guard_ns: int) -> None:
        """The sender says what its next number is, and what it can still send again."""
        at = near(following, self._top)
        self._miss(at, now_ns, guard_ns)
        self._top = max(self._top, at)
        self._give_up_below(min(near(oldest, self._top), self._top))

    def _miss(self, top: int, now_ns: int, guard_ns: int) -> None:
        """Everything below a number has been sent."""
        if top - self._top > KEPT_FRAMES_MAX:
            # So much is not kept by anybody; or it is garbage, and may cost no more than this.
            self._top = top - KEPT_FRAMES_MAX
            self._give_up_below(self._top)
        for number in range(self._top, top):
            self._gaps[number] = _Gap(now_ns + guard_ns, self._come)
            self._young.append(number)

    def _give_up_below(self, number: int) -> None:
        if number <= self.floor:
            return
        lost = [it for it in self._gaps if it < number]
        self.given_up += len(lost)
        for it in lost:
            del self._gaps[it]
        self._early = {it for it in self._early if it >= number}
        self.floor = number
        self._settle()

    def _settle(self) -> None:
        """Move the floor behind what is here or was given up."""
        while self.floor < self._top and self.floor not in self._gaps:
            self._early.discard(self.floor)
            self.floor += 1

    def standing(self, incomplete: Mapping[int, int]) -> tuple[int, int, list[Lack]]:
        """Everything below the first has come, nothing from the second on, and these lack.

        As far as one report has room for them: then the second is lower. `incomplete` as in `ask`.
        """
        lacks: list[Lack] = []
        for number in sorted(self._gaps):
            if not _add(lacks, number, incomplete):
                return self.floor, number, lacks
        return self.floor, self._top, lacks

    @property
    def lacking(self) -> bool:
        """Something is missing, as far as is known."""
        return bool(self._gaps)

    @property
    def next_ns(self) -> int | None:
        """When something is to be asked for; None if nothing is missing."""
        return min((gap.due_ns for gap in self._gaps.values()), default=None)

    def seen_asked(self, lacks: Iterable[Lack], now_ns: int, *, wait_ns: int) -> None:
        """Somebody else asks for these: they will come to the group."""
        for number, pieces in named(lacks, self._top, self.floor, self._top):
            gap = self._gaps.get(number)
            if gap is not None and pieces == ALL_PIECES and gap.due_ns < now_ns + wait_ns:
                gap.due_ns = now_ns + wait_ns
                self.spared += not gap.tries

    def hurry(self, now_ns: int) -> None:
        """All that is missing is asked for now."""
        for gap in self._gaps.values():
            gap.due_ns = min(gap.due_ns, now_ns)

    def ask(
        self, now_ns: int, incomplete: Mapping[int, int], *, retry_ns: int
    ) -> tuple[list[Lack], int]:
        """What is to be asked for now, and for how long the least lucky has been.

        Args:
            incomplete: by number (of 32 bits), the pieces that are missing of what has come partly.
            retry_ns: after so long without it, it is asked for again.
        """
        lacks: list[Lack] = []
        tries = 0
        for number in sorted(it for it, gap in self._gaps.items() if gap.due_ns <= now_ns):
            gap = self._gaps[number]
            if gap.tries >= TRIES_MAX:
                del self._gaps[number]
                self.given_up += 1
                continue
            if not _add(lacks, number, incomplete):
                break
            gap.due_ns = now_ns + (max(retry_ns, RETRY_MIN_NS) << gap.tries)
            gap.tries += 1
            tries = max(tries, gap.tries)
        self._settle()
        return lacks, tries


def _add(lacks: list[Lack], number: int, incomplete: Mapping[int, int]) -> bool:
    """Add a number that lacks, or what lacks of it; False if a report has no room for it."""
    pieces = incomplete.get(number % NUMBERS, ALL_PIECES)
    last = lacks[-1] if lacks else None
    if (
        last is not None
        and pieces == last.pieces == ALL_PIECES
        and near(last.first, number) + last.frames == number
    ):
        lacks[-1] = last._replace(frames=last.frames + 1)
        return True
    if len(lacks) == LACKS_MAX:
        return False
    lacks.append(Lack(number % NUMBERS, 1, pieces))
    return True
