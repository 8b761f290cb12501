"""What a run does, drawn from its seed before it begins: the cluster, its traffic, its faults.

A plan is plain data, so that a run can be played again bit for bit, with less in it (`shrink.py`),
or with its faults written down. Which kinds of fault may occur is itself drawn for each seed: in
a mix of everything some faults hide others (Groce et al. 2012, "Swarm testing").
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from phalanx.transport.config import MS, NODES_MAX
from phalanx.transport.core.leases import Quorum

SIZES = (2, 3, 3, 3, 4, 5)
FAULTS_MAX = 8
GAP_MS = 150
"""The mean time between two faults."""
USUAL_NS = 1500 * MS
LONG_NS = 5000 * MS
LONG_SHARE = 0.05
"""How long a fault lasts at most, usually and now and then."""
PLAY_OUT_NS = 1000 * MS
"""How long everything stays broken after the last fault, at most."""
FULL_TRAFFIC_NS = 1000 * MS
"""Up to this length runs have more messages the longer they are."""
SWAP_NS = 2300 * MS
"""How long a swap needs: two partings of a lease and more, and a change in each."""
LATENCIES_NS = (0, 50_000, 300_000, 1 * MS)
STATE_SHARE = 0.5
TRANSFER_NS = 500 * MS
"""After the last fault newcomers come back and get their state, before everything is mended."""
READS_AFTER_NS = (100_000, 20 * MS, 100 * MS, 300 * MS)
STATE_BYTES = (0, 20_000, 150_000)
DATAGRAMS_LOST = (0.0, 0.0, 0.01, 0.2, 1.0)
DATAGRAMS_DOUBLED = (0.0, 0.0, 0.05, 0.5)
DATAGRAMS_LATE = (0.0, 0.0, 0.05, 0.5)
BLOCKS_MAX = 2
OPENED_NS = (0, 0, 20 * MS, 1000 * MS)
NEVER_OPENED = 0.1
CHANNELS_READ_NS = (50_000, 2 * MS, 10 * MS, 50 * MS)
CHANNEL_STATE_BYTES = (0, 0, 60_000)
SAFE_SHARES = (0.0, 0.1, 0.5)
EVICT_SLOW_SHARE = 0.2
EVICT_SLOW_NS = (250 * MS, 400 * MS, 1000 * MS)
"""A file allows no time as short as the first; so more of them are over within a run."""
DRIFT = 0.049
"""How much faster the fastest clock is than the slowest; the bound of the profile is 5 %."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong, and is mended after a while."""

    kind: str
    at_ns: int
    """After the first view of everybody."""
    nodes: tuple[int, ...] = ()
    rail: str = ""
    lasts_ns: int = 0
    amount: float = 0.0
    """A share, a count or a time, as the kind has it."""
    step: str = ""
    """Which message of a view change it waits for."""

    def __str__(self) -> str:
        parts = [f"{self.at_ns / MS:.1f} ms: {self.kind}"]
        if self.nodes:
            parts.append(",".join(map(str, self.nodes)))
        if self.rail:
            parts.append(f"on {self.rail}")
        if self.amount:
            parts.append(f"({self.amount:g} {self.step})" if self.step else f"({self.amount:g})")
        if self.lasts_ns:
            parts.append(f"for {self.lasts_ns / MS:.1f} ms")
        return " ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that a run needs to know; the rest follows."""

    seed: int
    size: int
    rails: tuple[str, ...]
    tie_breaker: int
    small_limits: bool
    """Windows and queues that a few messages fill."""
    delay_ns: int
    jitter_ns: int
    send_buffer_bytes: int
    clock_offsets_ns: tuple[int, ...]
    clock_rates: tuple[float, ...]
    pauses_ns: tuple[int, ...]
    """The mean time between two messages of each node."""
    latencies_ns: tuple[int, ...]
    """How long the process of each node takes to run once there is something for it."""
    faults: tuple[Fault, ...] = field(default=())
    ends_ns: int = 0
    """When everything is mended, if the last fault does not come later."""
    false_end: tuple[int, ...] = ()
    """Two nodes between which, when all is mended, something ends a lifeline as if one had died."""
    lasting: Fault | None = None
    """Comes when the others are mended, and stays until a quorum has found together without the
    nodes it names."""
    forced: Fault | None = None
    """Comes last: what an operator says with --force, and why (`forcing.py`)."""
    reads_after_ns: tuple[int, ...] = ()
    """The mean time until the application of each node reads on; () if none has state."""
    state_bytes: int = 0
    """How large the state of an application is, and a little more."""
    datagrams_lost: float = 0.0
    """Which share of all datagrams is lost, also when all is mended."""
    datagrams_doubled: float = 0.0
    datagrams_late: float = 0.0
    channels_open_ns: tuple[tuple[int | None, ...], ...] = ()
    """How long after the beginning of its process each node opens each ordered channel (None: it
    does not); () if there are none."""
    channels_read_ns: tuple[int, ...] = ()
    """The mean time until the application of each node reads them on."""
    channel_state_bytes: int = 0
    safe_share: float = 0.0
    """Which share of what is published on them is to be safe."""
    evict_slow_ns: int = 0
    """How long a member may hold the others up; 0: for ever."""
    multicast: bool = False
    """Rails have multicast groups."""
    fallback: bool = False
    """Whom SCTP does not reach is reached by datagrams."""
    alone: bool = False
    """There is no SCTP anywhere."""
    active: bool = False
    """Everything goes over two rails."""

    @property
    def nodes(self) -> range:
        """Their ids."""
        return range(1, self.size + 1)

    def check(self) -> None:
        """Whether it can be played; one that is drawn can, one from a file need not.

        Raises:
            ValueError: says what does not fit.
        """
        if not 1 <= self.size <= NODES_MAX or not self.rails:
            raise ValueError(f"{self.size} nodes on {len(self.rails)} rails cannot be played")
        for name in ("clock_offsets_ns", "clock_rates", "pauses_ns", "latencies_ns"):
            if len(getattr(self, name)) != self.size:
                raise ValueError(f"{name} has to have one value for each of {self.size} nodes")
        if len(self.channels_open_ns) not in (0, self.size):
            raise ValueError(f"channels_open_ns has to have no value or {self.size}")
        if len(self.channels_read_ns) != len(self.channels_open_ns):
            raise ValueError("channels_read_ns has to have as many values as channels_open_ns")
        if len(self.reads_after_ns) not in (0, self.size):
            raise ValueError(f"reads_after_ns has to have no value or one for each of {self.size}")
        for share in (self.datagrams_lost, self.datagrams_doubled, self.datagrams_late):
            if not 0 <= share <= 1:
                raise ValueError(f"{share} is no share of the datagrams")
        endings = [fault for fault in (self.lasting, self.forced) if fault is not None]
        for fault in (*self.faults, *endings):
            if fault.kind not in (FORCED if fault is self.forced else ALL_KINDS):
                raise ValueError(f"there is no fault {fault.kind!r}")
            if not fault.nodes or not set(fault.nodes) <= set(self.nodes):
                raise ValueError(f"{fault}: its nodes have to be some of 1 to {self.size}")
            if fault.rail and fault.rail not in self.rails:
                raise ValueError(f"{fault}: there is no such rail")
            if fault.step and fault.step not in STEPS:
                raise ValueError(f"{fault}: there is no such step of a view change")


