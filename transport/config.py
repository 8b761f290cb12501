"""Every setting and every limit of phalanx, named, with its unit.

Plain data: `config_file.py` makes a `ClusterConfig` out of a TOML file and validates it once;
nothing here reads files, clocks or the network. Durations end in `_ns`, sizes in `_bytes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

MS: Final = 1_000_000
"""Nanoseconds in a millisecond."""
S: Final = 1_000_000_000
"""Nanoseconds in a second."""

MULTICAST: Final = "multicast"
"""The driver without SCTP."""
NODE_ID_MAX: Final = 2**31 - 1
NODES_MAX: Final = 64
RAILS_MAX: Final = 8
NAME_BYTES_MAX: Final = 64
"""Longest name of a cluster, node, rail or channel, in bytes of UTF-8."""
VOTES_MAX: Final = 1000
"""Most votes of one node."""
PORT_MAX: Final = 65_535
HOPS_MAX: Final = 255
DURATION_NS_MAX: Final = 3600 * S
"""Longest duration that can be configured."""
DRIFT_MAX: Final = 2.0
BUFFER_BYTES_MAX: Final = 1 << 30
"""Largest value of any setting that bounds memory."""
BATCH_BYTES_MIN: Final = 1 << 10
BATCH_BYTES_MAX: Final = 60 << 10
"""A batch and its headers must fit into the 64 KiB frame that every driver takes."""
BATCH_MESSAGES_CEILING: Final = 65_535
SOCKET_BUFFER_BYTES_MIN: Final = 128 << 10
"""A buffer of an association must hold a whole frame and the one behind it."""
SACK_DELAY_MS_MAX: Final = 500
"""RFC 9260 section 6.2: an acknowledgement must not be delayed by more than this."""
SCTP_COUNT_MAX: Final = 65_535
"""The socket interface (RFC 6458) carries retransmission counts in 16 bits."""
INIT_TIMEOUT_MS_MAX: Final = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class SctpTuning:
    """What is set on each SCTP association (RFC 9260, RFC 7829), in milliseconds and counts."""

    rto_initial_ms: int
    rto_min_ms: int
    rto_max_ms: int
    sack_delay_ms: int
    """Must stay below the peer's rto_min_ms, or every tail packet is a spurious timeout."""
    heartbeat_ms: int
    path_max_retrans: int
    """Timeouts in a row after which a path is inactive."""
    pf_threshold: int
    """Timeouts after which a path is potentially failed and data moves away (RFC 7829)."""
    association_max_retrans: int
    init_attempts: int
    init_timeout_ms: int
    sack_freq: int = 2
    send_buffer_bytes: int = 4 << 20
    receive_buffer_bytes: int = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One timing profile: SCTP's own timers and those of the membership."""

    profile: str
    sctp: SctpTuning
    heartbeat_ns: int
    """Each peer is probed on each rail this often."""
    path_suspect_ns: int
    """A path without an answer for this long is suspect, and down after twice that."""
    suspect_ns: int
    """A peer without an answer on any rail for this long is suspected."""
    lease_ns: int
    """How long an answered heartbeat lets its sender act (PROTOCOL 3)."""
    drift: float = 1.05
    """Bound on the ratio of two nodes' clock rates; grantors wait lease x drift."""
    hold_down_ns: int = 100 * MS
    """A set of reachable nodes must hold this long before a view is built on it."""
    flap_hold_max_ns: int = 1600 * MS
    """A joiner that was left out as unreachable again and again is held back so long at most."""
    flap_half_life_ns: int = 30 * S
    """In so long half of the times that a node was left out are forgotten."""
    phase_timeout_ns: int = 200 * MS
    """A phase of a view change without progress for this long is tried again."""
    ack_delay_ns: int = 2 * MS
    """An acknowledgement waits at most this long for more batches."""
    bulk_ack_delay_ns: int = 10 * MS
    """The same on the bulk lane, where it is not latency that counts."""
    done_delay_ns: int = 20 * MS
    """What layers have said is acknowledged after this time, unless what is said next does it."""
    recast_ns: int = 30 * MS
    """A datagram that is not acknowledged for so long goes again over the association."""
    lazy_end_ns: int = 10 * MS
    """Who is about to arrive at a barrier as well leaves an epoch open for so long at most."""
    reconnect_min_ns: int = 100 * MS
    reconnect_max_ns: int = 500 * MS
    call_timeout_ns: int = 30 * S
    """The deadline of every await that is given none."""
    state_timeout_ns: int = 10 * S
    """A newcomer to whose state nothing was added for this long says whom it waits for."""
    switch_back_probes: int = 5
    """Clean probes in a row before the first rail is primary again."""
    spin_us: int = 0
    """The event loop does not sleep until nothing has come for so long."""


