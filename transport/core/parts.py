"""The parts of one core and how they hang together; made once for each incarnation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from ..._native import codec
from .. import wire
from ..config import ACTIVE, MULTICAST, ClusterConfig, Timing
from ..events import Member, ViewId
from ..wire import NO_VIEW, Record
from .acceptor import Acceptor
from .casting import Casting
from .delivery import Delivery
from .fallback import Fallback
from .fan_out import FanOut
from .flush import Flush
from .framing import Framer
from .gather import Gather, Standing
from .hearing import Hearing
from .heartbeats import Heartbeats
from .leases import Leases, Quorum
from .membership import Membership
from .outputs import Outputs
from .paths import Paths
from .peers import Peers
from .stalls import Stalls
from .state import StateTransfer
from .timers import TimerTable
from .udp_links import UdpLinks


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Everything that one incarnation begins with; all of it comes from outside."""

    config: ClusterConfig
    node: int
    incarnation: int
    nonce: int
    record: Record
    """Its `incarnation` is this one and is durable already."""
    config_hash: str
    key_hashes: dict[str, str]
    rails: tuple[str, ...]
    """In the order of preference."""
    now_ns: int
    jitter: Callable[[], float]
    """Numbers in [0, 1), from whatever source of randomness the caller has."""
    datagrams: bool = False
    """Frames can be cast beside the associations."""
    datagram_rails: tuple[str, ...] = ()
    """Rails on which they can be."""
    group_rails: tuple[str, ...] = ()
    """Rails on which they can be cast to a multicast group."""
    stateful: bool = False
    """The application gives its state, and takes another's, when it is asked to."""
    synced: ViewId = NO_VIEW
    """The last view of which it has the state, from a former incarnation in the same process."""

    @property
    def falls_back(self) -> bool:
        """Whom SCTP does not reach is reached by datagrams."""
        return self.datagrams and self.config.traffic.fallback


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an `Endpoint` routes between."""

    timers: TimerTable
    outputs: Outputs
    framer: Framer
    peers: Peers
    paths: Paths
    heartbeats: Heartbeats
    leases: Leases
    casting: Casting
    delivery: Delivery
    flush: Flush
    acceptor: Acceptor
    standing: Standing
    gather: Gather
    membership: Membership
    state: StateTransfer
    stalls: Stalls
    links: UdpLinks
    fallback: Fallback


class _Shared(TypedDict):
    """What everything that sends to peers needs."""

    timing: Timing
    framer: Framer
    peers: Peers
    timers: TimerTable
    outputs: Outputs


class _Log(TypedDict):
    """What both halves of the membership need."""

    config: ClusterConfig
    standing: Standing
    acceptor: Acceptor
    leases: Leases
    quorum: Quorum
    paths: Paths
    framer: Framer
    peers: Peers
    timers: TimerTable
    outputs: Outputs


def assemble(start: Start) -> Parts:
    """Make every part; nothing happens yet."""
    config, timing = start.config, start.config.timing
    timers, outputs = TimerTable(), Outputs()
    framer = Framer(cluster=config.name, node=start.node, incarnation=start.incarnation)
    peers = _peers(start, framer, timers, outputs)
    shared = _Shared(timing=timing, framer=framer, peers=peers, timers=timers, outputs=outputs)
    hearing = Hearing(timing=timing, datagrams=start.datagrams)
    paths = Paths(rails=start.rails, hearing=hearing, fallback=start.falls_back, **shared)
    links = _links(start, shared)
    casting = _casting(start, hearing, paths, shared)
    delivery = Delivery(node=start.node, limits=config.limits, casting=casting, **shared)
    flush = Flush(delivery)
    quorum = Quorum({n.id: n.votes for n in config.nodes}, config.quorum.tie_breaker)
    lease_ns, drift = timing.lease_ns, timing.drift
    leases = Leases(node=start.node, quorum=quorum, lease_ns=lease_ns, drift=drift)
    acceptor = _acceptor(start, outputs)
    standing = Standing(Member(start.node, start.incarnation), synced=start.synced)
    state = StateTransfer(
        standing=standing, stateful=start.stateful, limits=config.limits, **shared
    )
    log = _Log(
        config=config,
        standing=standing,
        acceptor=acceptor,
        leases=leases,
        quorum=quorum,
        paths=paths,
        framer=framer,
        peers=peers,
        timers=timers,
        outputs=outputs,
    )
    stalls = Stalls(delivery=delivery, paths=paths, peers=peers, timing=timing, outputs=outputs)
    gather = Gather(**log)
    jitter = start.jitter
    membership = Membership(
        gather=gather, delivery=delivery, flush=flush, state=state, jitter=jitter, **log
    )
    return Parts(
        timers=timers,
        outputs=outputs,
        framer=framer,
        peers=peers,
        paths=paths,
        heartbeats=_heartbeats(start, membership, log),
        leases=leases,
        casting=casting,
        delivery=delivery,
        flush=flush,
        acceptor=acceptor,
        standing=standing,
        gather=gather,
        membership=membership,
        state=state,
        stalls=stalls,
        links=links,
        fallback=_fallback(start, links, paths, hearing, shared),
    )


def _fallback(
    start: Start, links: UdpLinks, paths: Paths, hearing: Hearing, shared: _Shared
) -> Fallback:
    return Fallback(
        enabled=start.falls_back,
        alone=start.config.driver == MULTICAST,
        timing=shared["timing"],
        links=links,
        peers=shared["peers"],
        paths=paths,
        hearing=hearing,
        outputs=shared["outputs"],
    )


def _links(start: Start, shared: _Shared) -> UdpLinks:
    return UdpLinks(
        node=start.node,
        nonce=start.nonce,
        rails=start.datagram_rails,
        timing=shared["timing"],
        framer=shared["framer"],
        timers=shared["timers"],
        outputs=shared["outputs"],
    )


def _casting(start: Start, hearing: Hearing, paths: Paths, shared: _Shared) -> Casting:
    fan_out = FanOut(
        node=start.node,
        nonce=start.nonce,
        rails=start.group_rails,
        hearing=hearing,
        paths=paths,
        jitter=start.jitter,
        **shared,
    )
    return Casting(
        timing=shared["timing"],
        hearing=hearing,
        paths=paths,
        outputs=shared["outputs"],
        fan_out=fan_out,
        active=start.config.traffic.rails == ACTIVE,
    )


def _heartbeats(start: Start, membership: Membership, log: _Log) -> Heartbeats:
    return Heartbeats(
        node=start.node,
        timing=start.config.timing,
        membership=membership,
        paths=log["paths"],
        leases=log["leases"],
        framer=log["framer"],
        timers=log["timers"],
        outputs=log["outputs"],
    )


def _acceptor(start: Start, outputs: Outputs) -> Acceptor:
    # A restarted acceptor waits one lease: its grants were forgotten with its memory.
    fresh = not (start.record.voter or start.record.founding)
    timing = start.config.timing
    votes_from = start.now_ns + (0 if fresh else int(timing.lease_ns * timing.drift))
    return Acceptor(record=start.record, votes_from_ns=votes_from, outputs=outputs)


def _peers(start: Start, framer: Framer, timers: TimerTable, outputs: Outputs) -> Peers:
    config = start.config
    hello = wire.Hello(
        cluster=config.name,
        config_hash=start.config_hash,
        node=start.node,
        incarnation=start.incarnation,
        nonce=start.nonce,
        version=codec.WIRE_VERSION,
        version_oldest=codec.WIRE_VERSION_OLDEST,
    )
    return Peers(
        node=start.node,
        incarnation=start.incarnation,
        hello=hello,
        key_hashes=start.key_hashes,
        others=[n.id for n in config.nodes if n.id != start.node],
        rails=start.rails,
        lifeline_rails=frozenset(rail.name for rail in config.rails if rail.lifeline),
        timing=config.timing,
        framer=framer,
        timers=timers,
        outputs=outputs,
        seen=dict(start.record.seen),
        jitter=start.jitter,
        sctp=config.driver != MULTICAST,
    )
