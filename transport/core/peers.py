"""Associations and identity: which association leads to which incarnation of which node.

Identity comes from the HELLO on each new association, never from an address (PROTOCOL 3). The
lower id connects. A higher incarnation replaces at once and proves the older one dead; a second
association of the same incarnation replaces the older. Lifelines live here too: one TCP
connection per peer and rail whose orderly end proves that the process is gone.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from .. import wire
from ..config import Timing
from ..drivers.base import LinkLost, LinkUp, Stream
from ..events import Member, PeerRefused
from .framing import Framer
from .outputs import (
    Connect,
    ConnectLifeline,
    Disconnect,
    DropLifelines,
    Outputs,
    RecordLost,
    Transmit,
)
from .timers import Timer, TimerTable


class Verdict(enum.Enum):
    """What a HELLO means."""

    REFUSED = enum.auto()  # the association was ended
    NEW = enum.auto()  # another incarnation than before, or the first
    AGAIN = enum.auto()  # the same incarnation on a new association


@dataclass(frozen=True, slots=True)
class Lifeline:
    """The state of one lifeline: whose it is, and whether its orderly end was seen."""

    incarnation: int
    nonce: int
    ended: bool


@dataclass(slots=True)
class Peer:
    """Another configured node."""

    node: int
    link: int = 0
    """The association on which its HELLO was accepted; 0 for none."""
    dialling: int = 0
    connecting: bool = False
    incarnation: int = 0
    nonce: int = 0
    writable: bool = True
    backlog: list[Transmit] = field(default_factory=list[Transmit])
    backlog_bytes: int = 0
    lifelines: dict[str, Lifeline] = field(default_factory=dict[str, Lifeline])
    buried: bool = False
    """This incarnation is dead, and everything that led to it was given up."""
    failures: int = 0
    """Connect attempts in a row that led to nothing."""

    @property
    def member(self) -> Member:
        return Member(self.node, self.incarnation)


@dataclass(slots=True)
class _LinkInfo:
    peer: int
    accepted: bool
    up: bool = False
    said: int = 0
    """Who its HELLO says it is, also if that was refused."""


class Peers:
    """All other configured nodes, and every association there is."""

    def __init__(
        self,
        *,
        node: int,
        incarnation: int,
        hello: wire.Hello,
        key_hashes: dict[str, str],
        others: Iterable[int],
        rails: tuple[str, ...],
        lifeline_rails: frozenset[str],
        timing: Timing,
        framer: Framer,
        timers: TimerTable,
        outputs: Outputs,
        seen: dict[int, tuple[int, int]],
        jitter: Callable[[], float],
        sctp: bool = True,
    ) -> None:
        """Without `sctp` nobody is dialled: links over datagrams come by themselves."""
        self._node = node
        self._incarnation = incarnation
        self._hello = hello
        self._key_hashes = key_hashes
        self._rails = rails
        self._lifeline_rails = lifeline_rails
        self._timing = timing
        self._framer = framer
        self._timers = timers
        self._outputs = outputs
        self._jitter = jitter
        self._sctp = sctp
        self._refusals: set[tuple[int, str]] = set()
        self._links: dict[int, _LinkInfo] = {}
        self.seen = seen
        """Highest incarnation of each node ever seen, and its nonce; part of the record."""
        self.dead: set[Member] = set()
        """Incarnations proven dead or stepped down."""
        self.stopped = False
        """Nobody is dialled any more: this node has left."""
        self.peers = {other: Peer(other) for other in sorted(others)}

    # ------------------------------------------------------------------------- associations

    def start(self) -> None:
        """Dial every node with a higher id."""
        for peer in self.peers.values():
            self._dial(peer)

    def _dial(self, peer: Peer) -> None:
        """Also one that is reached by datagrams meanwhile: SCTP takes over when it can."""
        busy = peer.connecting or peer.link > 0 or self.stopped or not self._sctp
        if peer.node > self._node and not busy:
            peer.connecting = True
            self._outputs.commands.append(Connect(peer=peer.node))

    def dialled(self, node: int, link: int) -> None:
        """The driver's number for the association that `Connect` asked for."""
        self.peers[node].dialling = link
        self._links[link] = _LinkInfo(node, accepted=False)

    def linked(self, node: int, link: int, *, accepted: bool) -> None:
        """A link over datagrams to a node is about to be up."""
        self._links[link] = _LinkInfo(node, accepted=accepted)

    def link_up(self, notice: LinkUp, now_ns: int) -> None:
        """An association is there: say who we are, and wait for the same."""
        info = self._links.setdefault(notice.link, _LinkInfo(0, accepted=True))
        info.up = True
        self._timers.arm(Timer.HELLO, notice.link, now_ns + 4 * self._timing.phase_timeout_ns)
        # An accepted association is from anybody: what we remember of it goes with our answer.
        if not info.accepted:
            self._send_hello(notice.link, info.peer)

    def _send_hello(self, link: int, node: int) -> None:
        values = {name: getattr(self._hello, name) for name in self._hello.__struct_fields__}
        values["seen"] = self.seen.get(node, (0, 0))
        frame = self._framer.hello(wire.Hello(**values))
        self._outputs.transmits.append(Transmit(link, Stream.CONTROL, frame))

    def link_lost(self, notice: LinkLost, now_ns: int) -> int:
        """An association is gone; returns the node that has none now, or 0."""
        info = self._links.pop(notice.link, None)
        self._timers.stop(Timer.HELLO, notice.link)
        if info is None or not info.peer:
            return 0
        peer = self.peers[info.peer]
        if notice.link == peer.dialling:
            peer.dialling = 0
            peer.connecting = False
            if notice.link != peer.link:
                peer.failures += 1
        if notice.link == peer.link:
            self._unlink(peer)
            if notice.link > 0:
                self._retry(peer, now_ns)
            return peer.node
        if peer.link <= 0 < notice.link:
            self._retry(peer, now_ns)
        return 0

    def _unlink(self, peer: Peer) -> None:
        peer.link = 0
        peer.writable = True
        peer.backlog.clear()
        peer.backlog_bytes = 0

    def _retry(self, peer: Peer, now_ns: int) -> None:
        if peer.node < self._node:
            return
        timing = self._timing
        delay = min(timing.reconnect_min_ns << min(peer.failures, 16), timing.reconnect_max_ns)
        if not peer.failures:
            delay = 0
        # Nodes that lost each other at the same moment should not dial in step for ever.
        delay = int(delay * (0.75 + self._jitter() / 2))
        self._timers.arm(Timer.RECONNECT, peer.node, now_ns + delay)

    def reconnect(self, node: int) -> None:
        """The back-off is over."""
        self._dial(self.peers[node])

    def hello_overdue(self, link: int) -> None:
        """Nobody said who is there: end it."""
        if link in self._links:
            self._outputs.counters["hello_overdue"] += 1
            self._outputs.commands.append(Disconnect(link=link, abort=True))

    def node_of(self, link: int) -> int:
        """The node at the other end, once its HELLO was accepted and while it is current."""
        info = self._links.get(link)
        if info is None or not info.peer:
            return 0
        return info.peer if self.peers[info.peer].link == link else 0

    def links(self) -> list[int]:
        """Every association there is, with or without a HELLO."""
        return sorted(self._links)

    def drop(self, node: int, *, abort: bool = True) -> None:
        """End the association to a node; the loss is reported as for any other."""
        peer = self.peers[node]
        if peer.link:
            self._outputs.commands.append(Disconnect(link=peer.link, abort=abort))

    # ------------------------------------------------------------------------------ identity

    def hello(self, link: int, hello: wire.Hello, now_ns: int) -> tuple[Verdict, int]:
        """A peer says who it is; returns what that means and the node."""
        info = self._links.get(link)
        refusal = "unknown association" if info is None else self._refusal(info, hello)
        if info is not None and info.accepted and hello.node in self.peers:
            # Also to one that is refused: it may have to learn that its record is lost.
            self._send_hello(link, hello.node)
            info.said = hello.node
        if info is None or refusal:
            self._refuse(link, hello, refusal)
            return Verdict.REFUSED, 0
        if not info.peer:
            info.peer = hello.node
        peer = self.peers[hello.node]
        self._timers.stop(Timer.HELLO, link)
        if link > 0:
            self._timers.stop(Timer.RECONNECT, peer.node)
            peer.failures = 0
        new = hello.incarnation != peer.incarnation
        if new and peer.incarnation:
            self.dead.add(peer.member)
        if peer.link and peer.link != link:
            self._outputs.commands.append(Disconnect(link=peer.link, abort=True))
            self._unlink(peer)
        peer.link = link
        peer.incarnation = hello.incarnation
        peer.nonce = hello.nonce
        peer.buried = False
        self.seen[peer.node] = (hello.incarnation, hello.nonce)
        remembered, nonce = hello.seen
        if remembered > self._incarnation or (
            remembered == self._incarnation and nonce != self._hello.nonce
        ):
            self._outputs.stream.append(RecordLost(peer=peer.node, seen=remembered))
        self._open_lifelines(peer, now_ns)
        return (Verdict.NEW if new else Verdict.AGAIN), peer.node

    def _refusal(self, info: _LinkInfo, hello: wire.Hello) -> str:
        if hello.node not in self.peers:
            return f"node {hello.node} is not configured here"
        if info.peer and info.peer != hello.node:
            return f"node {hello.node} answered where node {info.peer} was dialled"
        if hello.cluster != self._hello.cluster:
            return f"it belongs to cluster {hello.cluster!r}"
        if hello.version < self._hello.version_oldest or hello.version_oldest > self._hello.version:
            return f"it speaks wire versions {hello.version_oldest} to {hello.version}"
        if hello.config_hash != self._hello.config_hash:
            return "its configuration differs"
        seen, nonce = self.seen.get(hello.node, (0, 0))
        if hello.incarnation < seen:
            return f"incarnation {hello.incarnation} is over, a later one was seen"
        if hello.incarnation == seen and hello.nonce != nonce:
            return f"another start was incarnation {seen}: its record is lost or an old copy"
        if Member(hello.node, hello.incarnation) in self.dead:
            return f"incarnation {hello.incarnation} has ended"
        return ""

    def _refuse(self, link: int, hello: wire.Hello, refusal: str) -> None:
        self._outputs.counters["hello_refused"] += 1
        self.say_refused(hello.node, refusal)
        # Not to another start that has taken the number again: what it has to hear is in our HELLO.
        same = self.seen.get(hello.node) == (hello.incarnation, hello.nonce)
        ended = same and Member(hello.node, hello.incarnation) in self.dead
        refuse = wire.Refuse(
            reason=refusal, key_hashes=self._key_hashes, over=hello.incarnation if ended else 0
        )
        frame = self._framer.message(refuse)
        self._outputs.transmits.append(Transmit(link, Stream.CONTROL, frame))
        self._outputs.commands.append(Disconnect(link=link, abort=False))

    def refused_by(self, node: int, refuse: wire.Refuse) -> None:
        """A peer turned us away, and says why."""
        keys = sorted(
            key
            for key in self._key_hashes.keys() | refuse.key_hashes.keys()
            if self._key_hashes.get(key) != refuse.key_hashes.get(key)
        )
        # Before its HELLO is accepted an association that came in may be anybody's.
        who = "it" if node else "a caller that did not say who it is"
        reason = f"{who} refused us: {refuse.reason}"
        if keys:
            reason += f" ({', '.join(keys)})"
        if node in self.peers:
            self.peers[node].failures += 1
        self.say_refused(node, reason)

    def peer_of_link(self, link: int) -> int:
        """The node that was dialled or has said HELLO on a link, current or not; 0 if unknown."""
        info = self._links.get(link)
        return (info.peer or info.said) if info else 0

    def say_refused(self, node: int, reason: str) -> None:
        """Tell the application once per peer and reason."""
        if (node, reason) not in self._refusals and len(self._refusals) < 1000:
            self._refusals.add((node, reason))
            self._outputs.stream.append(PeerRefused(peer=node, reason=reason))

    # ----------------------------------------------------------------------------- lifelines

    def _open_lifelines(self, peer: Peer, now_ns: int) -> None:
        for rail in self._rails:
            if rail in self._lifeline_rails and peer.node > self._node:
                line = peer.lifelines.get(rail)
                if line is None or line.ended or line.incarnation != peer.incarnation:
                    self._timers.arm_earlier(Timer.LIFELINE, f"{peer.node}/{rail}", now_ns)

    def lifeline_due(self, subject: str, now_ns: int) -> None:
        """Try to open a lifeline that is not there, and look again later."""
        name, _, rail = subject.partition("/")
        peer = self.peers[int(name)]
        line = peer.lifelines.get(rail)
        if not peer.link or (
            line is not None and not line.ended and line.incarnation == peer.incarnation
        ):
            return
        self._outputs.commands.append(ConnectLifeline(peer=peer.node, rail=rail))
        again = now_ns + 4 * self._timing.reconnect_min_ns
        self._timers.arm(Timer.LIFELINE, subject, again)

    def lifeline_up(self, node: int, rail: str, incarnation: int, nonce: int) -> None:
        """A lifeline said whose it is."""
        if node in self.peers:
            self.peers[node].lifelines[rail] = Lifeline(incarnation, nonce, ended=False)

    def lifeline_ended(
        self, node: int, rail: str, incarnation: int, nonce: int, *, fin: bool, now_ns: int
    ) -> None:
        """A lifeline is gone: by an orderly end of file, or in a way that proves nothing."""
        peer = self.peers.get(node)
        if peer is None:
            return
        line = peer.lifelines.get(rail)
        if line is None or (line.incarnation, line.nonce) != (incarnation, nonce):
            return
        if fin:
            peer.lifelines[rail] = Lifeline(incarnation, nonce, ended=True)
        else:
            del peer.lifelines[rail]
            if peer.node > self._node and rail in self._lifeline_rails:
                again = now_ns + self._timing.reconnect_min_ns
                self._timers.arm(Timer.LIFELINE, f"{node}/{rail}", again)

    def proven_dead(self, node: int, rails_up: Iterable[str]) -> bool:
        """Whether every lifeline on a rail that is up has ended in good order (PROTOCOL 3c)."""
        peer = self.peers[node]
        mine = {
            rail: line
            for rail, line in peer.lifelines.items()
            if (line.incarnation, line.nonce) == (peer.incarnation, peer.nonce)
        }
        up = set(rails_up)
        return any(line.ended for line in mine.values()) and all(
            line.ended for rail, line in mine.items() if rail in up
        )

    def forget_the_dead(self, *, but: Collection[Member]) -> None:
        """Keep in mind who died of `but`, and the last start of each node: it may knock again."""
        self.dead = {
            member
            for member in self.dead
            if member in but or self.seen.get(member.node, (0, 0))[0] == member.incarnation
        }

    def bury(self, node: int) -> None:
        """The current incarnation is proven dead: forget its association and lifelines."""
        peer = self.peers[node]
        self.dead.add(peer.member)
        peer.buried = True
        self.drop(node)
        self._outputs.commands.append(DropLifelines(peer=node))
        peer.lifelines.clear()
