"""One barrier of very many parties in virtual time: what a schedule of arrivals costs.

The core of a barrier alone: parties arrive, tell each other whose arrivals they hold as the
schedule says (`phalanx.transport.core.spread`), and are released when they hold all. The
membership is one shared range, there are no views, and messages are delayed at random and may
be lost. Each message is encoded, counted, and decoded again where it arrives.

A run checks what it is there to show: nobody is released before all have arrived, everybody
is in the end, and where parties are missing everybody names exactly these.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from phalanx.transport.config import MS
from phalanx.transport.core.ranks import NOBODY, RankSet
from phalanx.transport.core.spread import Forward, Kind, Spread, make

GENERATION = 70_000
"""Of the messages' barrier; a number of ordinary length."""
STRAGGLER_DELAYS = 24
"""One party, drawn by the seed, arrives so much later than the others: 16 rounds are over by then,
so a schedule that releases anybody without it is found out."""
SCHEDULE_DELAYS = STRAGGLER_DELAYS + 40
"""A party gives the schedule so many mean delays before it gives up: 16 rounds fit in twice."""
PATIENCE_DELAYS = 4
"""From a give-up to what follows from it: more than the longest way there and back."""
TRIES_WITH_LOSS = 16
"""Give-ups before the missing are named, where messages may be lost; else one is enough."""
COMPLAINTS_MAX = 5