PROFILES: Mapping[str, Timing] = {
    "lan": Timing(
        profile="lan",
        sctp=SctpTuning(
            rto_initial_ms=50,
            rto_min_ms=20,
            rto_max_ms=60,
            sack_delay_ms=10,
            heartbeat_ms=100,
            path_max_retrans=4,
            pf_threshold=0,
            association_max_retrans=10,
            init_attempts=4,
            init_timeout_ms=100,
        ),
        heartbeat_ns=50 * MS,
        path_suspect_ns=125 * MS,
        suspect_ns=250 * MS,
        lease_ns=400 * MS,
    ),
    "lan-fast": Timing(
        profile="lan-fast",
        sctp=SctpTuning(
            rto_initial_ms=40,
            rto_min_ms=20,
            rto_max_ms=40,
            sack_delay_ms=5,
            heartbeat_ms=50,
            path_max_retrans=2,
            pf_threshold=0,
            association_max_retrans=8,
            init_attempts=4,
            init_timeout_ms=100,
        ),
        heartbeat_ns=25 * MS,
        path_suspect_ns=60 * MS,
        suspect_ns=125 * MS,
        lease_ns=200 * MS,
        hold_down_ns=50 * MS,
        flap_hold_max_ns=800 * MS,
        phase_timeout_ns=100 * MS,
    ),
    "wan": Timing(
        profile="wan",
        sctp=SctpTuning(
            rto_initial_ms=1000,
            rto_min_ms=300,
            rto_max_ms=5000,
            sack_delay_ms=100,
            heartbeat_ms=2000,
            path_max_retrans=4,
            pf_threshold=0,
            association_max_retrans=16,
            init_attempts=4,
            init_timeout_ms=3000,
        ),
        heartbeat_ns=500 * MS,
        path_suspect_ns=1250 * MS,
        suspect_ns=2500 * MS,
        lease_ns=4 * S,
        hold_down_ns=1 * S,
        flap_hold_max_ns=16 * S,
        flap_half_life_ns=300 * S,
        phase_timeout_ns=2 * S,
        ack_delay_ns=20 * MS,
        bulk_ack_delay_ns=40 * MS,
        done_delay_ns=100 * MS,
        recast_ns=500 * MS,
        lazy_end_ns=50 * MS,
        reconnect_min_ns=1 * S,
        reconnect_max_ns=10 * S,
    ),
}
"""`lan` is what measured best on two switched rails; `wan` follows RFC 9260 more closely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on memory and sizes; nothing in phalanx grows past one of these."""

    message_bytes_max: int = 16 << 20
    batch_bytes: int = 60 << 10
    """A batch is closed at this size; larger messages are cut into pieces of this size."""
    bulk_batch_bytes: int = 16 << 10
    """The same on the bulk lane, so that a barrier never waits behind one large chunk."""
    batch_messages_max: int = 4096
    window_bytes: int = 1 << 20
    """Batches of one stream that are numbered and not yet taken by every addressee."""
    queue_bytes: int = 1 << 20
    """Messages accepted for one stream and not yet numbered; past it the sender waits."""
    bulk_in_flight_bytes: int = 256 << 10
    """Bulk handed to one association and not yet acknowledged."""
    receive_queue_bytes: int = 8 << 20
    """An application's unread queue; past it its lane grants no more window."""
    link_backlog_bytes: int = 8 << 20
    """Frames that wait for one association; past it the association is reset."""
    state_bytes_max: int = 64 << 20
    """The largest state of an application that a newcomer takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RailConfig:
    """One of the redundant networks."""

    name: str
    network: str
    """CIDR notation, IPv4 or IPv6."""
    group: str = ""
    """Multicast group of all nodes on this rail; empty for one that follows from the names."""
    lifeline: bool = True
    """False where a middlebox terminates TCP, so that an end of file proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """One configured node."""

    name: str
    id: int
    votes: int = 1
    addresses: Mapping[str, str] = field(default_factory=dict[str, str])
    """Rail name to address; one that is left out is found: that of the local node on the rail's
    network, those of the others by multicast, if `DiscoveryConfig.multicast` is true."""
    port: int = 5405
    """SCTP port."""
    udp_port: int = 9899
    """UDP port of the encapsulation (RFC 6951), and TCP port of the lifelines."""
    datagram_port: int = 9900
    """UDP port of the datagrams; in a cluster file by default the one after `udp_port`."""
    uuid: str = ""
    """The name other systems know this node by; empty for one derived from its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumConfig:
    """Who decides when exactly half of the votes are there."""

    tie_breaker: int = 0
    """Node id that wins an even split; 0 for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscoveryConfig:
    """How nodes find each other beside their configured addresses."""

    multicast: bool = False
    """Nodes tell each other their addresses, so that the file need not have them."""
    port: int = 5408
    """UDP port of that; the same for all nodes."""


