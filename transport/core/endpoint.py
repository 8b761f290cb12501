"""The composition root of the core: routes inputs to the parts and gathers what they put out.

Its own rules are those of the end of a turn, where parts meet: who is buried as dead, when the
loss of the lease is told, when leaving is complete. The form is that of aioquic and quinn-proto:
inputs are verbs with the time, outputs wait until they are taken, and there is one next deadline.
An endpoint is one incarnation of one node; a node that comes back is a new endpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..._native import codec
from .. import wire
from ..drivers.base import (
    Incomplete,
    LinkLost,
    LinkUp,
    Notice,
    PathNotice,
    Received,
    Writable,
)
from ..events import Lane, Member, View, ViewId
from ..wire import NO_VIEW
from ..wire_data import Meeting
from . import kinds
from .beside import receive_beside
from .lease_watch import LeaseWatch
from .outputs import Disconnect, Transmit
from .overtaking import resync
from .parts import Start, assemble
from .peers import Verdict
from .rolls import receive_bundle, receive_roll
from .slow_watch import SlowWatch
from .stepping_down import part_if_alone, step_down_if_due
from .timers import Timer

_decode_frame: Final[Callable[[bytes, int], codec.Frame | codec.FrameError]] = codec.decode_frame


class Endpoint:
    """One node's protocol, without sockets and without a clock."""

    def __init__(self, start: Start) -> None:
        parts = assemble(start)
        timing = start.config.timing
        self.node = start.node
        self.me = parts.standing.me
        self.timers = parts.timers
        self.outputs = parts.outputs
        self.framer = parts.framer
        self.peers = parts.peers
        self.paths = parts.paths
        self.heartbeats = parts.heartbeats
        self.casting = parts.casting
        self.leases = parts.leases
        self.delivery = parts.delivery
        self.flush = parts.flush
        self.acceptor = parts.acceptor
        self.standing = parts.standing
        self.gather = parts.gather
        self.membership = parts.membership
        self.state = parts.state
        self.stalls = parts.stalls
        self.links = parts.links
        self.fallback = parts.fallback
        self._timing = timing
        self._heartbeat_ns = timing.heartbeat_ns
        self._backlog_bytes_max = start.config.limits.link_backlog_bytes
        self.stalled_from_ns = start.now_ns + self._heartbeat_ns  # later, it did not run
        self._lease = LeaseWatch(
            node=start.node,
            standing=parts.standing,
            leases=parts.leases,
            paths=parts.paths,
            peers=parts.peers,
            timing=timing,
            timers=parts.timers,
            outputs=parts.outputs,
            now_ns=start.now_ns,
        )
        self._slow = SlowWatch(parts, evict_ns=start.config.traffic.evict_slow_ns)
        self.leave_by_ns: int | None = None
        self._rails_of_link: dict[int, tuple[str, ...]] = {}
        self.changed = True  # what the membership looks at
        votes_in_ns = self.acceptor.votes_in_ns(start.now_ns)
        if votes_in_ns > 0:
            self.timers.arm(Timer.VOTE, "", start.now_ns + votes_in_ns)

    # -------------------------------------------------------------------------------- inputs

    def start(self, now_ns: int) -> None:
        """Dial the peers and begin to send heartbeats."""
        self.peers.start()
        self.fallback.start(now_ns)
        self.timers.arm(Timer.PROBE, "", now_ns)
        self.settle(now_ns)

    def receive(self, received: Received, now_ns: int) -> None:
        """A whole frame; whatever is in it, nothing is raised."""
        if self.standing.evicted or self.standing.left:
            return  # nothing follows in this incarnation
        link, _, frame = received
        header = _decode_frame(frame, self.framer.cluster)
        if isinstance(header, codec.FrameError):
            self.outputs.counters[f"frame_{header.name.lower()}"] += 1
            return
        kind, node = header.kind, self.peers.node_of(link)
        if kind == kinds.HELLO:
            self._hello(link, frame, header.body_offset, now_ns)
        elif not node:
            self._from_nobody(link, kind, frame, header.body_offset)
        elif header.sender != node or header.incarnation != self.peers.peers[node].incarnation:
            self.outputs.counters["frame_of_other_node"] += 1
        elif header.addressee not in (0, self.node):
            self.outputs.counters["frame_for_other_node"] += 1
        elif kind == kinds.DATA:
            self.delivery.receive(node, frame, header.body_offset, now_ns)
            self.changed |= self.delivery.closed
        elif kind == kinds.BUNDLE:
            receive_bundle(self.delivery, node, frame, header.body_offset, now_ns)
            self.changed |= self.delivery.closed
        elif kind == kinds.ROLL:
            receive_roll(self.delivery, node, frame, header.body_offset, now_ns)
            self.changed |= self.delivery.closed
        elif kind == kinds.PROBE:
            self.changed |= self.heartbeats.receive(node, "", frame, header.body_offset, now_ns)
        elif kind == kinds.CONTROL:
            self._control(node, frame, header.body_offset, now_ns)
        elif kind == kinds.REPORT:
            self.casting.fan_out.receive_report(node, frame, header.body_offset, now_ns)
        else:
            self.outputs.counters["frame_of_unknown_kind"] += 1

    def receive_datagram(
        self, node: int, rail: str, frame: bytes, now_ns: int, session: int = 0, number: int = 0
    ) -> None:
        """A frame beside the association, from the address of a node on a rail."""
        receive_beside(self, (node, rail, frame, session, number), now_ns)

    def repairs(self, now_ns: int) -> bool:
        """Whether it is of interest which numbered datagrams have come partly (`look`)."""
        return self.links.acks(now_ns) or self.casting.fan_out.asks(now_ns)

    def look(self, incomplete: list[Incomplete], overruns: int) -> None:
        """What has come partly, and how many datagrams there was no room for."""
        self.links.incomplete = incomplete
        self.casting.fan_out.look(incomplete, overruns)

    def notice(self, notice: Notice, now_ns: int) -> None:
        """What a driver says of an association or a path."""
        match notice:
            case LinkUp():
                self._rails_of_link[notice.link] = notice.rails
                if notice.link < 0:
                    node = self.links.peer(notice.link)
                    self.peers.linked(node, notice.link, accepted=notice.accepted)
                self.peers.link_up(notice, now_ns)
            case LinkLost():
                self._rails_of_link.pop(notice.link, None)
                node = self.peers.link_lost(notice, now_ns)
                if node:
                    self.fallback.lost(node, notice, now_ns)
                    self.delivery.unlink(node)
                    self.changed = True
                part_if_alone(self)
            case PathNotice():
                node = self.peers.node_of(notice.link)
                if node:
                    self.paths.notice(node, notice)
            case Writable():
                node = self.peers.node_of(notice.link)
                if node:
                    self._writable(node)

    def dialled(self, node: int, link: int) -> None:
        """The driver's answer to `Connect`."""
        self.peers.dialled(node, link)

    def waits(self, transmit: Transmit) -> bool:
        """Whether a frame stands behind others, which it must not overtake if there is room again.

        Heartbeats on a rail are not sent in any order.
        """
        node = self.peers.node_of(transmit.link) if transmit.rail is None else 0
        return node != 0 and not self.peers.peers[node].writable

    def refused(self, transmit: Transmit) -> None:
        """A frame found no room in its association: it goes first when there is room."""
        node = self.peers.node_of(transmit.link)
        if not node:
            return
        peer = self.peers.peers[node]
        peer.writable = False
        peer.backlog.append(transmit)
        peer.backlog_bytes += len(transmit.frame)
        if peer.backlog_bytes > self._backlog_bytes_max:
            # It cannot even take what control needs: begin anew where it says it is.
            self.outputs.counters["backlog_resets"] += 1
            self.peers.drop(node)

    def lifeline_up(self, node: int, rail: str, incarnation: int, nonce: int) -> None:
        """A lifeline is there and has said whose it is."""
        self.peers.lifeline_up(node, rail, incarnation, nonce)

    def lifeline_ended(
        self, node: int, rail: str, incarnation: int, nonce: int, *, fin: bool, now_ns: int
    ) -> None:
        """A lifeline is gone."""
        self.peers.lifeline_ended(node, rail, incarnation, nonce, fin=fin, now_ns=now_ns)
        self.changed = True

    def persisted(self, token: int) -> None:
        """The record is durable up to this token."""
        self.acceptor.persisted(token)
        self.changed = True

    def persist_failed(self) -> None:
        """The record cannot be written."""
        self.acceptor.persist_failed()
        self.changed = True

    def wake(self, now_ns: int) -> None:
        """Handle what is due; early and repeated calls are harmless."""
        if now_ns > self.stalled_from_ns:
            lag = now_ns - self.stalled_from_ns + self._heartbeat_ns
            self.outputs.counters["stalls"] += 1
            self.paths.excuse(lag, now_ns)
            self.delivery.ordered.slowness.excuse(lag, now_ns)
            self._lease.excused_until_ns = now_ns + self._timing.suspect_ns
        for timer, subject in self.timers.expire(now_ns):
            self._fire(timer, subject, now_ns)
        self.settle(now_ns)

    # ------------------------------------------------------------------------------ commands

    def submit(
        self, addressee: int, lane: Lane, channel: bytes, payload: bytes, *, safe: bool = False
    ) -> int:
        """Queue a message for one member, or for all (0); 0 if there is no room.

        On the ordered lane all are addressed, and `safe` asks for `Stable`.
        """
        return self.delivery.submit(addressee, lane, channel, payload, safe=safe)

    def submit_entry(
        self, channel: bytes, payload: bytes, *, safe: bool, meeting: Meeting | None
    ) -> None:
        """Queue an entry of a layer on the ordered lane, before all that waits there."""
        self.delivery.submit_entry(channel, payload, safe=safe, meeting=meeting)

    def leave(self, deadline_ns: int, now_ns: int) -> None:
        """Step down in good order, at the latest at the deadline."""
        self.standing.leaving = True
        self.leave_by_ns = deadline_ns
        self.timers.arm(Timer.LEAVE, "", deadline_ns)
        self.settle(now_ns)

    def freeze(self, lane: Lane, *, frozen: bool, now_ns: int) -> None:
        """The application's queue of a lane is full, or has room again."""
        self.delivery.freeze(lane, frozen=frozen, now_ns=now_ns)

    def state_wanted(self, view_id: ViewId) -> bool:
        """Whether others still need the application's state as of this view."""
        return self.state.wanted(view_id)

    def give_state(self, view_id: ViewId, state: bytes) -> None:
        """The answer to `StateWanted`."""
        self.state.give(view_id, state)

    def synced(self, view_id: ViewId) -> None:
        """The application has taken in what `StateArrived` brought for this view."""
        self.changed |= self.state.synced(view_id)

    @property
    def detached(self) -> bool:
        """No lease of the installed view for a whole lease: sends and barriers raise `NoQuorum`."""
        return self._lease.detached

    def acting(self, now_ns: int) -> bool:
        """Whether this node may act now (PROTOCOL 3)."""
        return (
            self.standing.view is not None
            and not self.standing.closed_for
            and not self.standing.evicted
            and not self.standing.left
            and self.leases.acting(now_ns)
        )

    @property
    def gathering(self) -> bool:
        """Whether others are about to say what this node passes on to all."""
        return self.delivery.ordered.gathering

    def next_deadline(self) -> int | None:
        """When `wake` is wanted."""
        return self.timers.next_deadline()

    def expect_wake(self, at_ns: int) -> None:
        """The pump will wake the core then: coming much later means that it did not run."""
        self.stalled_from_ns = at_ns + self._heartbeat_ns

    @property
    def view(self) -> View | None:
        """The installed view."""
        return self.standing.view

    # ------------------------------------------------------------------------------- routing

    def _hello(self, link: int, frame: bytes, offset: int, now_ns: int) -> None:
        hello = wire.decode_hello(memoryview(frame)[offset:])
        if hello is None:
            self.outputs.counters["malformed_hello"] += 1
            return
        verdict, node = self.peers.hello(link, hello, now_ns)
        if verdict is Verdict.REFUSED:
            return
        if verdict is Verdict.NEW:
            self.gather.forget(node)
            self.acceptor.remember(self.peers.seen)
        self.fallback.linked(node, link)
        self.paths.linked(node, self._rails_of_link.get(link, ()), now_ns)
        self.delivery.linked(node)
        self.state.linked(node, now_ns)
        self.gather.tell_to(node, now_ns)
        self.membership.linked(node)
        self.paths.probe(node, self._view_id(), now_ns)
        self.changed = True

    def _from_nobody(self, link: int, kind: int, frame: bytes, offset: int) -> None:
        """Before its HELLO is accepted a peer may only say why it turns us away."""
        if kind == kinds.CONTROL:
            message = wire.decode_control(memoryview(frame)[offset:])
            if isinstance(message, wire.Refuse):
                self._refused_by(self.peers.peer_of_link(link), message)
                self.outputs.commands.append(Disconnect(link=link, abort=True))
                return
        self.outputs.counters["frame_before_hello"] += 1

    def _refused_by(self, node: int, refuse: wire.Refuse) -> None:
        self.peers.refused_by(node, refuse)
        if node in self.peers.peers and refuse.over == self.me.incarnation:
            # Something proved our death falsely. Others go on as if it were true, so must we.
            self.membership.end_incarnation()

    def _control(self, node: int, frame: bytes, offset: int, now_ns: int) -> None:
        message = wire.decode_control(memoryview(frame)[offset:])
        match message:
            case None:
                self.outputs.counters["malformed_control"] += 1
            case wire.Ack():
                fresh = node not in self.delivery.carrying.synced
                self.delivery.acknowledged(node, message, now_ns)
                if fresh and node in self.delivery.carrying.synced:
                    # It has installed our view: now it can grant.
                    self.paths.probe(node, self._view_id(), now_ns)
                if message.resync:
                    self.outputs.counters["resyncs"] += 1
            case wire.End():
                self.delivery.end(node, message, now_ns)
            case wire.Fetch():
                self.flush.serve(node, message)
            case wire.Row():
                self.membership.row_received(node, message, now_ns)
                self.changed = True
            case wire.Farewell():
                self.gather.stepped_down(Member(node, message.incarnation))
                self.changed = True
            case wire.Refuse():
                self._refused_by(node, message)
            case wire.StateAsk():
                self.state.asked(node, message)
            case wire.StatePart():
                self.state.received(node, message, now_ns)
            case _:
                self.membership.receive(node, message, now_ns)
                self.changed = True

    def _fire(self, timer: Timer, subject: int | str, now_ns: int) -> None:
        match timer:
            case Timer.PROBE:
                self.heartbeats.ask(now_ns)
                self.casting.choose(now_ns)
                self.fallback.check(now_ns)
            case Timer.LIVENESS:
                self.paths.judge(now_ns)
                self.changed = True
            case Timer.RECONNECT:
                self.peers.reconnect(int(subject))
            case Timer.HELLO:
                self.peers.hello_overdue(int(subject))
            case Timer.LIFELINE:
                self.peers.lifeline_due(str(subject), now_ns)
            case Timer.ACK:
                self.delivery.send_acks(now_ns)
            case Timer.RECAST:
                if not self.delivery.closed:
                    self.delivery.settle_order(now=True)
                    self.delivery.carrying.recast(now_ns)
            case Timer.LINK:
                self.links.due(int(subject), now_ns)
            case Timer.REPAIR:
                self.casting.fan_out.due(now_ns)
            case Timer.LAZY:
                self.delivery.lazy_over(now_ns)
            case Timer.STABLE:
                self.delivery.ask_who_holds()
            case Timer.ROW:
                self.acceptor.try_again()
                self.gather.tell(now_ns)
            case Timer.PHASE:
                self.membership.phase_timeout(now_ns)
                self.changed = True
            case Timer.STALL:
                self.stalls.check(self._view_id(), now_ns)
                self.delivery.carrying.pushed = True  # what it looked at may still stand there
            case Timer.STATE:
                self.state.due(now_ns)
            case Timer.RESYNC:
                resync(self.delivery, int(subject), now_ns)
            case Timer.HOLD_DOWN | Timer.GRANTS | Timer.VOTE:
                self.changed = True
            case Timer.LEASE | Timer.LEAVE | Timer.SLOW:
                pass  # looked at in every turn; the timer only makes sure that there is one

    # ------------------------------------------------------------------------- ends of turns

    def settle(self, now_ns: int) -> None:
        """After a batch of inputs: look at the membership, number, and hand over."""
        if self.links.inputs:
            self._take_links(now_ns)
        if self.standing.evicted or self.standing.left:
            return
        if self._slow.judge(now_ns) or self.changed:
            self.changed = False
            self._bury_the_dead()
            self.membership.work(now_ns)
            self.membership.evaluate(now_ns)
        self.heartbeats.send()  # by what was just decided: who is to be left out is granted nothing
        acting = self.acting(now_ns)
        self._lease.watch(acting=acting, now_ns=now_ns)
        self.delivery.flush(now_ns, may_number=acting)
        if self.delivery.carrying.pushed and not self.timers.armed(Timer.STALL):
            self.delivery.carrying.pushed = False
            if self.stalls.outstanding():
                self.timers.arm(Timer.STALL, "", now_ns + self.stalls.wait_ns())
        self.delivery.due(now_ns)
        self.casting.fan_out.settle(now_ns)
        if self.standing.leaving:
            step_down_if_due(self, now_ns)

    def _take_links(self, now_ns: int) -> None:
        """What has come of the links over datagrams, as if a driver had given it."""
        inputs, self.links.inputs = self.links.inputs, []
        for item in inputs:
            if isinstance(item, Received):
                self.receive(item, now_ns)
            else:
                self.notice(item, now_ns)

    def _bury_the_dead(self) -> None:
        for node, peer in self.peers.peers.items():
            if not peer.incarnation or peer.buried:
                continue
            proven = self.peers.proven_dead(node, self.paths.rails_up(node))
            if proven or peer.member in self.peers.dead:
                # Its lifelines ended here, it said farewell, or another member knows it.
                self.outputs.counters["proven_dead"] += proven
                self.peers.bury(node)
                self.paths.forget(node)
                self.leases.forget_given(node)
                self.gather.forget(node)

    def _writable(self, node: int) -> None:
        peer = self.peers.peers[node]
        peer.writable = self.delivery.carrying.to_push = True
        backlog, peer.backlog = peer.backlog, []
        peer.backlog_bytes = 0
        self.outputs.transmits[:0] = backlog

    def _view_id(self) -> ViewId:
        view = self.standing.view
        return view.id if view is not None else NO_VIEW
