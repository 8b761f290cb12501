"""A model of what lies under the barriers: one agreed log, fifo streams and views; no network.

Several cores run against one log per view. A seeded schedule decides who does what next: local
calls, publishing, delivery of entries and of fifo messages, wake-ups, and view changes in which
members leave, join and come back, and in which entries and messages of the old view are lost
(for all that go on alike). After each step the promises of barriers are checked (`promises.py`):

* safety: a release names parties that have all called `arrive`, and they are the right ones;
* cut: at a release, all that its parties multicast before arriving is delivered there;
* payloads: all parties are given what each of them brought;
* uniformity: members that go on to the next view have the same outcome of a generation, and a
  safe release binds members that do not go on as well;
* tokens: they grow from one safe release of a name to the next;
* no hang: a wait with a deadline has an outcome one lease after its deadline;
* liveness: when all is delivered, no barrier is left whose parties all wait, no two parties wait
  at one name with different settings, and nobody is counted who does not wait;
* determinism: after the same entries, all cores, newcomers too, have the same state.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from phalanx.barrier import events, names
from phalanx.barrier.core import BarrierCore
from phalanx.barrier.outbox import CHANNEL
from phalanx.barrier.settings import (
    AllParties,
    Entered,
    Parties,
    Settings,
    Strength,
)
from phalanx.transport.config import ClusterConfig
from phalanx.transport.events import Lane, Member, Position, View, ViewId, ViewInstalled
from phalanx.transport.layers import Ordered, Outgoing

from .kinds import DOUBLES, PHASERS, SETTINGS

CONFIG = ClusterConfig(name="model", rails=(), nodes=())
LEASE_NS = CONFIG.timing.lease_ns

Verdict = tuple[object, ...]


def entry(sender: Member, payload: bytes, view_id: ViewId, index: int, *, mark: int = 0) -> Ordered:
    """An entry of barriers at a place of the agreed order, as layers are given it."""
    return Ordered(
        sender=sender.node,
        incarnation=sender.incarnation,
        channel=CHANNEL,
        payloads=[payload],
        view_id=view_id,
        first=index,
        mark_fifo=mark,
        mark_bulk=0,
        size=len(payload),
        safe=False,
        token=0,
    )


class Violation(AssertionError):
    """A promise was broken; the message says which."""


@dataclass
class Call:
    """One call of a core that has an outcome."""

    what: str
    """`arrive`, `spoil`, `register`, `quit`, or `arrive and quit`."""
    name: str
    ticket: int
    settings: Settings
    deadline_ns: int | None
    view_id: ViewId
    sent: int
    """Fifo messages that the party had multicast in that view before."""
    bulk_sent: int
    """The same on the bulk lane, if they belong to the arrival; else 0."""
    step: int
    """Grows from one call or outcome of the run to the next."""
    payload: bytes = b""
    outcome: events.Outcome | None = None
    ended: int = 0
    """The step at which it had its outcome."""
    abandoned: bool = False
    overdue_ns: int | None = None
    """When it was first woken after its deadline."""

    @property
    def waits(self) -> bool:
        return self.outcome is None and not self.abandoned

    @property
    def arrives(self) -> bool:
        """Whether it may be counted as an arrival."""
        return self.what != "register"


@dataclass
class Node:
    """One process."""

    member: Member
    core: BarrierCore
    cursor: int = 0
    """Entries of this view's log that it was given."""
    progress: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    bulk_progress: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    queue: deque[Outgoing] = field(default_factory=deque[Outgoing])
    """Taken from the core and not numbered by the transport yet."""
    calls: list[Call] = field(default_factory=list[Call])
    entered: dict[str, events.Release] = field(default_factory=dict[str, events.Release])
    """Double barriers that it has entered and not left, by the name at which it entered."""

    def call(self, ticket: int) -> Call:
        return next(call for call in self.calls if call.ticket == ticket)

    def waiting(self, name: str, what: str = "arrive") -> Call | None:
        return next((c for c in self.calls if c.name == name and c.waits and c.what == what), None)


