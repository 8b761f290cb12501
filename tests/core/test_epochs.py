"""Epochs: one order for everybody, whatever arrives when, and never a standstill."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.transport.core.epochs import IN_FLIGHT_MAX, Ending, Epochs, Slot


class Cluster:
    """Members that exchange batches and ENDs over FIFO links of any delay."""

    def __init__(self, size: int, seed: int) -> None:
        self.random = random.Random(seed)
        self.members = tuple(range(1, size + 1))
        self.epochs = {n: Epochs(node=n, members=self.members) for n in self.members}
        self.order: dict[int, list[Slot]] = {n: [] for n in self.members}
        self.held = {n: dict.fromkeys(self.members, 0) for n in self.members}
        self.links: dict[tuple[int, int], list[Slot | Ending]] = {
            (a, b): [] for a in self.members for b in self.members if a != b
        }

    def _tell(self, node: int, items: list[Slot] | list[Ending]) -> None:
        for other in self.members:
            if other != node:
                self.links[node, other].extend(items)

    def send(self, node: int) -> None:
        """A member numbers a batch, which may close its epoch."""
        part = self.epochs[node]
        ends = part.may_close() and self.random.random() < 0.5
        slot = Slot(node, self.held[node][node] + 1, part.current, ends)
        self.held[node][node] = slot.sequence
        part.numbered(slot.sequence, ends=ends)
        self._tell(node, [slot])
        self._advance(node)

    def close(self, node: int) -> None:
        """The end of a member's turn."""
        self._tell(node, self.epochs[node].close_if_due())
        self._advance(node)

    def arrive(self, source: int, target: int) -> None:
        """The next thing on a link arrives."""
        item = self.links[source, target].pop(0)
        part = self.epochs[target]
        if isinstance(item, Slot):
            self.held[target][source] = item.sequence
            self._tell(target, part.held(item, lazy=self.random.random() < 0.3))
        else:
            self._tell(target, part.ended(source, item))
        self._advance(target)

    def _advance(self, node: int) -> None:
        slots, endings = self.epochs[node].advance(lambda member: self.held[node][member])
        self.order[node].extend(slots)
        self._tell(node, endings)

    def step(self) -> None:
        """Something happens."""
        busy = [link for link, items in self.links.items() if items]
        if busy and self.random.random() < 0.7:
            self.arrive(*self.random.choice(busy))
        else:
            node = self.random.choice(self.members)
            if self.random.random() < 0.5:
                self.send(node)
            self.close(node)
            if self.random.random() < 0.1:
                self.give_up(node)

    def give_up(self, node: int) -> None:
        """Nothing of this member's was about to come."""
        self._tell(node, self.epochs[node].see_lazy())
        self._advance(node)

    def quiesce(self) -> None:
        """Everything arrives and every turn ends, until nothing is left."""
        for _ in range(10_000):
            busy = [link for link, items in self.links.items() if items]
            if busy:
                self.arrive(*self.random.choice(busy))
                continue
            for node in self.members:
                self.close(node)
                self.give_up(node)
            if not any(self.links.values()):
                return
        raise AssertionError("the epochs never come to rest")


@given(st.integers(2, 5), st.integers(0, 2**32), st.integers(0, 300))
@settings(deadline=None)
def test_all_deliver_one_order_and_in_the_end_everything(size: int, seed: int, steps: int) -> None:
    """No sequencer: the order is a function of what was sent, not of what arrived when."""
    cluster = Cluster(size, seed)
    for _ in range(steps):
        cluster.step()
        longest = max(cluster.order.values(), key=len)
        assert all(order == longest[: len(order)] for order in cluster.order.values())
    cluster.quiesce()
    sent = {Slot(n, s, 0)[:2] for n in cluster.members for s in range(1, cluster.held[n][n] + 1)}
    for order in cluster.order.values():
        assert order == cluster.order[1]
        assert {slot[:2] for slot in order} == sent


@given(st.integers(2, 5), st.integers(0, 2**32), st.integers(0, 300), st.data())
@settings(deadline=None)
def test_at_a_cut_the_remainder_goes_on_where_the_others_are(
    size: int, seed: int, steps: int, data: st.DataObject
) -> None:
    """Some have completed more epochs than others; with the cut, all have delivered the same."""
    cluster = Cluster(size, seed)
    for _ in range(steps):
        cluster.step()
    alive = data.draw(st.sets(st.sampled_from(cluster.members), min_size=1))
    cut = {m: max(cluster.held[n][m] for n in alive) for m in cluster.members}
    known = {
        (slot.origin, slot.sequence): slot
        for node in alive
        for slot in cluster.order[node] + cluster.epochs[node].remainder(lambda m: cut[m])
    }
    for node in alive:
        part = cluster.epochs[node]
        for member in cluster.members:
            for sequence in range(part.last_slot(member) + 1, cut[member] + 1):
                part.add(known[member, sequence])
        cluster.order[node].extend(part.remainder(lambda m: cut[m]))
    first = cluster.order[min(alive)]
    for node in alive:
        assert cluster.order[node] == first
    for member in cluster.members:
        mine = [slot.sequence for slot in first if slot.origin == member]
        assert mine == list(range(1, cut[member] + 1))


@given(st.integers(2, 5), st.integers(0, 2**32), st.integers(0, 300))
@settings(deadline=None)
def test_safe_means_that_every_member_holds_it(size: int, seed: int, steps: int) -> None:
    """What is safe binds members that are cut off a moment later."""
    cluster = Cluster(size, seed)
    for _ in range(steps):
        cluster.step()
        complete = min(part.complete for part in cluster.epochs.values())
        assert all(part.done_without(()) <= complete for part in cluster.epochs.values())


def test_a_member_closes_a_bounded_number_of_epochs_of_its_own_accord() -> None:
    """What is in flight takes memory at everybody."""
    part = Epochs(node=1, members=(1, 2))
    closed = 0
    for sequence in range(1, 100):
        part.numbered(sequence)
        closed += len(part.close_if_due())
    assert closed == IN_FLIGHT_MAX


def test_an_idle_member_closes_an_empty_epoch_at_once() -> None:
    """A lone sender waits one round trip for the others, not for their next message."""
    part = Epochs(node=2, members=(1, 2))
    [ending] = part.held(Slot(1, 1, 1))
    assert ending == Ending(1, 0, 0)
    assert part.ended(1, Ending(1, 1, 0)) == []


def test_the_first_place_goes_round() -> None:
    """Nobody is always first."""
    members = (1, 2, 3)
    part = Epochs(node=1, members=members)
    firsts: list[int] = []
    for epoch in range(1, 4):
        part.numbered(epoch)
        part.held(Slot(1, epoch, epoch))
        part.close_if_due()
        for member in (2, 3):
            part.held(Slot(member, epoch, epoch))
            part.ended(member, Ending(epoch, epoch, 0))
        slots, _ = part.advance(lambda _: epoch)  # noqa: B023 - called at once
        firsts.append(slots[0].origin)
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
        cluster.close(node)
        while busy:
            cluster.arrive(*cluster.random.choice(busy))
            busy = [link for link, items in cluster.links.items() if items and link != late]
    cluster.quiesce()
    for node in cluster.members:
        assert len(cluster.order[node]) == 3000
        assert cluster.order[node] == cluster.order[1]


def test_ends_of_strangers_count_for_nothing() -> None:
    """An END of a node outside the view must not complete anything."""
    part = Epochs(node=1, members=(1, 2))
    assert part.ended(9, Ending(1, 0, 5)) == []
    part.member_done(9, 7)
    assert part.done_without(()) == 0