@dataclass(slots=True)
class _Draw:
    """What the draws of single faults have to know of each other."""

    random: random.Random
    nodes: list[int]
    rails: tuple[str, ...]
    tie_breaker: int
    without_record: set[int] = field(default_factory=set[int])

    def one(self) -> tuple[int, ...]:
        return (self.random.choice(self.nodes),)

    def two(self) -> tuple[int, ...]:
        return tuple(self.random.sample(self.nodes, 2))

    def some(self) -> tuple[int, ...]:
        count = self.random.randrange(1, len(self.nodes))
        return tuple(sorted(self.random.sample(self.nodes, count)))

    def nth(self) -> int:
        """Which of the frames of a step: the first to one of the last."""
        return self.random.randrange(1, len(self.nodes) + 1)

    def rail(self) -> str:
        return self.random.choice(self.rails)

    def lasts_ns(self) -> int:
        """Most faults are short."""
        longest_ns = LONG_NS if self.random.random() < LONG_SHARE else USUAL_NS
        return int(self.random.random() ** 2 * longest_ns) + 1

    def forgetful(self) -> tuple[int, ...]:
        """A node whose record may go; of a quorum the records must be left."""
        node = self.random.choice(self.nodes)
        lost = self.without_record | {node}
        quorum = Quorum(dict.fromkeys(self.nodes, 1), self.tie_breaker)
        if not quorum.reached(set(self.nodes) - lost):
            return ()
        self.without_record.add(node)
        return (node,)


