"""Epochs: one order for everybody, whatever arrives when, and never a standstill."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx._native import codec
from phalanx.transport import wire_data
from phalanx.transport.config import Limits
from phalanx.transport.core.batches import Arrived
from phalanx.transport.core.epochs import IN_FLIGHT_MAX, Ending, Epochs
from phalanx.transport.core.ordered import OrderedLane
from phalanx.transport.core.outputs import Ordered, Outputs, Stable
from phalanx.transport.core.streams import InStream, OutStream
from phalanx.transport.events import Lane, Member, View, ViewId
from phalanx.transport.wire_data import Data, Meeting, StreamKey

VIEW_ID = ViewId(1, 1)
Delivery = tuple[int, bytes]


class Node:
    """The ordered lane of one member."""

    def __init__(self, node: int, members: tuple[int, ...]) -> None:
        self.node = node
        self.outputs = Outputs()
        self.lane = OrderedLane(node=node, limits=Limits(), outputs=self.outputs)
        self.own = OutStream(origin=node, addressee=0, lane=Lane.ORDERED, limits=Limits())
        self.own.start([member for member in members if member != node])
        self.ins = {m: InStream(StreamKey(m, 0, Lane.ORDERED)) for m in members}
        self.view = View(id=VIEW_ID, incarnations=tuple(Member(m, 1) for m in members))
        self.lane.start(self.view, self.ins)
        self.order: list[Delivery] = []
        self.safe: list[Delivery] = []
        """What is known to be held by everybody."""

    @property
    def epochs(self) -> Epochs:
        return self.lane.epochs

    def collect(self) -> None:
        """What was delivered, and what has become safe."""
        for item in self.outputs.take()[2]:
            if isinstance(item, Ordered):
                self.order.append((item.sender, item.payloads[0]))
            elif isinstance(item, Stable):
                self.safe = self.order[: item.last]


class Cluster:
    """Members that exchange batches and ENDs over FIFO links of any delay."""

    def __init__(self, size: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.members = tuple(range(1, size + 1))
        self.nodes = {n: Node(n, self.members) for n in self.members}
        self.batches: dict[tuple[int, int], Arrived] = {}
        self.links: dict[tuple[int, int], list[Arrived | Ending]] = {
            (a, b): [] for a in self.members for b in self.members if a != b
        }

    def _tell(self, node: int, items: list[Arrived] | list[Ending]) -> None:
        for other in self.members:
            if other != node:
                self.links[node, other].extend(items)

    def send(self, node: int) -> None:
        """A member numbers a batch, which may close its epoch, or belong to a meeting of all."""
        here = self.nodes[node]
        epochs, stream = here.epochs, here.ins[node]
        sequence = stream.held + 1
        flags = wire_data.SAFE
        if epochs.may_close() and self.random.random() < 0.5:
            flags |= wire_data.END
        meeting = Meeting(self.random.randrange(3), len(self.members), 2**64 - 1)
        lazy = self.random.random() < 0.3
        payload = b"%d" % sequence
        batch = codec.pack_batch([payload])
        data = Data(
            *VIEW_ID,
            *stream.key,
            flags,
            epochs.current,
            sequence,
            0,
            0,
            "",
            0,
            epochs.complete,
            meeting if lazy else None,
        )
        stream.held = sequence
        here.lane.numbered(data, batch, [payload], sequence)
        self.batches[node, sequence] = Arrived(data, batch, 0)
        self._tell(node, [self.batches[node, sequence]])

    def turn(self, node: int) -> None:
        """The end of a member's turn."""
        here = self.nodes[node]
        here.lane.settle(here.own)
        self._tell(node, here.lane.turn(0))
        here.collect()

    def arrive(self, source: int, target: int) -> None:
        """The next thing on a link arrives."""
        item = self.links[source, target].pop(0)
        here = self.nodes[target]
        if isinstance(item, Arrived):
            stream = here.ins[source]
            stream.held = item.data.sequence
            here.lane.arrived(stream, item, 0)
        else:
            here.lane.ended(source, item, 0)
        if self.random.random() < 0.7:
            self.turn(target)

    def step(self) -> None:
        """Something happens."""
        busy = [link for link, items in self.links.items() if items]
        if busy and self.random.random() < 0.7:
            self.arrive(*self.random.choice(busy))
            return
        node = self.random.choice(self.members)
        if self.random.random() < 0.5:
            self.send(node)
        if self.random.random() < 0.1:
            self.nodes[node].epochs.give_up()
        self.turn(node)

    def quiesce(self) -> None:
        """Everything arrives and every turn ends, until nothing is left."""
        for _ in range(10_000):
            busy = [link for link, items in self.links.items() if items]
            if busy:
                self.arrive(*self.random.choice(busy))
                continue
            for node in self.members:
                self.nodes[node].epochs.give_up()
                self.turn(node)
            if not any(self.links.values()):
                return
        raise AssertionError("the epochs never come to rest")

    def sent(self) -> set[Delivery]:
        """All batches that were numbered."""
        return {
            (n, b"%d" % s) for n in self.members for s in range(1, self.nodes[n].ins[n].held + 1)
        }