class Model:
    """Several cores and what they are told; every method checks what it can."""

    def __init__(
        self,
        members: Collection[int],
        *,
        make: Callable[[ClusterConfig, int], BarrierCore] = BarrierCore,
    ) -> None:
        from .promises import Promises  # which are about a model

        self.make = make
        self.now_ns = 0
        self.steps = 0
        self.nodes: dict[int, Node] = {}
        self.log: list[Ordered] = []
        self.sent: dict[int, int] = defaultdict(int)
        self.bulk_sent: dict[int, int] = defaultdict(int)
        self.history: dict[Member, list[Call]] = {}
        self.views: dict[ViewId, View] = {}
        self.view = View(id=ViewId(1, 0), incarnations=())
        self._digests: dict[int, object] = {}
        self.cuts: dict[tuple[ViewId, int], int] = {}
        """By view and sender, how many fifo messages all that went on have been given."""
        self.bulk_cuts: dict[tuple[ViewId, int], int] = {}
        self.incarnations: dict[int, int] = defaultdict(int)
        self.releases = 0
        self.promises = Promises(self)
        self.install(members)

    # ------------------------------------------------------------------------ local commands

    def arrive(
        self,
        node: int,
        name: str = "all",
        *,
        settings: Settings | None = None,
        parties: Parties | None = None,
        strength: Strength = Strength.AGREED,
        timeout_ns: int | None = None,
        payload: bytes = b"",
        bulk: bool = False,
    ) -> Call:
        """Arrive; the settings follow from the name unless they are given."""
        here = self.nodes[node]
        if parties is not None or strength is not Strength.AGREED:
            settings = Settings(parties if parties is not None else AllParties(), strength)
        wanted = settings or (SETTINGS | PHASERS | DOUBLES)[name]
        if wanted.strength is Strength.SAFE:
            self.have_held(node)
        deadline = None if timeout_ns is None else self.now_ns + timeout_ns
        ticket = here.core.arrive(
            name, wanted, payload=payload, deadline_ns=deadline, now_ns=self.now_ns, bulk=bulk
        )
        call = self._called(here, "arrive", name, ticket, wanted, deadline, payload)
        call.bulk_sent = self.bulk_sent[node] if bulk else 0
        return call

    def have_held(self, node: int) -> None:
        """What a face waits for before a safe arrival: all members have what was sent before."""
        for other in self.nodes:
            self.progress(other, node, self.sent[node])
            self.bulk_progress(other, node, self.bulk_sent[node])

    def _called(
        self,
        here: Node,
        what: str,
        name: str,
        ticket: int,
        settings: Settings,
        deadline: int | None,
        payload: bytes = b"",
    ) -> Call:
        self.steps += 1
        sent = self.sent[here.member.node]
        call = Call(
            what, name, ticket, settings, deadline, self.view.id, sent, 0, self.steps, payload
        )
        here.calls.append(call)
        self._collect(here)
        return call

    def register(self, node: int, name: str = "phaser", *, timeout_ns: int | None = None) -> Call:
        """Register with the settings of the name."""
        here, settings = self.nodes[node], PHASERS[name]
        deadline = None if timeout_ns is None else self.now_ns + timeout_ns
        ticket = here.core.register(name, settings, deadline_ns=deadline, now_ns=self.now_ns)
        return self._called(here, "register", name, ticket, settings, deadline)

    def deregister(
        self, node: int, name: str = "phaser", *, arrive: bool = False, payload: bytes = b""
    ) -> Call:
        """Be registered no more."""
        here, settings = self.nodes[node], PHASERS[name]
        if settings.strength is Strength.SAFE:
            self.have_held(node)
        ticket = here.core.deregister(name, arrive=arrive, payload=payload, deadline_ns=None)
        what = "arrive and quit" if arrive else "quit"
        return self._called(here, what, name, ticket, settings, None, payload)

    def leave(self, node: int, name: str, *, spoil: str = "") -> Call:
        """Leave a double barrier that was entered, or have the others not go on."""
        here = self.nodes[node]
        release = here.entered.pop(name)
        entered = DOUBLES[name]
        settings = Settings(Entered(release.parties), entered.strength, entered.policy)
        leave = names.leave_name(names.base(name), release.generation)
        if not spoil:
            return self.arrive(node, leave, settings=settings)
        here.core.spoil(leave, settings, spoil)
        call = self._called(here, "spoil", leave, -1, settings, None)
        call.abandoned = True
        return call

    def cancel(self, node: int, call: Call) -> None:
        self.nodes[node].core.cancel(call.ticket, now_ns=self.now_ns)
        self._collect(self.nodes[node])

    def abandon(self, node: int, call: Call) -> None:
        call.abandoned = True
        self.nodes[node].core.abandon(call.ticket, now_ns=self.now_ns)
        self._collect(self.nodes[node])

    def detach(self, node: int, reason: str = "lease lost") -> None:
        here = self.nodes[node]
        here.core.detached(reason, now_ns=self.now_ns)
        self._collect(here)
        if any(call.waits for call in here.calls):
            raise Violation("a wait outlived the loss of the lease")

    def send(self, node: int, count: int = 1) -> None:
        """Multicast on the fifo lane."""
        self.sent[node] += count

    def send_bulk(self, node: int, count: int = 1) -> None:
        """Multicast on the bulk lane."""
        self.bulk_sent[node] += count

    # ----------------------------------------------------------------------- what transport does

    def take(self, node: int) -> None:
        here = self.nodes[node]
        here.queue.extend(here.core.take_entries({}))

    def number(self, node: int) -> bool:
        """The transport numbers the oldest entry that a node has published."""
        here = self.nodes[node]
        if not here.queue:
            return False
        outgoing = here.queue.popleft()
        self.order(node, outgoing.payload, safe=outgoing.safe)
        return True

    def order(self, node: int, payload: bytes, *, safe: bool = False) -> None:
        """Put an entry at the end of the agreed log."""
        sender, index = self.nodes[node].member, len(self.log) + 1
        ordered = entry(sender, payload, self.view.id, index, mark=self.sent[node])
        self.log.append(replace(ordered, safe=safe, mark_bulk=self.bulk_sent[node]))

    def deliver(self, node: int) -> bool:
        """Give a node the next entry of the log."""
        here = self.nodes[node]
        if here.cursor == len(self.log):
            return False
        here.core.ordered([self.log[here.cursor]], now_ns=self.now_ns)
        here.cursor += 1
        self._collect(here)
        self.promises.check_agreement(here, self.log[here.cursor - 1])
        digest = here.core.generations(), here.core.rosters(agreed=True)
        if self._digests.setdefault(here.cursor, digest) != digest:
            raise Violation(f"node {node} differs from the others after entry {here.cursor}")
        return True

    def stabilize(self, node: int) -> None:
        """Tell a node what every member of the view holds: as far as somebody asks for it."""
        here = self.nodes[node]
        last = min(it.cursor for it in self.nodes.values())
        while last and not self.log[last - 1].safe:
            last -= 1
        if last:
            here.core.stable(Position(*self.view.id, last), now_ns=self.now_ns)
            self._collect(here)

    def progress(self, node: int, sender: int, upto: int | None = None) -> bool:
        """Give a node fifo messages of a sender: one more, or up to a number."""
        here = self.nodes[node]
        sequence = here.progress[sender] + 1 if upto is None else upto
        if not here.progress[sender] < sequence <= self.sent[sender]:
            return False
        here.progress[sender] = sequence
        here.core.progressed(sender=sender, lane=Lane.FIFO, sequence=sequence, now_ns=self.now_ns)
        self._collect(here)
        return True

    def bulk_progress(self, node: int, sender: int, upto: int | None = None) -> bool:
        """The same on the bulk lane."""
        here = self.nodes[node]
        sequence = here.bulk_progress[sender] + 1 if upto is None else upto
        if not here.bulk_progress[sender] < sequence <= self.bulk_sent[sender]:
            return False
        here.bulk_progress[sender] = sequence
        here.core.progressed(sender=sender, lane=Lane.BULK, sequence=sequence, now_ns=self.now_ns)
        self._collect(here)
        return True

    def wake(self, node: int) -> None:
        here = self.nodes[node]
        here.core.wake(self.now_ns)
        self._collect(here)
        deadline = here.core.next_deadline()
        if deadline is not None and deadline <= self.now_ns:
            raise Violation(f"node {node} wants to be woken at once, again and again")
        for call in here.calls:
            if not call.waits or call.deadline_ns is None or call.deadline_ns > self.now_ns:
                continue
            if call.overdue_ns is None:
                call.overdue_ns = self.now_ns
            elif self.now_ns >= call.overdue_ns + LEASE_NS:
                raise Violation(f"node {node} hangs at {call.name!r} after its deadline")

    def quiesce(self, *, progress: bool = True) -> None:
        """Publish, order and deliver all that there is, then see who is left waiting."""
        busy = True
        while busy:
            busy = False
            for node in self.nodes:
                self.take(node)
                while self.number(node):
                    busy = True
            for node in self.nodes:
                while self.deliver(node):
                    busy = True
                for sender in self.nodes:
                    if progress:
                        self.progress(node, sender, self.sent[sender])
                        self.bulk_progress(node, sender, self.bulk_sent[sender])
        if progress:
            for node in self.nodes:
                self.stabilize(node)
            self.promises.check_liveness()

    def pass_time(self, duration_ns: int) -> None:
        self.now_ns += duration_ns
        for node in self.nodes:
            self.wake(node)

    # --------------------------------------------------------------------------------- views

    def install(
        self,
        members: Collection[int],
        *,
        restarted: Collection[int] = (),
        entries: int | None = None,
        fifo: dict[int, int] | None = None,
        before_install: Callable[[int], None] | None = None,
        started_over: bool = False,
        new_era: bool = False,
        collect: bool = True,
    ) -> ViewInstalled:
        """Change the view.

        `entries` is how much of the log is inside the cut (default: what a survivor has seen,
        at least), `fifo` the same for each sender that leaves.
        """
        old = self.view
        stay = [n for n in self.nodes if n in members and n not in restarted]
        self._flush(stay, entries, fifo or {}, before_install)
        for node in stay:
            for name, nodes in self.nodes[node].core.rosters().items():
                self.promises.survived.update((name, registered) for registered in nodes)
        left = {m.node: "crashed" for m in old.incarnations if m.node not in stay}
        for node in set(self.nodes) - set(stay):
            gone = self.nodes.pop(node)
            self.history[gone.member] = gone.calls
        joined = tuple(sorted(set(members) - set(stay)))
        for node in joined:
            self.incarnations[node] += 1
            member = Member(node, self.incarnations[node])
            self.nodes[node] = Node(member=member, core=self.make(CONFIG, node))
        self.nodes = dict(sorted(self.nodes.items()))
        self.view = View(
            id=ViewId(old.id.era + new_era, old.id.k + 1),
            incarnations=tuple(node.member for node in self.nodes.values()),
            continuing=() if started_over else tuple(stay),
        )
        self.views[self.view.id] = self.view
        event = ViewInstalled(view=self.view, joined=joined, left=left, started_over=started_over)
        self.log, self._digests = [], {}
        self.sent.clear()
        self.bulk_sent.clear()
        for here in self.nodes.values():
            here.core.installed(event, now_ns=self.now_ns)
            here.cursor = 0
            here.progress.clear()
            here.bulk_progress.clear()
            if collect:
                self._collect(here)
        self.promises.confirm({self.nodes[n].member for n in stay})
        return event

    def _flush(
        self,
        stay: list[int],
        entries: int | None,
        fifo: dict[int, int],
        before_install: Callable[[int], None] | None,
    ) -> None:
        seen = max((self.nodes[n].cursor for n in stay), default=0)
        cut = seen if entries is None else max(seen, entries)
        for node in stay:
            while self.nodes[node].cursor < cut:
                self.deliver(node)
            for sender in self.nodes:
                have = max(self.nodes[n].progress[sender] for n in stay)
                whole = self.sent[sender] if sender in stay else max(have, fifo.get(sender, 0))
                self.progress(node, sender, whole)
                self.cuts[self.view.id, sender] = whole
                have = max(self.nodes[n].bulk_progress[sender] for n in stay)
                whole = self.bulk_sent[sender] if sender in stay else have
                self.bulk_progress(node, sender, whole)
                self.bulk_cuts[self.view.id, sender] = whole
            if before_install is not None:
                before_install(node)

    # -------------------------------------------------------------------------------- checks

    def _collect(self, here: Node) -> None:
        for outcome in here.core.take_outcomes():
            call = here.call(outcome.ticket)
            if call.outcome is not None or call.abandoned:
                raise Violation(f"a second outcome for a call at {call.name!r}: {outcome}")
            self.steps += 1
            call.outcome, call.ended = outcome, self.steps
            self.promises.told(here, call)
            if isinstance(outcome, events.Released):
                self.releases += 1
                if call.name in DOUBLES:
                    here.entered[call.name] = outcome.release

    def finish(self) -> None:
        """Let time pass until every wait with a deadline must be over."""
        for _ in range(3):
            self.quiesce()
            self.pass_time(1000 * LEASE_NS)
        self.quiesce()
        self.promises.confirm({node.member for node in self.nodes.values()})
        for here in self.nodes.values():
            for call in here.calls:
                if call.waits and call.deadline_ns is not None:
                    raise Violation(f"{here.member} hangs at {call.name!r}")
