"""A model of what lies under ordered channels: one agreed log and views; no network.

Several cores share one log per view. Who is given what when is up to whoever drives it: openings,
entries, stability, parts of states and views come to each node in their order, and apart from that
at any time. Each node has an application for each of its channels, which reads the real queue.
What is promised is checked after each step:

* what is read is what the log holds there, without a gap from an opening on;
* applications with state have the same at the same position, whoever gave it to them;
* a safe entry is delivered when every member of the view has been given it, or at the next view;
* the positions that publishers are told are those of their entries;
* when nothing is on its way any more, everything is read and nobody waits for anything.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from phalanx.barrier.channel_items import Entries, StateMade
from phalanx.barrier.channel_messages import CONTROL
from phalanx.barrier.channel_queue import ChannelQueue
from phalanx.barrier.order import ChannelsCore
from phalanx.transport.config import ClusterConfig
from phalanx.transport.events import Member, Position, View, ViewId, ViewInstalled
from phalanx.transport.layers import Ordered

CONFIG = ClusterConfig(name="model", rails=(), nodes=())
ROUNDS_MAX = 200
"""After so many rounds of giving everybody everything, something goes round in circles."""


class Violation(AssertionError):
    """A promise was broken; the message says which."""


class Application:
    """Reads one channel; its state is a chain over all entries it stands for."""

    def __init__(self, model: OrderModel, here: Node, name: str, *, stateful: bool) -> None:
        self._model, self._here, self._name = model, here, name
        self.stateful = stateful
        self.line = b""
        """Whose state it began with; all that took it from each other have the same."""
        self.digest = bytes(32)
        self.padding = b""
        self.last: Position | None = None
        """Of the last entry that was read, or of the opening."""
        self.taken = 0
        self.begun: Position | None = None
        """The opening from which on it reads in this life."""
        self.made: list[StateMade] = []
        """Other members' states, or word that there is none."""
        self.queue = ChannelQueue(
            bytes_max=1 << 30,
            freeze=lambda _: None,
            wanted=lambda position: here.core.wanted(name, position),
            give=lambda position: here.core.give(
                name, position, self.line + self.digest + self.padding
            ),
            take=self._take,
        )

    def _take(self, made: StateMade) -> None:
        self.made.append(made)
        if made.state is not None:
            self.line, self.digest = made.state[:32], made.state[32:64]
            self.taken += 1
        elif self.stateful and not made.too_large:
            # With what it may have had before, and without what it missed.
            self._model.check_founding(self, self._name, made.position)
            self.line = _hash(self.line, f"{self._here.member} {made.position}".encode())
        if (made.position.era, made.position.k) > self._here.after:
            self.begun = made.position

    def read(self, most: int = 1 << 30) -> bool:
        """Read what is ready; whether there was anything."""
        found = False
        while most and (item := self.queue.next_ready()) is not None:
            found, most = True, most - 1
            if isinstance(item, Entries):
                for more, payload in enumerate(item.payloads):
                    self._entry(item.first, more, item.sender, payload)
            elif not isinstance(item, ViewInstalled):
                self.last = item.position
        return found

    def _entry(self, first: Position, more: int, sender: int, payload: bytes) -> None:
        at = Position(first.era, first.k, first.index + more)
        if self.last is None:
            raise Violation(f"{self._here.member} reads {at} before the opening")
        expected = self._model.next_entry(self._name, self.last, self._here)
        if expected != (at, sender, payload):
            raise Violation(
                f"{self._here.member} reads {payload!r} at {at} after {self.last}, not {expected}"
            )
        said = f"{at} {sender}".encode() + payload
        self.digest = _hash(self.digest, said)
        self.last = at
        if self.stateful:
            where = (self._name, at, self.line)
            known = self._model.digests.setdefault(where, self.digest)
            if known != self.digest:
                raise Violation(f"{self._here.member} has another state at {at} of {self._name!r}")


