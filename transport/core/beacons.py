"""Where the other nodes are, found by what each tells of itself on every rail.

Ids and names come from the cluster file, and so do addresses that it has; beacons fill in those it
has not. A beacon lists all addresses of its sender, so that one of them is enough. Who is heard
for the first time is answered soon, so that two processes have found each other one round trip
after the later one's first beacon; beyond that each node is heard once in `STEADY_NS`.

Whose word is taken: a node is where the process is that was heard first and has not been silent
since. Another one that claims to be the same node elsewhere, or this very node, is refused with an
event that names it; so are ids that are not in the file, names that do not go with their ids, and
addresses that the file contradicts. Nothing of that says who may *join*: identity comes from the
HELLO on an association, never from an address.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from ..._native import codec
from .. import wire
from ..config import MS, ClusterConfig, NodeConfig, S
from ..drivers.base import PeerEndpoint
from ..events import PeerRefused
from ..wire_beacon import Beacon, decode_beacon, encode_beacon

FIRST_NS: Final = 50 * MS
"""Between the first beacons; the interval doubles up to `STEADY_NS`."""
STEADY_NS: Final = 1 * S
SILENT_NS: Final = 3 * STEADY_NS
"""A process of which nothing was heard for so long has left its place to another."""
ANSWER_NS: Final = 20 * MS
"""Within this time a process that is new here is answered, each node at a time of its own."""
TOLD_MAX: Final = 256
"""Refusals that are told; a flood of them is counted."""


@dataclass(slots=True)
class _Heard:
    """The process that a node is."""

    nonce: int
    beacon: Beacon
    heard_ns: int


class Beacons:
    """Says where this node is, and hears where the others are."""

    def __init__(
        self,
        *,
        config: ClusterConfig,
        node: NodeConfig,
        addresses: Mapping[str, str],
        nonce: int,
        jitter: Callable[[], float],
        now_ns: int,
    ) -> None:
        """`addresses` are this node's, by rail; `nonce` is made anew for each process."""
        self._config = config
        self._node = node
        self._nonce = nonce
        self._jitter = jitter
        self._networks = {rail.name: ipaddress.ip_network(rail.network) for rail in config.rails}
        self._others = {other.id: other for other in config.nodes if other.id != node.id}
        self._cluster = codec.cluster_id(config.name)
        own = Beacon(
            name=node.name,
            nonce=nonce,
            addresses={name: _spelled(address) for name, address in addresses.items()},
            port=node.port,
            udp_port=node.udp_port,
            datagram_port=node.datagram_port if config.traffic.datagrams else 0,
        )
        start = codec.frame_start(wire.Kind.BEACON, 0, self._cluster, 0, node.id, 0)
        self._frame = codec.seal_frame(start, encode_beacon(own))
        self._heard: dict[int, _Heard] = {}
        self._told: set[tuple[int, str]] = set()
        self._interval_ns = FIRST_NS
        self.next_ns = now_ns
        """When the next beacon is due."""
        self.found: list[PeerEndpoint] = []
        """Where nodes are, as far as that is new; whoever reads it takes it away."""
        self.refused: list[PeerRefused] = []
        """The same."""
        self.counters: Counter[str] = Counter()

    @property
    def silent(self) -> tuple[int, ...]:
        """Nodes without any known address: neither in the file nor heard."""
        return tuple(
            node
            for node, other in self._others.items()
            if not other.addresses and node not in self._heard
        )

    def due(self, now_ns: int) -> bytes | None:
        """The frame that goes to every rail's group now; None if it is not time yet."""
        if now_ns < self.next_ns:
            return None
        self.next_ns = now_ns + self._interval_ns
        self._interval_ns = min(2 * self._interval_ns, STEADY_NS)
        self.counters["sent"] += 1
        return self._frame

    def hear(self, rail: str, source: str, frame: bytes, now_ns: int) -> None:
        """What came to a rail's group, and from which address."""
        header = codec.decode_frame(frame, self._cluster)
        if isinstance(header, codec.FrameError):
            self.counters[f"refused_{header.name.lower()}"] += 1
            return
        beacon = None
        if header.kind == wire.Kind.BEACON:
            beacon = decode_beacon(frame, header.body_offset)
        if beacon is None:
            self.counters["malformed"] += 1
            return
        if header.sender == self._node.id and beacon.nonce == self._nonce:
            self.counters["own"] += 1
            return
        self.counters["heard"] += 1
        problem = self._problem(header.sender, beacon, rail, source, now_ns)
        if problem:
            self._refuse(header.sender, source, problem)
        else:
            self._take(header.sender, beacon, now_ns)

    def _problem(self, node: int, beacon: Beacon, rail: str, source: str, now_ns: int) -> str:
        """Why this beacon is refused; empty if it is not."""
        if node == self._node.id:
            return (
                f"another process, at {source} on rail {rail}, says that it is this node, "
                f"{beacon.name} ({node}); stop one of them, or give it an id of its own"
            )
        other = self._others.get(node)
        if other is None:
            return (
                f"node {beacon.name} ({node}) at {source} on rail {rail} is not in this node's "
                "cluster file; add it to all of them, or stop it"
            )
        if beacon.name != other.name:
            return (
                f"node {node} at {source} on rail {rail} calls itself {beacon.name}, and the "
                f"cluster file calls it {other.name}; correct one of the files"
            )
        return self._misplaced(other, beacon, rail, source) or self._doubled(node, beacon, now_ns)

    def _misplaced(self, other: NodeConfig, beacon: Beacon, rail: str, source: str) -> str:
        """What is wrong with its addresses."""
        who = f"node {other.name} ({other.id})"
        if beacon.addresses.get(rail) != source:
            return (
                f"{who} announces {beacon.addresses.get(rail, 'no address')} on rail {rail}, and "
                f"that came from {source}; no address may be translated on the way"
            )
        for name, text in beacon.addresses.items():
            given, network = other.addresses.get(name), self._networks.get(name)
            if given is not None and _spelled(given) != text:
                return (
                    f"{who} announces {text} on rail {name}, and the cluster file says {given}; "
                    "correct the file, or leave the address out"
                )
            if network is not None and (problem := self._outside(text, network)):
                return f"{who} announces {text!r} on rail {name}, {problem}"
        return ""

    def _outside(self, text: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return "and that is no address"
        if address not in network or str(address) != text:
            return f"and that is not on the rail's network, {network}; correct one of the files"
        if address.is_global and not self._config.allow_public:
            return "which is public; nothing is encrypted yet, so allow_public has to be true"
        return ""

    def _doubled(self, node: int, beacon: Beacon, now_ns: int) -> str:
        heard = self._heard.get(node)
        if heard is None or heard.nonce == beacon.nonce:
            return ""
        if _place(heard.beacon) == _place(beacon) or now_ns - heard.heard_ns >= SILENT_NS:
            return ""
        return (
            f"node {beacon.name} ({node}) is at {_listed(heard.beacon)}, and another process says "
            f"that it is at {_listed(beacon)}; stop one of them, or give it an id of its own "
            f"(if it has moved: it is found when {SILENT_NS // S} s have passed)"
        )

    def _refuse(self, node: int, source: str, problem: str) -> None:
        self.counters["refused"] += 1
        if (node, source) not in self._told and len(self._told) < TOLD_MAX:
            self._told.add((node, source))
            self.refused.append(PeerRefused(peer=node, reason=problem))

    def _take(self, node: int, beacon: Beacon, now_ns: int) -> None:
        heard = self._heard.get(node)
        self._heard[node] = _Heard(beacon.nonce, beacon, now_ns)
        if heard is not None and heard.nonce == beacon.nonce:
            return
        # It may not know this node yet.
        self._interval_ns = FIRST_NS
        self.next_ns = min(self.next_ns, now_ns + int(ANSWER_NS * self._jitter()))
        given = self._others[node].addresses
        known = {name: it for name, it in beacon.addresses.items() if name in self._networks}
        self.found.append(
            PeerEndpoint(
                node=node,
                addresses={**known, **given},
                port=beacon.port,
                udp_port=beacon.udp_port,
                datagram_port=beacon.datagram_port,
            )
        )


def _spelled(address: str) -> str:
    return str(ipaddress.ip_address(address))


def _place(beacon: Beacon) -> tuple[object, ...]:
    """A process that is started again is in the same place; two at once are not."""
    return beacon.addresses, beacon.port, beacon.udp_port, beacon.datagram_port


def _listed(beacon: Beacon) -> str:
    places = (f"{address} ({rail})" for rail, address in sorted(beacon.addresses.items()))
    return f"{', '.join(places)}, ports {beacon.port} and {beacon.udp_port}"