STEPS = ("PREPARE", "PROMISE", "HOLD", "HELDALL", "FETCH", "ACCEPT", "ACCEPTED", "INSTALL")
"""The messages of a view change, by what they are called in traces."""
_Kind = Callable[[_Draw], tuple[tuple[int, ...], str, float]]
"""Draws (nodes, rail, amount) of one fault."""

KINDS: dict[str, tuple[int, _Kind]] = {
    "kill": (3, lambda d: (d.one(), "", 0)),
    "quick restart": (2, lambda d: (d.one(), "", d.random.choice((1, 2, 4, 20, 200)))),
    "kill two": (1, lambda d: (d.two(), "", 0)),
    "kill at frame": (2, lambda d: (d.one(), "", d.random.randrange(1, 40))),
    "isolate at frame": (2, lambda d: (d.one(), "", d.random.randrange(1, 40))),
    "die in change": (3, lambda d: (d.one(), "", d.nth())),
    "part in change": (3, lambda d: (d.one(), "", d.nth())),
    "die in parting": (2, lambda d: (d.one(), "", d.nth())),
    "part in parting": (2, lambda d: (d.one(), "", d.nth())),
    "freeze in change": (2, lambda d: (d.one(), "", d.nth())),
    "reset in change": (1, lambda d: (d.one(), "", d.nth())),
    "duel": (2, lambda d: (d.one(), "", d.nth())),
    "swap": (1, lambda d: (d.two(), "", 0)),
    "freeze": (2, lambda d: (d.one(), "", 0)),
    "cut rail": (2, lambda d: (d.one(), d.rail(), 0)),
    "cut rail one way": (1, lambda d: (d.two(), d.rail(), 0)),
    "cut one way": (2, lambda d: (d.two(), "", 0)),
    "cut pair": (2, lambda d: (d.two(), "", 0)),
    "partition": (2, lambda d: (d.some(), "", 0)),
    "partition one way": (1, lambda d: (d.some(), "", 0)),
    "partition other way": (1, lambda d: (d.some(), "", 0)),
    "reset lifelines": (1, lambda d: (d.two(), "", 0)),
    "reset": (2, lambda d: (d.two(), "", 0)),
    "reset silently": (1, lambda d: (d.two(), "", 0)),
    "lose packets": (2, lambda d: (d.two(), d.rail(), d.random.choice((0.05, 0.3)))),
    "delay packets": (1, lambda d: (d.two(), d.rail(), d.random.choice((5, 60, 300, 900)))),
    "repeat packets": (1, lambda d: (d.two(), d.rail(), 0.5)),
    "flap": (1, lambda d: (d.one(), d.rail(), d.random.choice((20, 80, 200)))),
    "slow disk": (1, lambda d: (d.one(), "", d.random.choice((20, 300)))),
    "full disk": (1, lambda d: (d.one(), "", 0)),
    "lose record": (1, lambda d: (d.forgetful(), "", 0)),
    "tear record": (1, lambda d: (d.forgetful(), "", 0)),
    "old record": (1, lambda d: (d.forgetful(), "", d.random.choice((1, 1, 2, 3)))),
    "slow consumer": (1, lambda d: (d.one(), "", 0)),
    "leave": (2, lambda d: (d.one(), "", 0)),
}
"""Each kind of fault with its weight and what is drawn for it; `faults.py` carries them out."""
STATE_KINDS: dict[str, tuple[int, _Kind]] = {
    "die in transfer": (3, lambda d: (d.two(), "", d.random.choice((0, 1, 5, 40)))),
    "part in transfer": (1, lambda d: (d.two(), "", d.random.choice((0, 1, 5, 40)))),
    "reset in transfer": (1, lambda d: (d.two(), "", d.random.choice((0, 0.2, 1, 5)))),
}
"""More of them, where applications have state."""
DATAGRAM_KINDS: dict[str, tuple[int, _Kind]] = {
    "block datagrams": (2, lambda d: (d.two(), "", 0)),
    "block datagrams one way": (1, lambda d: (d.two(), "", 0)),
}
"""A firewall between two nodes that lets SCTP pass."""
GROUP_KINDS: dict[str, tuple[int, _Kind]] = {
    "deafen": (1, lambda d: (d.one(), d.rail(), 0)),
}
"""No multicast of a rail comes to a host."""
SCTP_KINDS: dict[str, tuple[int, _Kind]] = {
    "block sctp": (3, lambda d: (d.two(), "", 0)),
    "block sctp one way": (1, lambda d: (d.two(), "", 0)),
    "block all sctp": (1, lambda d: (d.one(), "", 0)),
}
"""A firewall that lets datagrams pass."""
MULTICAST_SHARE = 0.5
FALLBACK_SHARE = 0.5
ACTIVE_SHARE = 0.25
ALONE_SHARE = 0.2
"""Of the plans with fallback."""