@given(st.integers(2, 5), st.integers(0, 2**32), st.integers(0, 300))
@settings(deadline=None)
def test_all_deliver_one_order_and_in_the_end_everything(size: int, seed: int, steps: int) -> None:
    """No sequencer: the order is a function of what was sent, not of what arrived when."""
    cluster = Cluster(size, seed)
    for _ in range(steps):
        cluster.step()
        orders = [node.order for node in cluster.nodes.values()]
        longest = max(orders, key=len)
        assert all(order == longest[: len(order)] for order in orders)
    cluster.quiesce()
    for node in cluster.nodes.values():
        assert node.order == cluster.nodes[1].order
        assert set(node.order) == cluster.sent()


@given(st.integers(2, 5), st.integers(0, 2**32), st.integers(0, 300), st.data())
@settings(deadline=None)
def test_at_a_cut_the_remainder_goes_on_where_the_others_are(
    size: int, seed: int, steps: int, data: st.DataObject
) -> None:
    """Some have completed more epochs than others; with the cut, all have delivered the same."""
    cluster = Cluster(size, seed)
    for _ in range(steps):
        cluster.step()
    living = data.draw(st.sets(st.sampled_from(cluster.members), min_size=1))
    alive = [cluster.nodes[n] for n in living]
    cut = {m: max(node.ins[m].held for node in alive) for m in cluster.members}
    for node in alive:
        for member, stream in node.ins.items():
            for sequence in range(stream.held + 1, cut[member] + 1):
                stream.waiting.append(cluster.batches[member, sequence])
        node.lane.finish(lambda member: cut[member])
        node.collect()
    for node in alive:
        assert node.order == alive[0].order
    for member in cluster.members:
        mine = [payload for sender, payload in alive[0].order if sender == member]
        assert mine == [b"%d" % sequence for sequence in range(1, cut[member] + 1)]


@given(st.integers(2, 5), st.integers(0, 2**32), st.integers(0, 300))
@settings(deadline=None)
def test_safe_means_that_every_member_holds_it(size: int, seed: int, steps: int) -> None:
    """What is safe binds members that are cut off a moment later."""
    cluster = Cluster(size, seed)
    for _ in range(steps):
        cluster.step()
        everybody = [set(node.order) for node in cluster.nodes.values()]
        for node in cluster.nodes.values():
            assert all(set(node.safe) <= delivered for delivered in everybody)
    cluster.quiesce()
    for node in cluster.members:
        cluster.send(node)
    cluster.quiesce()
    assert all(len(node.safe) >= len(node.order) - size for node in cluster.nodes.values())


def test_a_member_closes_a_bounded_number_of_epochs_of_its_own_accord() -> None:
    """What is in flight takes memory at everybody."""
    part = Epochs(node=1, members=(1, 2))
    closed = 0
    for sequence in range(1, 100):
        part.numbered(sequence)
        closed += len(part.catch_up())
    assert closed == IN_FLIGHT_MAX


def test_an_idle_member_closes_an_empty_epoch_at_once() -> None:
    """A lone sender waits one round trip for the others, not for their next message."""
    part = Epochs(node=2, members=(1, 2))
    part.see(1)
    assert part.catch_up() == [Ending(1, 0, 0)]
    part.see(1)
    assert part.catch_up() == []


def test_who_is_about_to_speak_leaves_the_epoch_open_for_a_moment() -> None:
    """The arrivals of all parties fall into one epoch, which they close themselves."""
    part = Epochs(node=2, members=(1, 2))
    part.see_lazily(2)
    assert part.catch_up() == [Ending(1, 0, 0)]
    assert part.lazy
    part.numbered(1, ends=True)
    assert not part.lazy
    part.see_lazily(3)
    part.give_up()
    assert part.catch_up() == [Ending(3, 1, 0)]


def test_the_first_place_goes_round() -> None:
    """Nobody is always first."""
    part = Epochs(node=1, members=(1, 2, 3))
    streams = {member: InStream(StreamKey(member, 0, Lane.ORDERED)) for member in (1, 2, 3)}
    firsts: list[int] = []
    for epoch in range(1, 4):
        part.numbered(epoch, ends=True)
        for member in (2, 3):
            part.ended(member, epoch, epoch)
        assert part.step(streams) is None, "the batches are not here"
        for stream in streams.values():
            stream.held = epoch
        ends = part.step(streams)
        assert ends is not None
        firsts.append(next(iter(ends)))
    assert sorted(firsts) == [1, 2, 3]


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_member_that_hears_one_other_late_catches_up(size: int) -> None:
    """The others may be many epochs ahead while one association is renewed."""
    cluster = Cluster(size, 1)
    late = (size, 1)
    for _ in range(3000):
        busy = [link for link, items in cluster.links.items() if items and link != late]
        node = cluster.random.choice(cluster.members)
        cluster.send(node)
        cluster.turn(node)
        while busy:
            cluster.arrive(*cluster.random.choice(busy))
            busy = [link for link, items in cluster.links.items() if items and link != late]
    cluster.quiesce()
    for node in cluster.nodes.values():
        assert len(node.order) == 3000
        assert node.order == cluster.nodes[1].order


def test_ends_of_strangers_count_for_nothing() -> None:
    """An END of a node outside the view must not complete anything."""
    node = Node(1, (1, 2))
    node.lane.ended(9, Ending(1, 0, 5), 0)
    assert node.lane.turn(0) == []
    assert node.epochs.done_without(()) == 0