class Told(msgspec.Struct, frozen=True, array_like=True):
    """Whose arrivals its sender holds."""

    generation: int
    asks: bool
    runs: tuple[int, ...]
    """Ranks between runs, and ranks in the run, in turn; the last run may go round the ring."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Told)


def encode(ranks: RankSet, n: int, *, asks: bool = False, generation: int = GENERATION) -> bytes:
    """The msgpack form of a message."""
    ranges = list(ranks.ranges())
    if len(ranges) > 1 and ranges[0][0] == 0 and ranges[-1][1] == n:
        ranges[-1] = (ranges[-1][0], n + ranges.pop(0)[1])
    runs: list[int] = []
    end = 0
    for start, stop in ranges:
        runs += (start - end, stop - start)
        end = stop
    return _encoder.encode(Told(generation, asks, tuple(runs)))


def decode(payload: bytes, n: int) -> tuple[Told, RankSet] | None:
    """A message and its ranks, or None if no honest party can have sent it."""
    try:
        told = _decoder.decode(payload)
    except msgspec.DecodeError:
        return None
    runs = told.runs
    if len(runs) % 2:
        return None
    bounds: list[int] = []
    end = 0
    for place in range(0, len(runs), 2):
        gap, count = runs[place], runs[place + 1]
        start = end + gap
        if gap < (place > 0) or count < 1 or start >= n:
            return None
        end = start + count
        bounds += (start, end)
    if end > n:
        if end - n > bounds[0]:
            return None  # round the ring, into its own first run
        touches = end - n == bounds[0]
        begin = [0, *bounds[1:-1]] if touches else [0, end - n, *bounds[:-1]]
        bounds = [*begin, n]
    return told, RankSet(tuple(bounds))


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeOptions:
    """One run."""

    kind: Kind
    nodes: int
    seed: int = 1
    delay_ns: int = MS
    """The mean; each message takes between half of it and one and a half."""
    window_ns: int = MS
    """In which the parties arrive, but for the straggler."""
    loss: float = 0.0
    """The share of messages that never come."""
    absent: frozenset[int] = frozenset()
    """Ranks that never arrive."""
    silent: bool = False
    """The absent are not only late: they are dead, and pass nothing on."""


@dataclass(slots=True, kw_only=True)
class Figures:
    """What came of a run; counts are of messages sent, also of those that were lost."""

    options: LargeOptions
    rounds: int = 0
    """The longest chain of messages in which each passes on what the one before has brought;
    of those who gave up none is counted."""
    messages: list[int] = field(default_factory=list[int])
    """By rank."""
    payload_bytes: list[int] = field(default_factory=list[int])
    """By rank, without headers."""
    lost: int = 0
    gave_up: int = 0
    """Parties that did, once or more."""
    took_ns: int = 0
    """Virtual time from the last arrival to the last release, or to the last naming."""
    released: int = 0
    named: dict[int, RankSet] = field(default_factory=dict[int, RankSet])
    """Whom each party without release named in the end."""
    complaints: list[str] = field(default_factory=list[str])

    def complain(self, words: str) -> None:
        """Something is wrong; the first few are kept."""
        if len(self.complaints) < COMPLAINTS_MAX:
            self.complaints.append(words)


_Event = tuple[int, int, int, int, bytes, int]
"""When, which of equal ones, to whom, from whom (or one of the two below), what, how deep."""
_ARRIVE, _DEADLINE = -1, -2


class LargeBarrier:
    """A run of one barrier."""

    def __init__(self, options: LargeOptions, make_spread: Callable[..., Spread] = make) -> None:
        n = options.nodes
        self.options = options
        self.figures = Figures(options=options, messages=[0] * n, payload_bytes=[0] * n)
        self._random = random.Random(options.seed)
        self._parties = [make_spread(options.kind, n=n, rank=rank, wanted=n) for rank in range(n)]
        # For each party what it was brought at each depth of the chain, if it passes that on.
        self._brought: list[dict[int, RankSet]] = [{} for _ in range(n)]
        self._relayed = bool(self._parties[0].relays)
        self._deepest = [0] * n
        self._tries = [0] * n
        self._done = [False] * n
        self._arrived = 0
        self._events: list[_Event] = []
        self._number = 0
        self._now_ns = self._last_arrival_ns = 0

    def run(self) -> Figures:
        """Play it to its end."""
        options = self.options
        present = [rank for rank in range(options.nodes) if rank not in options.absent]
        straggler = self._random.choice(present)
        for rank in present:
            late_ns = STRAGGLER_DELAYS * options.delay_ns if rank == straggler else 0
            self._at(self._random.randrange(options.window_ns + 1) + late_ns, rank, _ARRIVE)
        events = self._events
        while events:
            self._now_ns, _, rank, source, payload, depth = heapq.heappop(events)
            if source == _ARRIVE:
                self._arrive(rank)
            elif source == _DEADLINE:
                self._deadline(rank)
            else:
                self._receive(rank, source, payload, depth)
        self._judge()
        return self.figures

    def _at(self, at_ns: int, rank: int, source: int, payload: bytes = b"", depth: int = 0) -> None:
        self._number += 1
        heapq.heappush(self._events, (at_ns, self._number, rank, source, payload, depth))

    # ------------------------------------------------------------------------- what happens

    def _arrive(self, rank: int) -> None:
        options = self.options
        self._arrived += 1
        self._last_arrival_ns = self._now_ns
        timeout_ns = options.window_ns + SCHEDULE_DELAYS * options.delay_ns
        self._at(self._now_ns + timeout_ns, rank, _DEADLINE)
        self._send(rank, self._parties[rank].held(RankSet.one(rank)))
        self._release_if_complete(rank)

    def _deadline(self, rank: int) -> None:
        party = self._parties[rank]
        if self._done[rank]:
            return
        if self._tries[rank] == (TRIES_WITH_LOSS if self.options.loss else 1):
            self.figures.named[rank] = party.missing()
            self._finish(rank)
            return
        self.figures.gave_up += self._tries[rank] == 0
        self._tries[rank] += 1
        self._at(self._now_ns + PATIENCE_DELAYS * self.options.delay_ns, rank, _DEADLINE)
        self._send(rank, party.give_up())

    def _receive(self, rank: int, source: int, payload: bytes, depth: int) -> None:
        message = decode(payload, self.options.nodes)
        if message is None:
            self.figures.complain(f"rank {rank} cannot read what {source} sent: {payload.hex()}")
            return
        told, ranks = message
        party = self._parties[rank]
        if depth:
            self._deepest[rank] = max(self._deepest[rank], depth)
            if self._relayed:
                brought = self._brought[rank]
                brought[depth] = brought.get(depth, NOBODY) | ranks
        self._send(rank, party.held(ranks))
        if told.asks:
            self._send(rank, party.asked(source, ranks), answers=True)
        self._release_if_complete(rank)

    def _send(self, rank: int, forwards: list[Forward], *, answers: bool = False) -> None:
        options, figures = self.options, self.figures
        for forward in forwards:
            depth = 0 if forward.asks or answers else self._depth(rank, forward.what)
            payload = encode(forward.what, options.nodes, asks=forward.asks)
            figures.messages[rank] += len(forward.to)
            figures.payload_bytes[rank] += len(forward.to) * len(payload)
            for target in forward.to:
                if options.loss and self._random.random() < options.loss:
                    figures.lost += 1
                    continue
                if options.silent and target in options.absent:
                    continue
                delay_ns = round(options.delay_ns * (0.5 + self._random.random()))
                self._at(self._now_ns + delay_ns, target, rank, payload, depth)

    def _depth(self, rank: int, what: RankSet) -> int:
        """Of a message that says this: one more than the deepest that brought some of it."""
        if self._tries[rank]:
            return 0
        brought = self._brought[rank]
        for depth in sorted(brought, reverse=True):
            if not brought[depth].isdisjoint(what):
                return depth + 1
        return 1

    # ----------------------------------------------------------------------- what is checked

    def _release_if_complete(self, rank: int) -> None:
        if self._done[rank] or not self._parties[rank].complete:
            return
        figures = self.figures
        if self._arrived < self.options.nodes:
            figures.complain(
                f"rank {rank} is released when {self._arrived} of {self.options.nodes} are there"
            )
        if rank in self.options.absent:
            figures.complain(f"rank {rank} is released and has never arrived")
        figures.released += 1
        figures.rounds = max(figures.rounds, self._deepest[rank])
        self._finish(rank)

    def _finish(self, rank: int) -> None:
        self._done[rank] = True
        self.figures.took_ns = self._now_ns - self._last_arrival_ns

    def _judge(self) -> None:
        figures, options = self.figures, self.options
        if not options.absent:
            for rank, missing in sorted(figures.named.items()):
                figures.complain(f"rank {rank} names {missing}, who had arrived")
        absent = RankSet.of(options.absent)
        for rank in range(options.nodes) if options.absent else ():
            named = figures.named.get(rank)
            if rank not in options.absent and named != absent:
                figures.complain(f"rank {rank} names {named}, and {absent} are missing")
        if not options.absent and figures.released < options.nodes:
            figures.complain(f"{figures.released} of {options.nodes} are released in the end")