STRAND = "strand"
"""What one member sends another right after a view waits on a cut path, until the next view."""
STRAND_SHARE = 0.4
ALL_KINDS = (*KINDS, *STATE_KINDS, *DATAGRAM_KINDS, *GROUP_KINDS, *SCTP_KINDS, STRAND)
"""Every fault that a plan may have, save for those at its end."""

IN_CHANGE = (
    "die in change",
    "part in change",
    "die in parting",
    "part in parting",
    "freeze in change",
    "reset in change",
    "duel",
)
"""They strike when a view change has come to a step."""
LASTING = ("kill", "freeze", "partition", "partition one way", "partition other way")
LASTING_SHARE = 0.4
FORCED = ("force", "force alone")
"""After the loss of a majority; and as a slip, of one node against a majority that lives."""
FORCED_SHARE = 0.25
FOUNDING_STEPS = ("PREPARE", "PROMISE", "ACCEPT", "ACCEPTED", "INSTALL")
"""At which a founder may die."""
FALSE_END_SHARE = 0.2


def draw_plan(seed: int, size: int | None = None) -> Plan:
    """The plan of a seed, for a cluster of a drawn or of a given size."""
    draw = random.Random(seed)
    drawn = draw.choice(SIZES)
    size = drawn if size is None else size
    rails = draw.choice((("a",), ("a", "b"), ("a", "b")))
    tie_breaker = draw.choice((0, 1)) if size % 2 == 0 else 0
    nodes = list(range(1, size + 1))
    plan = Plan(
        seed=seed,
        size=size,
        rails=rails,
        tie_breaker=tie_breaker,
        small_limits=draw.random() < 0.5,
        delay_ns=draw.choice((50_000, 100_000, 2 * MS)),
        jitter_ns=draw.choice((0, 20_000, 1 * MS)),
        send_buffer_bytes=draw.choice((64 << 10, 4 << 20)),
        clock_offsets_ns=tuple(draw.randrange(1 << 50) for _ in nodes),
        clock_rates=tuple(draw.choice((1.0, 1.0, 1.0 + draw.random() * DRIFT)) for _ in nodes),
        pauses_ns=tuple(draw.choice((1, 3, 20)) * MS * (size - 1) for _ in nodes),
        faults=(faults := tuple(_draw_faults(_Draw(draw, nodes, rails, tie_breaker)))),
        ends_ns=_draw_end(draw, faults),
        lasting=_draw_lasting(draw, nodes, tie_breaker),
        forced=_draw_forced(random.Random(f"force {seed}"), nodes, tie_breaker),
        false_end=tuple(draw.sample(nodes, 2)) if draw.random() < FALSE_END_SHARE else (),
        latencies_ns=tuple(draw.choice(LATENCIES_NS) for _ in nodes),
    )
    plan = _with_strand(plan, random.Random(f"strand {seed}"))
    plan = _with_state(plan, random.Random(f"state {seed}"))
    plan = _with_datagrams(plan, random.Random(f"datagrams {seed}"))
    plan = _with_policy(plan, random.Random(f"evict slow {seed}"))
    plan = _with_multicast(plan, random.Random(f"multicast {seed}"))
    plan = _with_fallback(plan, random.Random(f"fallback {seed}"))
    plan = replace(plan, active=random.Random(f"active rails {seed}").random() < ACTIVE_SHARE)
    return _thinned(_with_channels(plan, random.Random(f"ordered channels {seed}")))


