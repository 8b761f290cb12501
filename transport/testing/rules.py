"""Rules of the protocol, held against what each node of a simulation says on the wire.

The guarantees (`checkers.py`) are what applications may rely on. Most are kept by several rules at
once, so that a rule can be broken for a long time before a guarantee is. A `Referee` sees the
frames, the disks and which process runs, and speaks at the first breach of a rule of PROTOCOL 2
and 3. It knows nothing of why a node says what it says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from .. import wire
from ..core.endpoint import Endpoint
from ..core.framing import HEADER_BYTES
from ..core.leases import Quorum
from ..core.outputs import Delivered, Ordered
from ..events import Evicted, Lane, Member, ViewId, ViewInstalled
from ..wire import Ballot, Kind, ViewValue
from ..wire_data import StreamKey, decode_data
from ..wire_probe import decode_probes
from .simulated_node import Act, Life, SimulatedNode
from .simulation import Simulation

_KIND_AT = 4
_TAG_AT = HEADER_BYTES + 1
"""A control message is an array of less than 16 fields, the tag first (docs/wire.md)."""
_ROW, _PROMISE, _ACCEPT, _ACCEPTED, _INSTALL, _ACK, _END = 1, 3, 7, 8, 9, 11, 12
_STEPS = frozenset((_ROW, _PROMISE, _ACCEPT, _ACCEPTED, _INSTALL))
_OF_A_VIEW = frozenset((_ACK, _END))

RULES = {
    "durable": "what a node votes is durable before it says so",
    "promise": "no vote is taken back",
    "memory": "who has lost its record does not vote before it is in a view again",
    "first vote": "a node votes when all leases of its last incarnation have run out",
    "leases": "a view that leaves out the living is accepted when their leases have run out",
    "one value": "a ballot is for one value",
    "primary": "a view has a quorum, and somebody who continues or everybody",
    "adopted": "what somebody may have installed is asked for again",
    "chosen": "one value is chosen",
    "closed": "who has closed its view adds nothing to it",
    "stopped": "who is to be left out is granted nothing",
    "lease": "no lease is longer than the grants of a quorum",
    "death": "who is called dead is dead",
}
"""What is looked at, by the name that a breach is called by (PROTOCOL 2 and 3)."""

Instance = ViewId
"""The view that one decision of the log is about."""


@dataclass(slots=True)
class _Closed:
    """Where an incarnation stood when it closed its view."""

    view_id: ViewId
    held: dict[StreamKey, int]
    numbered: dict[StreamKey, int]
    epoch: int


class _Grant(NamedTuple):
    """An answer that lets an incarnation act."""

    life: Life
    at_ns: int


@dataclass(slots=True)
class _Process:
    """What is known of one incarnation."""

    life: Life
    voter: bool
    """It began with a record that lets it vote."""
    told: int = 0
    """How much of its history has been looked at."""
    installed: bool = False
    stopped: frozenset[int] = frozenset()
    """Whom it grants no more, by its latest row."""
    closed: _Closed | None = None
    grants: dict[int, _Grant] = field(default_factory=dict[int, "_Grant"])
    """The last one that it gave to each node."""
    granted: dict[int, tuple[ViewId, int]] = field(default_factory=dict[int, tuple[ViewId, int]])
    """In which view and when each node last granted it something."""
    acts: Act | None = None
    """The last of its leases that was looked at."""


class Referee:
    """Looks on, and raises `AssertionError` in the turn in which a rule is broken."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._network = simulation.network
        self._lease_ns = simulation.config.timing.lease_ns
        self._now: dict[int, _Process] = {}
        self._said: dict[tuple[int, Instance], Ballot] = {}
        """The highest ballot that each node has voted in."""
        self._reported: dict[tuple[int, Instance], Ballot] = {}
        """The highest ballot in which each node has told a later proposer that it had accepted."""
        self._asked: dict[tuple[Instance, Ballot], ViewValue] = {}
        self._chosen: dict[Instance, tuple[ViewValue, Ballot]] = {}
        self._accepted: dict[tuple[Instance, Ballot], tuple[Ballot, ViewValue]] = {}
        """What a proposer was told of values accepted before: the one of the highest ballot."""
        config = simulation.config
        votes = {node.id: node.votes for node in config.nodes}
        self._quorum = Quorum(votes, config.quorum.tie_breaker)
        simulation.network.watches.append(self._frame)
        simulation.after_turn.append(self._turned)

    # ------------------------------------------------------------------------------- who is who

    def _process(self, node: SimulatedNode) -> _Process:
        found = self._now.get(node.id)
        if found is None or found.life is not node.life:
            found = _Process(node.life, node.endpoint.acceptor.record.voter)
            self._now[node.id] = found
        return found

    def _turned(self, node: SimulatedNode) -> None:
        """After a turn: whether its view is closed now, and what it was told in this turn."""
        process = self._process(node)
        history = node.life.history
        news = [item for _, item in history[process.told :]] if len(history) > process.told else []
        process.told = len(history)
        for item in news:
            if isinstance(item, ViewInstalled):
                process.closed, process.installed = None, True
            elif isinstance(item, Evicted):
                process.closed = None
        if process.closed is not None:
            late = [item for item in news if isinstance(item, Delivered | Ordered)]
            self._rule(not late, "closed", f"{node.life.member} delivers in a closed view: {late}")
        elif node.endpoint.standing.closed_for and node.view is not None:
            process.closed = _standing(node.endpoint, node.view.id)
        acts = node.life.acts[-1] if node.life.acts else None
        if acts is not None and acts != process.acts:
            process.acts = acts
            self._acts(node, acts)

    def _acts(self, node: SimulatedNode, acts: Act) -> None:
        """No lease is longer than the grants of a quorum in that view allow."""
        granted = {node.id}
        given = (
            (at_ns, grantor)
            for grantor, (view_id, at_ns) in self._process(node).granted.items()
            if view_id == acts.view_id
        )
        ends_ns = 0
        for at_ns, grantor in sorted(given, reverse=True):
            if self._quorum.reached(granted):
                break
            granted.add(grantor)
            ends_ns = at_ns + self._lease_ns
        alone = granted == {node.id} and self._quorum.reached(granted)
        kept = self._quorum.reached(granted) and (alone or acts.until_ns <= ends_ns + 1)
        breach = f"{node.life.member} acts in {acts.view_id} to {acts.until_ns / 1e6:.1f} ms, "
        self._rule(kept, "lease", breach + f"granted to {ends_ns / 1e6:.1f} ms")

    def _rule(self, kept: bool, name: str, breach: str) -> None:
        if not kept:
            raise AssertionError(f"rule {name}: {breach}; but {RULES[name]}")

    # --------------------------------------------------------------------------------- frames

    def _frame(self, source: int, target: int, frame: bytes, _rail: str | None) -> None:
        kind = frame[_KIND_AT]
        if kind == Kind.PROBE:
            for probe in decode_probes(frame, HEADER_BYTES, target) or ():
                if probe.echo and probe.granted:
                    self._grants(source, target, probe.view_id)
        elif kind == Kind.CONTROL:
            tag = frame[_TAG_AT]
            if tag in _STEPS or (tag in _OF_A_VIEW and self._closed(source) is not None):
                message = wire.decode_control(memoryview(frame)[HEADER_BYTES:])
                self._hears(self._simulation.nodes[source], message)
        elif kind == Kind.DATA:
            closed = self._closed(source)
            if closed is not None:
                self._numbers(source, closed, frame)

    def _closed(self, node: int) -> _Closed | None:
        process = self._now.get(node)
        same = process is not None and process.life is self._simulation.nodes[node].life
        return process.closed if process is not None and same else None

    def _hears(self, node: SimulatedNode, message: wire.Control | None) -> None:
        match message:
            case wire.Row():
                self._process(node).stopped = frozenset(message.grants)
                self._calls_dead(node, message.dead)
            case wire.Promise():
                self._reports(node, message)
            case wire.Accept():
                self._asks(node, message)
            case wire.Accepted():
                instance = _instance(node.endpoint, message.k)
                self._votes(node, instance, message.ballot, accepted=True)
                self._lets_leases_run_out(node, instance, message.ballot)
            case wire.Install():
                self._installs(node, message.value)
            case wire.Ack():
                self._acknowledges(node, message)
            case wire.End():
                closed = self._closed(node.id)
                if closed is not None and message.view_id == closed.view_id:
                    kept = message.epoch < closed.epoch
                    self._rule(kept, "closed", f"{node.life.member} ends epoch {message.epoch}")
            case _:
                pass

    # ------------------------------------------------------------------- rules of the acceptors

    def _votes(
        self, node: SimulatedNode, instance: Instance, ballot: Ballot, *, accepted: bool = False
    ) -> None:
        """What is said is durable; no vote is taken back; no vote without memory, or too early."""
        process, member = self._process(node), node.life.member
        what = f"{member} votes in {instance} for {ballot[0]}.{ballot[1]}"
        record = wire.decode_record(node.disk.content or b"")
        durable = record is not None and (
            (record.decided is not None and record.decided.id >= instance)
            or (record.accepted_ballot if accepted else record.promised) >= ballot
        )
        self._rule(durable, "durable", f"{what} before that is durable")
        before = self._said.get((node.id, instance), wire.NO_BALLOT)
        # An acceptance that had to wait for leases counts, if later proposers heard of it.
        told = accepted and ballot <= self._reported.get((node.id, instance), wire.NO_BALLOT)
        self._rule(ballot >= before or told, "promise", f"{what} after {before[0]}.{before[1]}")
        self._said[node.id, instance] = max(before, ballot)
        if node.view is not None and node.view.id < instance:
            closed = node.endpoint.standing.closed_for == instance.k
            self._rule(closed, "closed", f"{what} and has not closed its view")
        if instance == wire.FIRST_VIEW:
            return
        # Who was told to found the era needs no memory of older ones.
        founder = node.life.founding == instance.era or instance.k == 1
        remembers = process.voter or process.installed or founder
        self._rule(remembers, "memory", f"{what} with a record that was lost")
        age_ns = self._network.now_ns - node.life.started_ns
        # A founder without record need not wait where everybody is there to found with it.
        all_run = len(self._simulation.running()) == len(self._simulation.nodes)
        bound = process.voter or (bool(node.life.founding) and not all_run)
        waited = age_ns >= self._lease_ns or not bound
        self._rule(waited, "first vote", f"{what} {age_ns / 1e6:.1f} ms after its start")

    def _lets_leases_run_out(self, node: SimulatedNode, instance: Instance, ballot: Ballot) -> None:
        """ACCEPTED waits for the own grants to those left out, unless they are dead."""
        value = self._asked.get((instance, ballot))
        before = self._chosen.get(_before(instance))
        if value is None or before is None:
            return
        out = set(before[0].members) - set(value.members)
        for life, granted_ns in self._process(node).grants.values():
            if life.member in out and self._lives(life) and not self._is_double(life.member):
                ago_ns = self._network.now_ns - granted_ns
                breach = f"{node.life.member} accepts {ago_ns / 1e6:.1f} ms after a grant to "
                self._rule(ago_ns >= self._lease_ns, "leases", breach + str(life.member))

    def _lives(self, life: Life) -> bool:
        node = self._simulation.nodes[life.member.node]
        if not node.running or node.life is not life:
            return False
        standing = node.endpoint.standing
        return not standing.left and not standing.evicted

    def _calls_dead(self, node: SimulatedNode, dead: tuple[Member, ...]) -> None:
        """A proof of death is no guess: whoever is called dead acts no more."""
        for member in dead:
            life = self._simulation.nodes[member.node].life
            alive = life.member == member and self._lives(life) and not self._is_double(member)
            self._rule(not alive, "death", f"{node.life.member} calls {member} dead")

    def _is_double(self, member: Member) -> bool:
        """Whether two starts had one number: then one of them is dead, and the other will know."""
        return sum(life.member == member for life in self._simulation.lives) > 1

    def _reports(self, node: SimulatedNode, message: wire.Promise) -> None:
        instance = _instance(node.endpoint, message.k)
        if message.vote:
            self._votes(node, instance, message.ballot)
        if message.accepted is not None:
            self._reported[node.id, instance] = message.accepted_ballot
            asked, told = (instance, message.ballot), (message.accepted_ballot, message.accepted)
            before = self._accepted.get(asked)
            if before is None or told[0] > before[0]:
                self._accepted[asked] = told

    # ------------------------------------------------------------------- rules of the proposers

    def _asks(self, node: SimulatedNode, message: wire.Accept) -> None:
        """One value for a ballot; once a value is chosen, every later ballot has the same."""
        value, ballot = message.value, message.ballot
        same = self._asked.setdefault((value.id, ballot), value) == value
        self._rule(same, "one value", f"{node.life.member} asks for two values in {ballot}")
        self._rule(self._is_primary(value), "primary", f"{node.life.member} asks for {value}")
        told = self._accepted.get((value.id, ballot))
        record = wire.decode_record(node.disk.content or b"")
        if record is not None and record.accepted is not None and record.accepted.id == value.id:
            own = (record.accepted_ballot, record.accepted)
            told = own if told is None or own[0] > told[0] else told
        if told is not None and told[0] < ballot:
            breach = f"{node.life.member} asks for {value}, {told[1]} had been accepted"
            self._rule(told[1] == value, "adopted", breach)
        chosen = self._chosen.get(value.id)
        if chosen is not None and ballot > chosen[1]:
            breach = f"{node.life.member} asks for {value} after {chosen[0]} was chosen"
            self._rule(chosen[0] == value, "chosen", breach)

    def _is_primary(self, value: ViewValue) -> bool:
        """A quorum of votes, and somebody who continues, or everybody (PROTOCOL 2)."""
        nodes = {member.node for member in value.members}
        before = self._chosen.get(_before(value.id))
        if before is not None:
            old = set(before[0].members)
            going_on = {member.node for member in value.members if member in old}
            if not set(value.continuing) <= going_on:
                return False
        everybody = nodes == self._simulation.nodes.keys()
        founders = value.k == 1 and value.era > wire.ERA_FIRST and self._were_told(value)
        someone = bool(value.continuing) or everybody or founders
        return self._quorum.reached(nodes) and someone

    def _were_told(self, value: ViewValue) -> bool:
        """Whether the operator has had all of these found an era."""
        told = {life.member for life in self._simulation.lives if life.founding}
        return set(value.members) <= told

    def _installs(self, node: SimulatedNode, value: ViewValue) -> None:
        """Whoever is told a decided view is told the same."""
        known = self._chosen.get(value.id)
        if known is None:
            ballots = [b for (view, b), v in self._asked.items() if view == value.id and v == value]
            # It was chosen in the ballot in which it was asked for last; in an earlier one it may
            # have been accepted by too few. With nobody to ask there was no frame that named any.
            self._chosen[value.id] = (value, max(ballots, default=wire.NO_BALLOT))
        else:
            breach = f"{node.life.member} tells {value}, {known[0]} was told before"
            self._rule(known[0] == value, "chosen", breach)

    # ------------------------------------------------------- rules of members of a closed view

    def _grants(self, source: int, target: int, view_id: ViewId) -> None:
        """Who has closed its view, or wants the other left out, grants nothing."""
        node, there = self._simulation.nodes[source], self._simulation.nodes[target]
        process = self._process(node)
        who = f"{node.life.member} grants {there.life.member}"
        if process.closed is not None:
            kept = view_id != process.closed.view_id
            self._rule(kept, "closed", f"{who} in a closed view")
        # A later row may wait for room in the associations: it has been said, only not sent.
        said = node.endpoint.gather.told
        left_out = target in process.stopped and (said is None or target in said.grants)
        self._rule(not left_out, "stopped", f"{who}, whom it wants left out")
        process.grants[target] = _Grant(there.life, self._network.now_ns)
        if there.running:
            self._process(there).granted[source] = (view_id, self._network.now_ns)

    def _acknowledges(self, node: SimulatedNode, message: wire.Ack) -> None:
        """Nothing that came after the report."""
        closed = self._closed(node.id)
        if closed is None or message.view_id != closed.view_id:
            return
        for origin, addressee, lane, held, *_ in message.entries:
            had = closed.held.get(StreamKey(origin, addressee, lane), 0)
            breach = f"{node.life.member} acknowledges {held} of {origin}, had {had} when it closed"
            self._rule(held <= had, "closed", breach)

    def _numbers(self, source: int, closed: _Closed, frame: bytes) -> None:
        """No new batch; what was numbered before may still be on its way, or repaired."""
        data = decode_data(frame, HEADER_BYTES)
        if data is None or data.key.origin != source or data.view_id != closed.view_id:
            return
        last = closed.numbered.get(data.key, 0)
        member = self._simulation.nodes[source].life.member
        breach = f"{member} numbers {data.sequence} after {last}"
        self._rule(data.sequence <= last, "closed", breach)


def _instance(endpoint: Endpoint, k: int) -> Instance:
    """What a promise or an acceptance is about: the era is that of its sender."""
    decided, founding = endpoint.acceptor.decided, endpoint.acceptor.founding
    return ViewId(decided.era if decided is not None else max(founding, wire.ERA_FIRST), k)


def _before(instance: Instance) -> Instance:
    return ViewId(instance.era, instance.k - 1)


def _standing(endpoint: Endpoint, view_id: ViewId) -> _Closed:
    """What an endpoint that has just closed its view holds and has numbered."""
    delivery = endpoint.delivery
    return _Closed(
        view_id=view_id,
        held={key: stream.held for key, stream in delivery.ins.items()},
        numbered={
            StreamKey(endpoint.node, addressee, Lane(lane)): stream.last
            for (addressee, lane), stream in delivery.out.items()
        },
        epoch=delivery.epochs.current,
    )
