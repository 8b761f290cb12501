"""Who is a member: views as a log decided by Paxos (PROTOCOL 2).

Gather (rows of reachability, the largest mutual clique, a hold-down), close (promises), choose,
hold (everybody fetches what it lacks of the cut), accept, install. The proposer is the lowest
continuing member of that clique. Every phase is aborted by a further suspicion, a higher ballot
or its time-out; the closure of the old view and the durable record are no part of an attempt
and stay. This module decides; `Acceptor` writes, `Flush` fetches and delivers.

It departs from plain Paxos in one place: an acceptor says ACCEPTED only when its own grants to
members that the value leaves out have run out, unless they are proven dead.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from .. import wire
from ..config import ClusterConfig
from ..drivers.base import Stream
from ..events import Evicted, Member, View, ViewId, ViewInstalled
from ..wire import NO_BALLOT, NO_VIEW, Ballot, Row, ViewValue
from . import proposal
from .acceptor import Acceptor, Reply
from .delivery import Delivery
from .flush import Flush
from .framing import Framer
from .leases import Leases, Quorum
from .outputs import Outputs, Transmit
from .paths import Paths
from .peers import Peers
from .reach import largest_clique, mutual_edges
from .timers import Timer, TimerTable


class Phase(enum.Enum):
    """Where a proposer's attempt stands."""

    PREPARE = enum.auto()
    HOLD = enum.auto()
    ACCEPT = enum.auto()


@dataclass(slots=True)
class Attempt:
    """One ballot of ours for one instance; it can be thrown away at any moment."""

    k: int
    ballot: Ballot
    members: frozenset[Member]
    phase: Phase = Phase.PREPARE
    promises: dict[int, wire.Promise] = field(default_factory=dict[int, wire.Promise])
    value: ViewValue | None = None
    awaiting: set[int] = field(default_factory=set[int])
    """Members whose HELD is awaited."""
    accepted: set[int] = field(default_factory=set[int])