def _with_policy(plan: Plan, draw: random.Random) -> Plan:
    """Who holds the others up is left out."""
    if draw.random() > EVICT_SLOW_SHARE:
        return plan
    return replace(plan, evict_slow_ns=draw.choice(EVICT_SLOW_NS))


def _with_strand(plan: Plan, draw: random.Random) -> Plan:
    """It takes a proposer, two others, and one that dies and is back soon."""
    if plan.size < 4 or draw.random() > STRAND_SHARE:
        return plan
    at_ns = max((fault.at_ns for fault in plan.faults), default=0) + 50 * MS
    lasts_ns = draw.randrange(40, 240) * MS
    amount = draw.choice((2, 3, 4, 5, 6, 8))
    strand = Fault(STRAND, at_ns, (draw.choice(plan.nodes),), "", lasts_ns, amount)
    ends_ns = max(plan.ends_ns, at_ns + lasts_ns + 50 * MS)
    return replace(plan, faults=(*plan.faults, strand), ends_ns=ends_ns)


def _thinned(plan: Plan) -> Plan:
    """A long run has as many messages as a shorter one: it is the faults that take time."""
    stretch = max(1.0, plan.ends_ns / FULL_TRAFFIC_NS)
    return replace(plan, pauses_ns=tuple(int(pause * stretch) for pause in plan.pauses_ns))


def _with_state(plan: Plan, draw: random.Random) -> Plan:
    """Whether applications have state; drawn apart, so that the rest of a plan is as it was."""
    if draw.random() > STATE_SHARE:
        return plan
    more = _Draw(draw, list(plan.nodes), plan.rails, plan.tie_breaker)
    last_ns = max((fault.at_ns for fault in plan.faults), default=0)
    return replace(
        plan,
        faults=_with_faults(plan, more, STATE_KINDS, draw.randrange(5)),
        ends_ns=max(plan.ends_ns, last_ns + TRANSFER_NS),
        reads_after_ns=tuple(draw.choice(READS_AFTER_NS) for _ in plan.nodes),
        state_bytes=draw.choice(STATE_BYTES),
    )


def _with_datagrams(plan: Plan, draw: random.Random) -> Plan:
    """What befalls datagrams in the whole run and between two nodes, drawn apart as well."""
    more = _Draw(draw, list(plan.nodes), plan.rails, plan.tie_breaker)
    return replace(
        plan,
        datagrams_lost=draw.choice(DATAGRAMS_LOST),
        datagrams_doubled=draw.choice(DATAGRAMS_DOUBLED),
        datagrams_late=draw.choice(DATAGRAMS_LATE),
        faults=_with_faults(plan, more, DATAGRAM_KINDS, draw.randrange(BLOCKS_MAX + 1)),
    )


def _with_multicast(plan: Plan, draw: random.Random) -> Plan:
    """Whether what goes to several goes to a group, drawn apart as well."""
    if draw.random() > MULTICAST_SHARE:
        return plan
    more = _Draw(draw, list(plan.nodes), plan.rails, plan.tie_breaker)
    faults = _with_faults(plan, more, GROUP_KINDS, draw.randrange(BLOCKS_MAX + 1))
    return replace(plan, multicast=True, faults=faults)


def _with_fallback(plan: Plan, draw: random.Random) -> Plan:
    """Whether there is another way where there is no SCTP, drawn apart as well."""
    if draw.random() > FALLBACK_SHARE:
        return plan
    more = _Draw(draw, list(plan.nodes), plan.rails, plan.tie_breaker)
    faults = _with_faults(plan, more, SCTP_KINDS, draw.randrange(BLOCKS_MAX + 1))
    alone = plan.datagrams_lost < 1 and draw.random() < ALONE_SHARE
    # A path that is not up by mere loss does not keep a lifeline's false end from proving a death.
    false_end = () if alone and plan.datagrams_lost else plan.false_end
    return replace(plan, fallback=True, alone=alone, faults=faults, false_end=false_end)