SPIN_US_MAX: Final = 10_000
PASSIVE: Final = "passive"
ACTIVE: Final = "active"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficConfig:
    """How the rails share the work."""

    rails: str = PASSIVE
    """passive: one rail carries the traffic to a peer, the others stand by; active: everything goes
    over two rails at once, and what comes second is dropped.
    """
    datagrams: bool = True
    """Small frames go as UDP datagrams first, and over SCTP if they do not arrive."""
    multicast: bool = False
    """What goes to several members as a datagram goes to a multicast group, where that arrives."""
    fallback: bool = False
    """Whom SCTP does not reach is reached by datagrams alone."""
    multicast_port: int = 5407
    """UDP port of the groups; the same for all nodes."""
    multicast_hops: int = 1
    """Hop limit of what goes to a group: 1 for a rail without routers."""
    evict_slow_ns: int = 0
    """A member that holds the others up for so long is left out of the view; 0: never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """A whole configuration, valid by construction when it comes from `config_file.load`."""

    name: str
    rails: tuple[RailConfig, ...]
    nodes: tuple[NodeConfig, ...]
    """In ascending order of id."""
    timing: Timing = PROFILES["lan"]
    limits: Limits = field(default_factory=Limits)
    quorum: QuorumConfig = field(default_factory=QuorumConfig)
    discovery: DiscoveryConfig = field(default_factory=DiscoveryConfig)
    traffic: TrafficConfig = field(default_factory=TrafficConfig)
    state_dir: str = ""
    """Where durable records live, one folder per node; empty for the XDG default."""
    allow_public: bool = False
    """Bind to public addresses although nothing is encrypted yet."""
    driver: str = "auto"
    """auto, kernel_sctp, user_sctp, or multicast: no SCTP at all."""
    encapsulation: bool = False
    """Kernel SCTP in UDP as well (RFC 6951), so that it meets nodes over user_sctp."""
    file: str = field(default="(no file)", compare=False)
    """Where it was read from, for messages."""

    def node(self, key: str | int) -> NodeConfig:
        """The node of that name or id.

        Raises:
            KeyError: no such node is configured.
        """
        for node in self.nodes:
            if key in (node.name, node.id):
                return node
        known = ", ".join(f"{node.name} ({node.id})" for node in self.nodes)
        raise KeyError(f"no node {key!r} is configured; known are {known}")

    @property
    def votes_total(self) -> int:
        """The votes of all configured nodes."""
        return sum(node.votes for node in self.nodes)