class Membership:
    """One node's part in the log of views: acceptor, learner and, at times, proposer."""

    def __init__(
        self,
        *,
        config: ClusterConfig,
        me: Member,
        acceptor: Acceptor,
        delivery: Delivery,
        flush: Flush,
        framer: Framer,
        leases: Leases,
        quorum: Quorum,
        paths: Paths,
        peers: Peers,
        timers: TimerTable,
        outputs: Outputs,
        jitter: Callable[[], float],
    ) -> None:
        self.me = me
        self._configured = frozenset(node.id for node in config.nodes)
        self._votes = {node.id: node.votes for node in config.nodes}
        self._names = {node.id: node.name for node in config.nodes}
        self._timing = config.timing
        self._acceptor = acceptor
        self._delivery = delivery
        self._flush = flush
        self._framer = framer
        self._leases = leases
        self._quorum = quorum
        self._paths = paths
        self._peers = peers
        self._timers = timers
        self._outputs = outputs
        self._jitter = jitter
        self.view: View | None = None
        """The view that this incarnation has installed."""
        self.closed_for = 0
        """The instance for which the view was closed; 0 while it is open."""
        self.evicted = False
        self.leaving = False
        self.left = False
        self.rows: dict[int, Row] = {}
        self._row_came_ns: dict[int, int] = {}
        self._row: Row | None = None
        self._attempt: Attempt | None = None
        self._target: frozenset[Member] = frozenset()
        self._target_since_ns = 0
        self._highest: Ballot = NO_BALLOT
        self._promised_ballot: Ballot = NO_BALLOT
        """The highest ballot promised for the next instance, with or without a vote."""
        self._not_before_ns = 0
        self._failures = 0
        self._stopped: frozenset[int] = frozenset()
        self._holding: tuple[int, int, Ballot] | None = None
        """(proposer, k, ballot) of the HOLD that is being worked on."""
        self._inbox: list[tuple[int, wire.Control]] = []

    # ------------------------------------------------------------------------------- queries

    @property
    def decided(self) -> ViewValue | None:
        return self._acceptor.decided

    @property
    def _k(self) -> int:
        return self.decided.k if self.decided is not None else 0

    def current_members(self) -> frozenset[Member]:
        """The members of the highest decided view known here."""
        return frozenset(self.decided.members) if self.decided is not None else frozenset()

    def may_grant(self, node: int, view_id: ViewId) -> bool:
        """Whether a heartbeat of `node` sent in `view_id` is answered with a grant."""
        return (
            self.view is not None
            and self.view.id == view_id
            and not self.closed_for
            and not self.left
            and node not in self._stopped
            and self._peers.peers[node].member in self.view.incarnations
        )

    def explain(self) -> str:
        """What this node waits for, in words."""
        present = {member.node for member in self._target}
        absent = sorted(self._configured - present)
        names = ", ".join(f"{self._names[node]} ({node})" for node in absent)
        if self.decided is None:
            return f"first start waits for every configured node; not reached: {names or 'none'}"
        if not self._quorum.reached(present):
            return f"no majority of votes; not reached: {names}"
        return f"a view change is under way; not reached: {names or 'none'}"

    # -------------------------------------------------------------------------- surroundings

    def row_received(self, node: int, row: Row, now_ns: int) -> None:
        """A peer says what it knows of its surroundings."""
        if row.incarnation != self._peers.peers[node].incarnation:
            return
        self.rows[node] = row
        self._row_came_ns[node] = now_ns
        self._highest = max(self._highest, row.ballot)
        self._peers.dead.update(member for member in row.dead if member != self.me)
        if self.decided is not None and row.decided < self.decided.id:
            self._send(node, wire.Install(value=self.decided))

    def forget_row(self, node: int) -> None:
        """The peer is another incarnation now, or proven dead."""
        self.rows.pop(node, None)
        self._row_came_ns.pop(node, None)

    def stepped_down(self, node: int, farewell: wire.Farewell) -> None:
        """A peer has left in good order: as good a proof as a death."""
        self._peers.dead.add(Member(node, farewell.incarnation))
        self._leases.forget_given(node)

    def _make_row(self, now_ns: int) -> Row:
        reach = [self.me]
        for node, peer in self._peers.peers.items():
            if peer.incarnation and peer.member not in self._peers.dead:
                if self._paths.reachable(node, now_ns):
                    reach.append(peer.member)
        members = self.current_members()
        stopped = sorted(self._stopped)
        return Row(
            incarnation=self.me.incarnation,
            reach=tuple(sorted(reach)),
            dead=tuple(sorted(self._peers.dead & members)),
            decided=self.decided.id if self.decided is not None else NO_VIEW,
            installed=self.view is not None
            and self.decided is not None
            and self.view.id == self.decided.id,
            synced=self.view is not None,
            leaving=self.leaving,
            votes_in_ns=self._acceptor.votes_in_ns(now_ns),
            closed=self.closed_for,
            ballot=self._highest,
            grants={node: self._leases.given_left_ns(node, now_ns) for node in stopped},
        )

    def tell_row(self, now_ns: int, *, always: bool) -> None:
        """Send the own row to every peer if it has changed, or `always`."""
        row = self._make_row(now_ns)
        old = self._row
        same = old is not None and _without_clocks(row) == _without_clocks(old)
        self._row = row
        if same and not always:
            return
        frame = self._framer.message(row)
        for peer in self._peers.peers.values():
            if peer.link:
                self._outputs.transmits.append(Transmit(peer.link, Stream.CONTROL, frame))
        self._timers.arm(Timer.ROW, "", now_ns + self._timing.suspect_ns)

    def tell_row_to(self, node: int, now_ns: int) -> None:
        """Send the own row over a new association."""
        frame = self._framer.message(self._make_row(now_ns))
        link = self._peers.peers[node].link
        self._outputs.transmits.append(Transmit(link, Stream.CONTROL, frame))

    def _find_target(self, now_ns: int) -> frozenset[Member]:
        """L: the largest mutual clique of those that are alive and want to be members."""
        mine = self._make_row(now_ns)
        gone = self._peers.dead
        rows = {self.me: mine.reach} if not self.left else {}
        for node, row in self.rows.items():
            member = Member(node, row.incarnation)
            if member not in gone and member in mine.reach:
                rows[member] = row.reach
        edges = mutual_edges(rows)
        return largest_clique(edges, self._votes, self.current_members())

    # ------------------------------------------------------------------------------ gathering

    def evaluate(self, now_ns: int) -> None:
        """Look at everything that is known, and begin or give up an attempt accordingly."""
        if self.evicted or self.left:
            return
        target = self._find_target(now_ns)
        if target != self._target:
            self._target = target
            self._target_since_ns = now_ns
        self._stop_granting()
        self.tell_row(now_ns, always=False)
        attempt = self._attempt
        if attempt is not None:
            if attempt.phase is not Phase.ACCEPT and not attempt.members <= target:
                self._give_up("a node of the proposal fell silent", now_ns)
            else:
                return
        if self._has_reason() and self._may_propose(now_ns) and self._is_due(now_ns):
            self._begin(now_ns)
        self._work(now_ns)

    def _missing(self) -> frozenset[Member]:
        """Members of the decided view outside L that are not proven dead."""
        return self.current_members() - self._target - self._peers.dead

    def _stop_granting(self) -> None:
        """Nodes that are to be left out are granted no more; one that answers again is."""
        if self.view is None or self.me not in self._target:
            return
        if not self._quorum.reached(member.node for member in self._target):
            self._stopped = frozenset()
            return
        self._stopped = frozenset(member.node for member in self._missing())
        for member in self._peers.dead:
            if self._peers.peers[member.node].incarnation == member.incarnation:
                self._leases.forget_given(member.node)

    def _has_reason(self) -> bool:
        if self._target != self.current_members():
            return True
        if self.closed_for:
            return True
        # Somebody closed its view for an instance that was not finished: it has to be.
        return any(
            self.rows[member.node].closed > self._k
            for member in self._target
            if member.node in self.rows
        )

    def _may_propose(self, now_ns: int) -> bool:
        """The lowest continuing member proposes; with none, the lowest of all configured."""
        target = self._target
        if self.me not in target or self.leaving:
            return False
        rows = {node: self.rows[node] for node in (m.node for m in target) if node in self.rows}
        known = self.decided.id if self.decided is not None else NO_VIEW
        if any(row.decided > known for row in rows.values()):
            return False
        nodes = {member.node for member in target}
        if not self._quorum.reached(nodes):
            return False
        continuing = [
            member.node
            for member in target & self.current_members()
            if (member == self.me and self.view is not None and self.view.id == known)
            or (member.node in rows and self._continues(rows[member.node], known))
        ]
        if continuing:
            return min(continuing) == self.me.node and self._voters(nodes, rows, now_ns)
        if nodes != self._configured:
            return False
        return min(nodes) == self.me.node and self._voters(nodes, rows, now_ns)

    @staticmethod
    def _continues(row: Row, known: ViewId) -> bool:
        return row.installed and row.synced and not row.leaving and row.decided == known

    def _voters(self, nodes: set[int], rows: dict[int, Row], now_ns: int) -> bool:
        """Whether those that may vote now are a quorum; at the very first start all may."""
        if self.decided is None and nodes == self._configured:
            return True
        mine = self._acceptor.votes_in_ns(now_ns) == 0
        return self._quorum.reached(
            node
            for node in nodes
            if (node == self.me.node and mine)
            or (node in rows and self._votes_by_now(node, rows[node], now_ns))
        )

    def _votes_by_now(self, node: int, row: Row, now_ns: int) -> bool:
        if row.votes_in_ns < 0:
            return False
        return self._row_came_ns[node] + row.votes_in_ns <= now_ns

    def _is_due(self, now_ns: int) -> bool:
        """Whether the target has held long enough, and grants to the missing have run out."""
        due = self._not_before_ns
        current = self.current_members()
        missing = self._missing()
        if missing:
            due = max(due, self._target_since_ns + self._timing.hold_down_ns)
            if not self.closed_for:
                due = max(due, self._grants_out_ns(missing, now_ns))
        elif current and not current - self._target and self._target != current:
            # Nodes that join: others may be about to do the same.
            due = max(due, self._target_since_ns + self._timing.hold_down_ns // 2)
        if due <= now_ns:
            return True
        self._timers.arm(Timer.HOLD_DOWN, "", due)
        return False

    def _grants_out_ns(self, missing: frozenset[Member], now_ns: int) -> int:
        """When no member of L is bound by a grant to one of `missing` any more."""
        latest = now_ns
        for gone in missing:
            latest = max(latest, now_ns + self._leases.given_left_ns(gone.node, now_ns))
            for member in self._target & self.current_members():
                row = self.rows.get(member.node)
                if row is None:
                    continue
                left = row.grants.get(gone.node)
                if left is None:
                    # It has not stopped yet, or not said so; its next row will tell.
                    latest = max(latest, now_ns + self._timing.heartbeat_ns)
                else:
                    latest = max(latest, self._row_came_ns[member.node] + left)
        return latest

    # -------------------------------------------------------------------------- the proposer

    def _begin(self, now_ns: int) -> None:
        self._highest = max(self._highest, self._acceptor.promised)
        ballot = (self._highest[0] + 1, self.me.node)
        self._highest = ballot
        self._attempt = Attempt(k=self._k + 1, ballot=ballot, members=self._target)
        self._outputs.counters["attempts"] += 1
        self._arm_phase(now_ns)
        prepare = wire.Prepare(
            k=self._k + 1,
            ballot=ballot,
            members=tuple(sorted(self._target)),
            known=self.decided,
        )
        for member in sorted(self._target):
            self._send(member.node, prepare)

    def _arm_phase(self, now_ns: int) -> None:
        self._timers.arm(Timer.PHASE, "", now_ns + self._timing.phase_timeout_ns)

    def _give_up(self, reason: str, now_ns: int) -> None:
        """Abort: everything of the attempt goes, the closure and the record stay."""
        assert self._attempt is not None, "only a running attempt can be given up"
        self._attempt = None
        self._timers.stop(Timer.PHASE)
        self._outputs.counters[f"attempt given up: {reason}"] += 1
        self._failures += 1
        rank = sorted(self._configured).index(self.me.node)
        step = self._timing.phase_timeout_ns // 20
        wait = int(step * (rank + self._jitter()) * min(self._failures, 16))
        self._not_before_ns = now_ns + wait
        self._timers.arm(Timer.HOLD_DOWN, "", self._not_before_ns)

    def phase_timeout(self, now_ns: int) -> None:
        """A phase made no progress in time."""
        if self._attempt is not None:
            self._give_up(f"time-out in {self._attempt.phase.name}", now_ns)

    def _running(self, k: int, ballot: Ballot, phase: Phase) -> Attempt | None:
        attempt = self._attempt
        if attempt is None or (attempt.k, attempt.ballot, attempt.phase) != (k, ballot, phase):
            return None
        return attempt

    def _promised(self, node: int, promise: wire.Promise, now_ns: int) -> None:
        attempt = self._running(promise.k, promise.ballot, Phase.PREPARE)
        if attempt is None:
            return
        attempt.promises[node] = promise
        nodes = {member.node for member in attempt.members}
        if attempt.promises.keys() != nodes:
            return
        if not self._quorum.reached(n for n in nodes if attempt.promises[n].vote):
            self._give_up("no quorum of votes", now_ns)
            return
        self._arm_phase(now_ns)
        earlier = proposal.adopted(attempt.promises.values())
        if earlier is not None:
            self._outputs.counters["adopted"] += 1
            attempt.value = earlier
            self._ask_accept(attempt, now_ns)
            return
        attempt.value = proposal.choose(
            previous=self.decided,
            members=attempt.members,
            reports=attempt.promises,
            reasons=self._reasons(attempt.members),
        )
        lacking = proposal.sources(attempt.value, self.decided, attempt.promises)
        attempt.phase = Phase.HOLD
        attempt.awaiting = set(lacking)
        for member, sources in sorted(lacking.items()):
            hold = wire.Hold(k=attempt.k, ballot=attempt.ballot, sources=sources)
            self._send(member, hold)
        if not lacking:
            self._ask_accept(attempt, now_ns)

    def _reasons(self, members: frozenset[Member]) -> dict[int, str]:
        reasons: dict[int, str] = {}
        staying = {member.node: member for member in members}
        for member in self.current_members() - members:
            if member.node in staying:
                reasons[member.node] = "restarted"
            elif member in self._peers.dead:
                row = self.rows.get(member.node)
                left = row is not None and row.leaving
                reasons[member.node] = "left in good order" if left else "its process died"
            else:
                reasons[member.node] = "unreachable"
        return reasons

    def _held_all(self, node: int, message: wire.HeldAll, now_ns: int) -> None:
        attempt = self._running(message.k, message.ballot, Phase.HOLD)
        if attempt is None:
            return
        attempt.awaiting.discard(node)
        self._arm_phase(now_ns)
        if not attempt.awaiting:
            self._ask_accept(attempt, now_ns)

    def _ask_accept(self, attempt: Attempt, now_ns: int) -> None:
        assert attempt.value is not None, "a value is chosen before it is proposed"
        attempt.phase = Phase.ACCEPT
        # Acceptors may have to wait for grants that they gave to those left out.
        wait = self._timing.phase_timeout_ns + int(self._timing.lease_ns * self._timing.drift)
        self._timers.arm(Timer.PHASE, "", now_ns + wait)
        dead = tuple(sorted(self._peers.dead & self.current_members()))
        accept = wire.Accept(ballot=attempt.ballot, value=attempt.value, dead=dead)
        self._send(self.me.node, accept)
        for node, peer in self._peers.peers.items():
            if peer.link:
                self._send(node, accept)

    def _accepted(self, node: int, message: wire.Accepted, now_ns: int) -> None:
        attempt = self._running(message.k, message.ballot, Phase.ACCEPT)
        if attempt is None or attempt.value is None:
            return
        attempt.accepted.add(node)
        if self._quorum.reached(attempt.accepted):
            value = attempt.value
            for other, peer in self._peers.peers.items():
                if peer.link:
                    self._send(other, wire.Install(value=value))
            self.learn(value, now_ns)

    def _nack(self, message: wire.Nack, now_ns: int) -> None:
        self._highest = max(self._highest, message.highest)
        attempt = self._attempt
        if attempt is not None and (attempt.k, attempt.ballot) == (message.k, message.ballot):
            self._give_up(f"refused: {message.reason}", now_ns)

    # -------------------------------------------------------------------------- the acceptor

    def _prepare(self, node: int, message: wire.Prepare, now_ns: int) -> None:
        if message.known is not None:
            self.learn(message.known, now_ns)
        if self.evicted:
            return
        if self.decided is not None and self.decided.k >= message.k:
            self._send(node, wire.Install(value=self.decided))
            return
        highest = max(self._promised_ballot, self._acceptor.promised)
        reason = self._refusal(node, message, now_ns)
        if message.ballot <= highest and message.ballot[1] != self.me.node:
            reason = "a higher ballot was promised"
        if reason:
            nack = wire.Nack(k=message.k, ballot=message.ballot, highest=highest, reason=reason)
            self._send(node, nack)
            return
        first = message.known is None and {m.node for m in message.members} == self._configured
        vote = self._acceptor.votes_in_ns(now_ns) == 0 or (first and self.decided is None)
        self._promised_ballot = message.ballot
        self._highest = max(self._highest, message.ballot)
        self._close(message.k, now_ns)
        self._acceptor.promise(node, message.k, message.ballot, vote=vote)

    def _refusal(self, node: int, message: wire.Prepare, now_ns: int) -> str:
        if self.me not in message.members:
            return "this incarnation is not in the proposal"
        nodes = {member.node for member in message.members}
        if not self._quorum.reached(nodes):
            return "the proposal has no majority of votes"
        if self.decided is not None:
            continuing = set(message.members) & set(self.decided.members)
            if not continuing and nodes != self._configured:
                return "nobody in the proposal continues the view before"
        elif nodes != self._configured:
            return "the first view needs every configured node"
        if node != self.me.node:
            row = self.rows.get(node)
            mutual = (
                row is not None and self.me in row.reach and self._paths.reachable(node, now_ns)
            )
            if not mutual:
                return "the proposer is not reachable both ways"
        return ""

    def _close(self, k: int, now_ns: int) -> None:
        """Close the view for good: nothing is sent, delivered or granted until the next."""
        self.closed_for = k
        self._delivery.closed = True
        # A closed member that sees no INSTALL in time is a reason for another attempt.
        self._timers.arm_earlier(Timer.HOLD_DOWN, "", now_ns + self._timing.phase_timeout_ns)

    def _accept(self, node: int, message: wire.Accept, now_ns: int) -> None:
        value = message.value
        if self.decided is not None and value.id <= self.decided.id:
            self._send(node, wire.Install(value=self.decided))
            return
        if value.k != self._k + 1:
            self._outputs.counters["accept_ahead"] += 1
            return
        highest = max(self._acceptor.promised, self._promised_ballot)
        if message.ballot < highest:
            nack = wire.Nack(
                k=value.k,
                ballot=message.ballot,
                highest=highest,
                reason="a higher ballot was promised",
            )
            self._send(node, nack)
            return
        first = value.k == 1 and {m.node for m in value.members} == self._configured
        if self._acceptor.votes_in_ns(now_ns) != 0 and not first:
            return
        self._peers.dead.update(member for member in message.dead if member != self.me)
        self._promised_ballot = message.ballot
        self._close(value.k, now_ns)
        out = self.current_members() - set(value.members) - self._peers.dead
        bound = max((self._leases.given_left_ns(m.node, now_ns) for m in out), default=0)
        not_before = now_ns + bound if bound else 0
        self._acceptor.accept(node, message.ballot, value, not_before_ns=not_before)

    def work(self, now_ns: int) -> None:
        """Say what has become durable, or whose time has come."""
        self._work(now_ns)

    def _work(self, now_ns: int) -> None:
        """Send ready replies, and handle what this node has to say to itself."""
        while True:
            for reply in self._acceptor.take_ready(now_ns):
                self._reply(reply)
            self._finish_hold()
            if not self._inbox:
                break
            inbox, self._inbox = self._inbox, []
            for node, message in inbox:
                self.receive(node, message, now_ns)
        at = self._acceptor.next_ready_ns()
        if at is not None:
            self._timers.arm(Timer.GRANTS, "", max(at, now_ns + 1))

    def _reply(self, reply: Reply) -> None:
        if reply.accepted:
            self._send(reply.node, wire.Accepted(k=reply.k, ballot=reply.ballot))
            return
        record = self._acceptor.record
        view = self.view
        self._send(
            reply.node,
            wire.Promise(
                k=reply.k,
                ballot=reply.ballot,
                vote=reply.vote,
                accepted_ballot=record.accepted_ballot,
                accepted=record.accepted,
                installed=view.id if view is not None else NO_VIEW,
                synced=view is not None,
                held=self._flush.held(),
                sent=self._flush.sent(),
            ),
        )

    def _hold(self, node: int, message: wire.Hold) -> None:
        if message.k != self._k + 1 or message.ballot < self._promised_ballot:
            return
        self._holding = (node, message.k, message.ballot)
        self._flush.hold(message.sources)

    def _finish_hold(self) -> None:
        if self._holding is not None and self._flush.holds_all():
            node, k, ballot = self._holding
            self._holding = None
            self._send(node, wire.HeldAll(k=k, ballot=ballot))

    # --------------------------------------------------------------------------- the learner

    def learn(self, value: ViewValue, now_ns: int) -> None:
        """A decided view; older ones and repetitions are harmless."""
        if self.decided is not None and value.id <= self.decided.id:
            return
        before = self.view
        admitted = self.me in value.members
        self._acceptor.decide(value, admitted=admitted)
        self._attempt = None
        self._timers.stop(Timer.PHASE)
        self._holding = None
        self._promised_ballot = NO_BALLOT
        self._highest = NO_BALLOT
        self._failures = 0
        self._not_before_ns = 0
        if admitted:
            self._install(value, before, now_ns)
        elif before is not None:
            self.evicted = True
            self._outputs.stream.append(Evicted(view_id=value.id))
        else:
            self._target_since_ns = now_ns

    def _install(self, value: ViewValue, before: View | None, now_ns: int) -> None:
        old = set(before.incarnations) if before is not None else set[Member]()
        self._flush.finish(value.cut, value.reasons)
        view = View(id=value.id, incarnations=value.members, continuing=value.continuing)
        self.view = view
        self.closed_for = 0
        self._stopped = frozenset()
        joined = sorted(member.node for member in set(value.members) - old)
        self._outputs.stream.append(
            ViewInstalled(
                view=view,
                joined=tuple(joined),
                left=dict(value.reasons),
                started_over=value.k > 1 and not value.continuing,
            )
        )
        self._leases.reset_received()
        self._delivery.start_view(view)
        self._peers.dead &= set(value.members)
        self._timers.stop(Timer.HOLD_DOWN)
        for node in view.members:
            if node != self.me.node:
                self._paths.probe(node, view.id, now_ns)
        self.tell_row(now_ns, always=True)

    # ------------------------------------------------------------------------------- routing

    def receive(self, node: int, message: wire.Control, now_ns: int) -> None:
        """A message of the log of views from `node` (which may be this one)."""
        match message:
            case wire.Prepare():
                self._prepare(node, message, now_ns)
            case wire.Promise():
                self._promised(node, message, now_ns)
            case wire.Nack():
                self._nack(message, now_ns)
            case wire.Hold():
                self._hold(node, message)
            case wire.HeldAll():
                self._held_all(node, message, now_ns)
            case wire.Accept():
                self._accept(node, message, now_ns)
            case wire.Accepted():
                self._accepted(node, message, now_ns)
            case wire.Install():
                self.learn(message.value, now_ns)
            case _:
                self._outputs.counters["misrouted"] += 1

    def _send(self, node: int, message: wire.Control) -> None:
        if node == self.me.node:
            self._inbox.append((node, message))
            return
        link = self._peers.peers[node].link
        if link:
            frame = self._framer.message(message, addressee=node)
            self._outputs.transmits.append(Transmit(link, Stream.CONTROL, frame))


def _without_clocks(row: Row) -> tuple[object, ...]:
    """A row without what changes by the mere passing of time."""
    return (
        row.reach,
        row.dead,
        row.decided,
        row.installed,
        row.synced,
        row.leaving,
        row.votes_in_ns > 0,
        row.votes_in_ns == 0,
        row.closed,
        tuple(row.grants),
    )