@dataclass
class Node:
    """One process; it may live several lives."""

    member: Member
    core: ChannelsCore
    layered: bool = True
    """Whether it carries ordered channels at all."""
    cursor: int = 0
    """Batches of this view's log that it was given."""
    safe_until: int = 0
    pending: deque[Ordered] = field(default_factory=deque[Ordered])
    """Accepted by the transport and not numbered yet."""
    directed: deque[tuple[int, bytes]] = field(default_factory=deque[tuple[int, bytes]])
    """On its way to this node."""
    tokens: int = 0
    published: dict[int, bytes] = field(default_factory=dict[int, bytes])
    told: dict[int, Position] = field(default_factory=dict[int, Position])
    applications: dict[str, Application] = field(default_factory=dict[str, Application])
    been_in: set[ViewId] = field(default_factory=set[ViewId])
    """Views that this process went on from."""

    after: tuple[int, int] = (0, 0)
    """The view after which this life began."""

    def begin_anew(self, after: ViewId) -> None:
        """Its channels begin again, in another order."""
        self.after = after
        for application in self.applications.values():
            application.begun = None


class OrderModel:
    """Several cores and what they are told; every method checks what it can."""

    def __init__(
        self,
        members: Collection[int],
        *,
        unlayered: Collection[int] = (),
        config: ClusterConfig = CONFIG,
    ) -> None:
        self._config = config
        self.too_slow = False
        """Somebody answers later than it is waited for, and then its state counts for nothing."""
        self.now_ns = 0
        self.nodes: dict[int, Node] = {}
        self.away: dict[int, Node] = {}
        """Processes that are in no view just now."""
        self.log: list[Ordered] = []
        self.digests: dict[tuple[str, Position, bytes], bytes] = {}
        self.safe: set[bytes] = set()
        self._unlayered = unlayered
        self._logs: dict[ViewId, list[Ordered]] = {}
        self._cuts: dict[ViewId, int] = {}
        self._incarnations: dict[int, int] = {}
        self._count = 0
        self.view = View(id=ViewId(1, 0), incarnations=())
        self.change_view(members)

    # ------------------------------------------------------------------------ local commands

    def open(self, node: int, name: str, *, stateful: bool) -> Application:
        here = self._find(node)
        here.core.open(name, takes=stateful, gives=stateful)
        application = Application(self, here, name, stateful=stateful)
        here.applications[name] = application
        return application

    def close(self, node: int, name: str) -> None:
        here = self._find(node)
        here.core.close(name)
        del here.applications[name]

    def publish(self, node: int, name: str, count: int = 1, *, safe: bool = False) -> None:
        here = self.nodes[node]
        payloads: list[bytes] = []
        for _ in range(count):
            self._count += 1
            here.tokens += 1
            payloads.append(b"%d of %d" % (self._count, node))
            here.published[here.tokens] = payloads[-1]
        if safe:
            self.safe.update(payloads)
        self._accept(here, name, payloads, safe=safe, token=here.tokens)

    def say(self, node: int, payload: bytes) -> None:
        """An entry among those of the layer itself, as no honest core sends it."""
        self._accept(self.nodes[node], CONTROL, [payload], safe=False, token=0)

    def _accept(
        self, here: Node, channel: str, payloads: list[bytes], *, safe: bool, token: int
    ) -> None:
        node, incarnation = here.member
        here.pending.append(
            Ordered(node, incarnation, channel, payloads, self.view.id, 0, 0, 0, 0, safe, token)
        )

    # ----------------------------------------------------------------------- what transport does

    def take(self, node: int) -> bool:
        """The pump takes what the core of a node wants to say."""
        here = self.nodes[node]
        if not here.layered:
            return False
        entries = here.core.take_entries({})
        for entry in entries:
            channel = entry.channel.decode()
            self._accept(here, channel, [entry.payload], safe=entry.safe, token=0)
        waiting = here.core.take_directed()
        found = bool(entries or waiting)
        while waiting:
            addressee, payload = waiting.popleft()
            if addressee in self.nodes:
                self.nodes[addressee].directed.append((node, payload))
        return found

    def number(self, node: int) -> bool:
        """The oldest batch that a node has accepted gets its place at the end of the log."""
        here = self.nodes[node]
        if not here.pending:
            return False
        last = self.log[-1] if self.log else None
        first = last.first + len(last.payloads) if last is not None else 1
        self.log.append(replace(here.pending.popleft(), view_id=self.view.id, first=first))
        return True

    def deliver(self, node: int) -> bool:
        """Give a node the next batch of the log."""
        here = self.nodes[node]
        if here.cursor == len(self.log):
            return False
        batch = self.log[here.cursor]
        here.cursor += 1
        if here.layered:
            token = batch.token if batch.sender == node else 0
            here.core.ordered([replace(batch, token=token)], now_ns=self.now_ns)
            self._collect(here)
        return True

    def tell_stable(self, node: int) -> bool:
        """Tell a node what every member has been given by now."""
        here = self.nodes[node]
        held = min(it.cursor for it in self.nodes.values())
        last = max((_last(batch) for batch in self.log[:held] if batch.safe), default=0)
        if last <= here.safe_until:
            return False
        here.safe_until = last
        if here.layered:
            here.core.stable(Position(*self.view.id, last), now_ns=self.now_ns)
            self._collect(here)
        return True

    def direct(self, node: int) -> bool:
        """Give a node the next of what others have sent to it alone."""
        here = self.nodes[node]
        if not here.directed:
            return False
        sender, payload = here.directed.popleft()
        if here.layered:
            here.core.directed(sender, [payload], now_ns=self.now_ns)
            self._collect(here)
        return True

    def read(self, node: int, name: str, most: int = 1 << 30) -> bool:
        """An application reads on; leaving it alone is reading nothing."""
        return self.nodes[node].applications[name].read(most)

    def pass_time(self, duration_ns: int) -> None:
        self.now_ns += duration_ns
        for here in self.nodes.values():
            here.core.wake(self.now_ns)
            deadline = here.core.next_deadline()
            if deadline is not None and deadline <= self.now_ns:
                raise Violation(f"{here.member} wants to be woken at once, again and again")
            self._collect(here)

    def quiesce(self) -> None:
        """Give everybody everything until there is nothing more."""
        for _ in range(ROUNDS_MAX):
            found = [self._round(node) for node in self.nodes]
            if not any(found):
                return
        raise Violation("they go round in circles")

    def _round(self, node: int) -> bool:
        found = self.take(node)
        for step in (self.number, self.deliver, self.tell_stable, self.direct):
            while step(node):
                found = True
        return any([found, *(it.read() for it in self.nodes[node].applications.values())])

    # --------------------------------------------------------------------------------- views

    def change_view(
        self,
        members: Collection[int],
        *,
        restarted: Collection[int] = (),
        anew: Collection[int] = (),
        start_over: int = 0,
        more: int = 0,
    ) -> None:
        """Install a view.

        Those `restarted` have lost their process, those `anew` only their membership. Of the log
        the cut holds what anybody has been given and what is of those who go on, and `more`.
        With `start_over` nobody continues, and everybody begins with the state of that node.
        """
        before = self.view
        stay = [n for n in self.nodes if n in members and n not in restarted and n not in anew]
        self._flush(stay, more)
        for node in set(self.nodes) - set(stay):
            gone = self.nodes.pop(node)
            gone.core.detached("evicted", now_ns=self.now_ns)
            if node not in restarted:
                self.away[node] = gone
        for node in restarted:
            self.away.pop(node, None)
        for node in set(members) - set(stay):
            self.nodes[node] = self._begin(node)
        self.nodes = dict(sorted(self.nodes.items()))
        self.view = View(
            id=ViewId(before.id.era, before.id.k + 1),
            incarnations=tuple(here.member for here in self.nodes.values()),
            continuing=() if start_over else tuple(stay),
        )
        event = ViewInstalled(
            view=self.view,
            joined=tuple(set(members) - set(stay)),
            left={m.node: "gone" for m in before.incarnations if m.node not in stay},
            started_over=bool(start_over),
            donor=start_over or (min(stay) if stay and len(stay) < len(self.nodes) else 0),
        )
        self.log = self._logs[self.view.id] = []
        for node, here in self.nodes.items():
            here.cursor = here.safe_until = 0
            if start_over not in (0, node):
                here.begin_anew(before.id)
            if node in stay:
                here.been_in.add(before.id)
            if here.layered:
                here.core.installed(event, now_ns=self.now_ns)
                self._collect(here, at_view_change=True)

    def _begin(self, node: int) -> Node:
        """A process joins: a new one, or one that was in an earlier view."""
        incarnation = self._incarnations[node] = self._incarnations.get(node, 0) + 1
        here = self.away.pop(node, None)
        if here is None:
            core = ChannelsCore(self._config, node)
            return Node(Member(node, incarnation), core, node not in self._unlayered)
        here.member = Member(node, incarnation)
        here.begin_anew(self.view.id)
        here.pending.clear()
        here.directed.clear()
        return here

    def _flush(self, stay: list[int], more: int) -> None:
        """Those who go on are given everything up to the cut."""
        given = max((self.nodes[n].cursor for n in stay), default=0)
        own = [place for place, batch in enumerate(self.log, 1) if batch.sender in stay]
        cut = min(len(self.log), max(given, *own, 0) + more) if own else given
        self._cuts[self.view.id] = cut
        for node in stay:
            while self.nodes[node].cursor < cut:
                self.deliver(node)
        del self.log[max(cut, max((it.cursor for it in self.nodes.values()), default=0)) :]

    # -------------------------------------------------------------------------------- checks

    def check_founding(self, one: Application, name: str, at: Position) -> None:
        """Nobody begins without state while there is a member that has it."""
        if self.too_slow:
            return
        for here in self.nodes.values():
            other = here.applications.get(name)
            begun = other.begun if other is not None and other is not one else None
            if begun is not None and begun < at:
                raise Violation(f"{name!r} begins at {at} without the state of {here.member}")

    def _find(self, node: int) -> Node:
        return self.nodes.get(node) or self.away[node]

    def next_entry(
        self, name: str, after: Position, here: Node
    ) -> tuple[Position, int, bytes] | None:
        """The entry of a channel that a node has to read next."""
        for view_id, log in self._logs.items():
            if view_id < (after.era, after.k):
                continue
            cut = self._cuts.get(view_id)
            whole = log if cut is None or view_id not in here.been_in else log[:cut]
            for batch in whole:
                for index, payload in enumerate(batch.payloads, batch.first):
                    at = Position(*view_id, index)
                    if batch.channel == name and at > after:
                        return at, batch.sender, payload
        return None

    def _collect(self, here: Node, *, at_view_change: bool = False) -> None:
        held = min(it.cursor for it in self.nodes.values())
        upto = _last(self.log[held - 1]) if held else 0
        for name, item in here.core.take_items():
            if isinstance(item, Entries) and not at_view_change:
                last = item.first.index + len(item.payloads) - 1
                if self.safe.intersection(item.payloads) and last > upto:
                    raise Violation(f"{here.member} is given {item} before all hold it")
            if name in here.applications:
                here.applications[name].queue.put(item)
        for published in here.core.take_published():
            first_token = published.last_token - published.number + 1
            for more in range(published.number):
                first = published.first
                at = Position(first.era, first.k, first.index + more)
                payload = here.published.pop(first_token + more)
                if self._at(at) != payload:
                    raise Violation(f"{here.member} is told that {payload!r} is at {at}")

    def _at(self, at: Position) -> bytes | None:
        for batch in self._logs[ViewId(at.era, at.k)]:
            if 0 <= at.index - batch.first < len(batch.payloads):
                return batch.payloads[at.index - batch.first]
        return None

    def finish(self) -> None:
        """Let everything arrive, and see who is left waiting."""
        self.quiesce()
        self.pass_time(CONFIG.timing.call_timeout_ns)
        self.quiesce()
        for here in self.nodes.values():
            if here.core.stats()["held_back"]:
                raise Violation(f"{here.member} holds something back for ever")
            for name, application in here.applications.items():
                if application.queue.stats()["items"]:
                    raise Violation(f"{here.member} does not get on in {name!r}")
                if here.layered and application.last is None:
                    raise Violation(f"{here.member} never opened {name!r}")
                last = application.last
                lacking = self.next_entry(name, last, here) if last is not None else None
                if lacking is not None:
                    raise Violation(f"{here.member} never reads {lacking} of {name!r}")
        for name in {name for here in self.nodes.values() for name in here.applications}:
            states = {
                (here.applications[name].line, here.applications[name].digest)
                for here in self.nodes.values()
                if name in here.applications and here.applications[name].stateful
            }
            if len(states) > 1 and not self.too_slow:
                raise Violation(f"in the end there are {len(states)} states of {name!r}")


def _hash(chain: bytes, said: bytes) -> bytes:
    return hashlib.sha256(chain + said).digest()


def _last(batch: Ordered) -> int:
    return batch.first + len(batch.payloads) - 1