def _with_channels(plan: Plan, draw: random.Random) -> Plan:
    """Who opens which ordered channel when, and reads it how slowly, drawn apart as well."""
    return replace(
        plan,
        channels_open_ns=tuple(
            tuple(
                None
                if draw.random() < NEVER_OPENED
                else int(draw.random() * draw.choice(OPENED_NS))
                for _ in range(2)
            )
            for _ in plan.nodes
        ),
        channels_read_ns=tuple(draw.choice(CHANNELS_READ_NS) for _ in plan.nodes),
        channel_state_bytes=draw.choice(CHANNEL_STATE_BYTES),
        safe_share=draw.choice(SAFE_SHARES),
    )


def _with_faults(
    plan: Plan, more: _Draw, kinds: dict[str, tuple[int, _Kind]], count: int
) -> tuple[Fault, ...]:
    """The faults of a plan, and between the first and the last so many more."""
    faults = list(plan.faults)
    last_ns = max((fault.at_ns for fault in faults), default=0)
    for _ in range(count):
        [kind] = more.random.choices(list(kinds), [weight for weight, _ in kinds.values()])
        at_ns = more.random.randrange(1 + last_ns)
        nodes, rail, amount = kinds[kind][1](more)
        faults.append(Fault(kind, at_ns, nodes, rail, more.lasts_ns(), amount))
    return tuple(sorted(faults, key=lambda fault: fault.at_ns))


def _draw_lasting(draw: random.Random, nodes: list[int], tie_breaker: int) -> Fault | None:
    kind = draw.choice(LASTING)
    most = 1 if kind in ("kill", "freeze") else max(1, (len(nodes) - 1) // 2)
    gone = tuple(sorted(draw.sample(nodes, draw.randrange(1, most + 1))))
    quorum = Quorum(dict.fromkeys(nodes, 1), tie_breaker)
    if draw.random() > LASTING_SHARE or not quorum.reached(set(nodes) - set(gone)):
        return None
    return Fault(kind, 0, gone)


def _draw_forced(draw: random.Random, nodes: list[int], tie_breaker: int) -> Fault | None:
    """From a source of its own, so that a seed's other faults are what they were without it."""
    if draw.random() > FORCED_SHARE:
        return None
    kind = draw.choice(("force", "force", "force alone"))
    quorum = Quorum(dict.fromkeys(nodes, 1), tie_breaker)
    lost = draw.sample(nodes, 1 if kind == "force alone" else draw.randrange(1, len(nodes) + 1))
    # A majority has to be gone, or to be left.
    if quorum.reached(set(nodes) - set(lost)) is (kind == "force"):
        return None
    amount, step = draw.randrange(1, 4), draw.choice(FOUNDING_STEPS)
    return Fault(kind, 0, tuple(sorted(lost)), amount=amount, step=step)


def _draw_end(draw: random.Random, faults: tuple[Fault, ...]) -> int:
    """A while after the last fault, and not before a long one has come to its point."""
    last_ns = max((fault.at_ns for fault in faults), default=0)
    ends_ns = last_ns + int(draw.random() ** 2 * PLAY_OUT_NS)
    return max([ends_ns, *(f.at_ns + SWAP_NS for f in faults if f.kind == "swap")])


def _draw_faults(draw: _Draw) -> list[Fault]:
    chosen = draw.random.sample(sorted(KINDS), draw.random.randrange(3, len(KINDS) + 1))
    weights = [KINDS[kind][0] for kind in chosen]
    faults: list[Fault] = []
    at_ns = 0
    for _ in range(draw.random.randrange(3, FAULTS_MAX + 1)):
        at_ns += int(draw.random.expovariate(1 / GAP_MS) * MS)
        [kind] = draw.random.choices(chosen, weights)
        nodes, rail, amount = KINDS[kind][1](draw)
        step = draw.random.choice(STEPS) if kind in IN_CHANGE else ""
        lasts_ns = draw.lasts_ns()
        if nodes:
            faults.append(Fault(kind, at_ns, nodes, rail, lasts_ns, amount, step))
    return faults
