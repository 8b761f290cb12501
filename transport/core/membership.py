"""Who is a member: views as a log decided by Paxos (PROTOCOL 2).

Close (promises), choose, hold (everybody fetches what it lacks of the cut), accept, install.
Every phase is aborted by a further suspicion, a higher ballot or its time-out; the closure of
the old view and the durable record are no part of an attempt and stay. This module decides;
`Gather` says when a change is called for, `Acceptor` writes, `Flush` fetches and delivers.

It departs from plain Paxos in one place: an acceptor says ACCEPTED only when its own grants to
members that the value leaves out have run out, unless they are proven dead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .. import wire
from ..config import ClusterConfig
from ..drivers.base import Stream
from ..events import Evicted, Member, View, ViewId
from ..wire import ERA_FIRST, NO_BALLOT, NO_VIEW, Ballot, ViewValue
from . import proposal
from .acceptor import Acceptor, Reply
from .attempt import FAILURES_UNTIL_RESET, PATIENCE_DOUBLINGS_MAX, Attempt, Phase, back_off_ns
from .delivery import Delivery
from .flush import Flush
from .founding import is_next
from .framing import Framer
from .gather import Gather, Standing
from .leases import Leases, Quorum
from .outputs import Outputs, RecordLost, Transmit
from .paths import Paths
from .peers import Peers
from .state import StateTransfer
from .timers import Timer, TimerTable


class Membership:
    """One node's part in the log of views: acceptor, learner and, at times, proposer."""

    def __init__(
        self,
        *,
        config: ClusterConfig,
        standing: Standing,
        gather: Gather,
        acceptor: Acceptor,
        delivery: Delivery,
        flush: Flush,
        state: StateTransfer,
        framer: Framer,
        leases: Leases,
        quorum: Quorum,
        paths: Paths,
        peers: Peers,
        timers: TimerTable,
        outputs: Outputs,
        jitter: Callable[[], float],
    ) -> None:
        self.standing = standing
        self.gather = gather
        self._me = standing.me
        self._configured = gather.configured
        self._everybody = (self._me.node, *peers.peers)
        self._timing = config.timing
        self._acceptor = acceptor
        self._delivery = delivery
        self._flush = flush
        self._state = state
        self._framer = framer
        self._leases = leases
        self._quorum = quorum
        self._paths = paths
        self._peers = peers
        self._timers = timers
        self._outputs = outputs
        self._jitter = jitter
        self._attempt: Attempt | None = None
        self._promised: Ballot = NO_BALLOT
        """The highest ballot promised for the next instance, with or without a vote."""
        self._failures = 0
        self._told: dict[int, tuple[int, ViewId]] = {}
        """On which association each peer was told that it is behind, and of which view."""
        self._holding: tuple[int, int, Ballot] | None = None
        """(proposer, k, ballot) of the HOLD that is being worked on."""
        self._inbox: list[wire.Control] = []
        """What this node has to say to itself."""

    # ------------------------------------------------------------------------------- queries

    @property
    def decided(self) -> ViewValue | None:
        """The highest decided view known here."""
        return self._acceptor.decided

    @property
    def _k(self) -> int:
        return self.decided.k if self.decided is not None else 0

    def may_grant(self, node: int, view_id: ViewId) -> bool:
        """Whether a heartbeat of `node` sent in `view_id` is answered with a grant."""
        standing = self.standing
        return (
            standing.view is not None
            and standing.view.id == view_id
            and not standing.closed_for
            and not standing.left
            and node not in self.gather.stopped
            and self._peers.peers[node].member in standing.view.incarnations
        )

    # ---------------------------------------------------------------------------- each turn

    def row_received(self, node: int, row: wire.Row, now_ns: int) -> None:
        """A peer says what it knows; one that lacks our view is told it."""
        self.gather.received(node, row, now_ns)
        self._state.row_received(node, row)
        decided = self.decided
        # Who founds a later era is to hear nothing of this one.
        if decided is not None and row.decided < decided.id and row.founding <= decided.era:
            told = (self._peers.peers[node].link, decided.id)
            if self._told.get(node) != told:
                self._told[node] = told
                self._send(node, wire.Install(value=decided))

    def evaluate(self, now_ns: int) -> None:
        """Look at everything that is known, and begin or give up an attempt accordingly."""
        if self.standing.evicted or self.standing.left:
            return
        gather, attempt = self.gather, self._attempt
        gather.update(now_ns)
        if attempt is not None:
            if attempt.phase is Phase.ACCEPT or attempt.members <= gather.target:
                return
            self._give_up("a node of the proposal fell silent", now_ns)
            if attempt.members - gather.target <= self._peers.dead:
                gather.not_before_ns = now_ns  # Backing off makes room for others: here are none.
        if gather.wants_change() and gather.may_propose(now_ns) and gather.is_due(now_ns):
            self._begin(now_ns)
            self.work(now_ns)

    def work(self, now_ns: int) -> None:
        """Say what has become durable, or whose time has come."""
        while True:
            for reply in self._acceptor.take_ready(now_ns):
                self._reply(reply)
            self._finish_hold()
            if not self._inbox:
                break
            inbox, self._inbox = self._inbox, []
            for message in inbox:
                self.receive(self._me.node, message, now_ns)
        at = self._acceptor.next_ready_ns(now_ns)
        if at is not None:
            self._timers.arm(Timer.GRANTS, "", at)

    # -------------------------------------------------------------------------- the proposer

    def _begin(self, now_ns: int) -> None:
        standing, target = self.standing, self.gather.target
        highest = max(standing.highest, self._acceptor.promised, self._promised)
        ballot = (highest[0] + 1, self._me.node)
        standing.highest = ballot
        founding = self.gather.era_to_found()
        self._attempt = Attempt(k=self._k + 1, ballot=ballot, members=target, founding=founding)
        self._outputs.counters["attempts"] += 1
        self._arm_phase(now_ns)
        prepare = wire.Prepare(
            k=self._k + 1,
            ballot=ballot,
            members=tuple(sorted(target)),
            known=self.decided,
            founding=founding,
        )
        for member in sorted(target):
            self._ask(member.node, prepare)

    def _patience_ns(self) -> int:
        """How long a phase may take: a busy disk needs its time, so it grows with each failure."""
        return self._timing.phase_timeout_ns << min(self._failures, PATIENCE_DOUBLINGS_MAX)

    def _arm_phase(self, now_ns: int) -> None:
        self._timers.arm(Timer.PHASE, "", now_ns + self._patience_ns())

    def _give_up(self, reason: str, now_ns: int) -> None:
        """Abort: everything of the attempt goes, the closure and the record stay."""
        assert self._attempt is not None, "only a running attempt can be given up"
        self._attempt = None
        self._timers.stop(Timer.PHASE)
        self._outputs.counters[f"attempt given up: {reason}"] += 1
        self._failures += 1
        place = sorted(self._configured).index(self._me.node) + self._jitter()
        wait = back_off_ns(self._timing.phase_timeout_ns, place, self._failures)
        self.gather.not_before_ns = now_ns + wait
        self._timers.arm(Timer.HOLD_DOWN, "", now_ns + wait)

    def phase_timeout(self, now_ns: int) -> None:
        """A phase made no progress in time."""
        attempt = self._attempt
        if attempt is None:
            return
        if self._failures >= FAILURES_UNTIL_RESET:
            # Who answers heartbeats, and this never, may have a control stream that stands still.
            for node in sorted(attempt.silent() - {self._me.node}):
                if self._paths.reachable(node, now_ns):
                    self._outputs.counters["attempt_resets"] += 1
                    self._peers.drop(node)
        self._give_up(f"time-out in {attempt.phase.name}", now_ns)

    def _running(self, k: int, ballot: Ballot, phase: Phase) -> Attempt | None:
        attempt = self._attempt
        asks = attempt is not None and (attempt.k, attempt.ballot, attempt.phase)
        return attempt if asks == (k, ballot, phase) else None

    def _on_promise(self, node: int, promise: wire.Promise, now_ns: int) -> None:
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
            # Its members hold its cut already: it was held before it was first proposed.
            self._outputs.counters["adopted"] += 1
            attempt.value = earlier
            self._ask_accept(attempt, now_ns)
            return
        attempt.value = proposal.choose(
            previous=self.decided,
            members=attempt.members,
            reports=attempt.promises,
            reasons=self.gather.reasons(attempt.members),
            era=max(attempt.founding, ERA_FIRST),
        )
        if not (attempt.value.continuing or attempt.founding) and self._configured - nodes:
            # The rows said that somebody continues; by the reports nobody does.
            self._give_up("nobody has the state", now_ns)
            return
        lacking = proposal.sources(attempt.value, self.decided, attempt.promises)
        attempt.phase = Phase.HOLD
        attempt.awaiting = set(lacking)
        for member, sources in sorted(lacking.items()):
            hold = wire.Hold(k=attempt.k, ballot=attempt.ballot, sources=sources)
            self._ask(member, hold)
        if not lacking:
            self._ask_accept(attempt, now_ns)

    def _on_held(self, node: int, message: wire.HeldAll, now_ns: int) -> None:
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
        wait = self._patience_ns() + int(self._timing.lease_ns * self._timing.drift)
        self._timers.arm(Timer.PHASE, "", now_ns + wait)
        dead = tuple(sorted(self._peers.dead & self.gather.current()))
        accept = wire.Accept(ballot=attempt.ballot, value=attempt.value, dead=dead)
        for node in self._everybody:
            self._ask(node, accept)

    def _on_accepted(self, node: int, message: wire.Accepted, now_ns: int) -> None:
        attempt = self._running(message.k, message.ballot, Phase.ACCEPT)
        if attempt is None or attempt.value is None:
            return
        attempt.accepted.add(node)
        if self._quorum.reached(attempt.accepted):
            for peer in self._everybody:
                self._send(peer, wire.Install(value=attempt.value))
            self.learn(attempt.value, now_ns)

    def _on_nack(self, message: wire.Nack, now_ns: int) -> None:
        self.standing.highest = max(self.standing.highest, message.highest)
        attempt = self._attempt
        if attempt is not None and (attempt.k, attempt.ballot) == (message.k, message.ballot):
            self._give_up("refused", now_ns)

    # -------------------------------------------------------------------------- the acceptor

    def _on_prepare(self, node: int, message: wire.Prepare, now_ns: int) -> None:
        if message.known is not None:
            self.learn(message.known, now_ns)
        if self.standing.evicted:
            return
        if self.decided is not None and self.decided.id >= message.id:
            self._send(node, wire.Install(value=self.decided))
            return
        highest = max(self._promised, self._acceptor.promised)
        reason = self.gather.refusal(node, message, now_ns)
        if not self._is_next(message.id, message.members):
            reason = "it is not the next view here"
        elif message.ballot <= highest:
            reason = "as high a ballot was promised"
        if reason:
            nack = wire.Nack(k=message.k, ballot=message.ballot, highest=highest, reason=reason)
            self._send(node, nack)
            return
        vote = self._may_vote(message.members, now_ns)
        self._acceptor.found(message.founding)
        self._close(message.k, message.ballot, now_ns)
        self._acceptor.promise(node, message.k, message.ballot, vote=vote)

    def _may_vote(self, members: Iterable[Member], now_ns: int) -> bool:
        """Whether a promise or an acceptance counts; at the very first start all of them do."""
        if self._acceptor.votes_in_ns(now_ns) == 0:
            return True
        everybody = frozenset(member.node for member in members) == self._configured
        return self.decided is None and everybody and not self._acceptor.record.voter

    def _is_next(self, view_id: ViewId, members: Iterable[Member]) -> bool:
        founding, nodes = self._acceptor.founding, frozenset(member.node for member in members)
        everybody = nodes == self._configured
        next_one = is_next(view_id, self.decided, founding, everybody=everybody)
        return next_one and nodes <= self._configured

    def _close(self, k: int, ballot: Ballot, now_ns: int) -> None:
        """Close the view for good: nothing is sent, delivered or granted until the next."""
        self._promised = ballot
        self.standing.highest = max(self.standing.highest, ballot)
        self.standing.closed_for = k
        self._delivery.closed = True
        # A closed member that sees no INSTALL in time is a reason for another attempt.
        self._timers.arm_earlier(Timer.HOLD_DOWN, "", now_ns + self._patience_ns())

    def _on_accept(self, node: int, message: wire.Accept, now_ns: int) -> None:
        value = message.value
        if self.decided is not None and value.id <= self.decided.id:
            self._send(node, wire.Install(value=self.decided))
            return
        if not self._is_next(value.id, value.members):
            self._outputs.counters["accept_ahead"] += 1
            return
        highest = max(self._acceptor.promised, self._promised)
        if message.ballot < highest:
            reason = "a higher ballot was promised"
            nack = wire.Nack(k=value.k, ballot=message.ballot, highest=highest, reason=reason)
            self._send(node, nack)
            return
        if not self._may_vote(value.members, now_ns):
            return
        if self._acceptor.votes_in_ns(now_ns) and message.ballot != self._promised:
            return  # Without memory it votes only for what this incarnation has reported for.
        if value.era > ERA_FIRST and self.decided is None:
            self._acceptor.found(value.era)
        self._peers.dead.update(member for member in message.dead if member != self._me)
        self._close(value.k, message.ballot, now_ns)
        out = self.gather.current() - set(value.members) - self._peers.dead
        bound = max((self._leases.given_left_ns(m.node, now_ns) for m in out), default=0)
        not_before = now_ns + bound if bound else 0
        self._acceptor.accept(node, message.ballot, value, not_before_ns=not_before)

    def _reply(self, reply: Reply) -> None:
        if reply.accepted:
            self._send(reply.node, wire.Accepted(k=reply.k, ballot=reply.ballot))
            return
        record, view = self._acceptor.record, self.standing.view
        self._send(
            reply.node,
            wire.Promise(
                k=reply.k,
                ballot=reply.ballot,
                vote=reply.vote,
                accepted_ballot=record.accepted_ballot,
                accepted=record.accepted,
                installed=view.id if view is not None else NO_VIEW,
                synced=self.standing.synced,
                held=self._flush.held(),
                sent=self._flush.sent(),
            ),
        )

    def _on_hold(self, node: int, message: wire.Hold) -> None:
        if message.k == self._k + 1 and message.ballot >= self._promised:
            self._holding = (node, message.k, message.ballot)
            self._flush.hold(message.sources)

    def _finish_hold(self) -> None:
        if self._holding is not None and self._flush.holds_all():
            node, k, ballot = self._holding
            self._holding = None
            self._send(node, wire.HeldAll(k=k, ballot=ballot))

    # --------------------------------------------------------------------------- the learner

    def learn(self, value: ViewValue, now_ns: int) -> None:
        """A decided view; older ones, repetitions and what a founder left behind are harmless."""
        if not self._acceptor.is_news(value, self._configured):
            return
        admitted = self._me in value.members
        if admitted and self.standing.closed_for != value.k:
            # Every member has closed its view for this instance. So another start was that
            # member, under the same number: this one has lost its record.
            self._forget_who_i_am(value)
            return
        if not admitted and self.decided is not None and value.era > self.decided.era:
            self.standing.closed_for = 0  # Views are counted anew.
        self._acceptor.decide(value, admitted=admitted)
        self._attempt = None
        self._timers.stop(Timer.PHASE)
        self._holding = None
        self._promised = NO_BALLOT
        self.standing.highest = NO_BALLOT
        self._failures = 0
        self.gather.not_before_ns = 0
        if admitted:
            self._install(value, now_ns)
        elif self.standing.view is not None:
            self.end_incarnation()

    def end_incarnation(self) -> None:
        """The others go on without this incarnation: it does nothing any more."""
        self._end()
        known = self.decided.id if self.decided is not None else NO_VIEW
        self._outputs.stream.append(Evicted(view_id=known))

    def _end(self) -> None:
        """This incarnation is over."""
        self.standing.evicted = True
        self._delivery.closed = True
        self._state.over()

    def _forget_who_i_am(self, value: ViewValue) -> None:
        """The number of this start is taken by one that its record does not know of."""
        self._end()
        other = min((member.node for member in value.members if member != self._me), default=0)
        self._outputs.stream.append(RecordLost(peer=other, seen=self._me.incarnation))

    def _install(self, value: ViewValue, now_ns: int) -> None:
        standing = self.standing
        before = standing.view
        self._flush.finish(value.cut, value.reasons)
        self._state.installed(value, now_ns)
        view = View(id=value.id, incarnations=value.members, continuing=value.continuing)
        standing.view = view
        standing.closed_for = 0
        self.gather.stopped = frozenset()
        self.gather.damping.left_out(value.reasons, now_ns)
        self._outputs.stream.append(proposal.announcement(value, view, before))
        self._leases.reset_received()
        self._delivery.start_view(view, now_ns)
        self._peers.forget_the_dead(but=set(value.members))
        self._timers.stop(Timer.HOLD_DOWN)
        for node in view.members:
            if node != self._me.node:
                self._paths.probe(node, view.id, now_ns)
        self.gather.tell(now_ns)

    # ------------------------------------------------------------------------------- routing

    def receive(self, node: int, message: wire.Control, now_ns: int) -> None:
        """A message of the log of views from `node` (which may be this one)."""
        match message:
            case wire.Prepare():
                self._on_prepare(node, message, now_ns)
            case wire.Promise():
                self._on_promise(node, message, now_ns)
            case wire.Nack():
                self._on_nack(message, now_ns)
            case wire.Hold():
                self._on_hold(node, message)
            case wire.HeldAll():
                self._on_held(node, message, now_ns)
            case wire.Accept():
                self._on_accept(node, message, now_ns)
            case wire.Accepted():
                self._on_accepted(node, message, now_ns)
            case wire.Install():
                self.learn(message.value, now_ns)
            case _:
                self._outputs.counters["misrouted"] += 1

    def _send(self, node: int, message: wire.Control) -> None:
        if node == self._me.node:
            self._inbox.append(message)
            return
        link = self._peers.peers[node].link
        if link:
            frame = self._framer.message(message, addressee=node)
            self._outputs.transmits.append(Transmit(link, Stream.CONTROL, frame))

    def _ask(self, node: int, message: wire.Control) -> None:
        assert self._attempt is not None, "it is an attempt that asks"
        self._attempt.asked[node] = message
        self._send(node, message)

    def linked(self, node: int) -> None:
        """What was asked on the association before may not have come: it is asked again."""
        if self._attempt is not None and node in self._attempt.silent():
            self._send(node, self._attempt.asked[node])
