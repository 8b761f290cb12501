"""Schedules: what one has to tell reaches all, by as many messages as promised, whoever dies."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phalanx.transport.core.ranks import NOBODY, RankSet
from phalanx.transport.core.spread import (
    BEYOND_TABLE,
    GROUP_MAX,
    TABLE,
    TAKES_SOME,
    Forward,
    Kind,
    Spread,
    TreeOfGroups,
    choose,
    group_size,
    make,
)

EVERY_KIND = tuple(Kind)


class Crowd:
    """Ranks that tell each other what they hold, over links that reorder."""

    def __init__(self, kind: Kind, n: int, dice: random.Random, wanted: int | None = None) -> None:
        self.n = n
        self.dice = dice
        self.spreads: list[Spread] = [
            make(kind, n=n, rank=rank, wanted=wanted or n) for rank in range(n)
        ]
        self.flying: list[tuple[int, int, RankSet, bool]] = []
        self.sent = [0] * n
        self.told: dict[tuple[int, int], RankSet] = defaultdict(lambda: NOBODY)
        self.dead: set[int] = set()

    def arrive(self, rank: int) -> None:
        """It has something to tell."""
        self._send(rank, self.spreads[rank].held(RankSet.one(rank)))

    def give_up(self, rank: int) -> None:
        """Its deadline has passed."""
        spread = self.spreads[rank]
        was_complete = spread.complete
        forwards = spread.give_up()
        assert bool(forwards) == (not was_complete and self.n > 1)
        self._send(rank, forwards)

    def deliver(self) -> None:
        """One message of those under way, in any order."""
        place = self.dice.randrange(len(self.flying))
        self.flying[place], self.flying[-1] = self.flying[-1], self.flying[place]
        source, target, what, asks = self.flying.pop()
        if target in self.dead:
            return
        spread = self.spreads[target]
        self._send(target, spread.held(what))
        if asks:
            self._send(target, spread.asked(source, what))

    def deliver_all(self) -> None:
        """Until nothing is under way."""
        while self.flying:
            self.deliver()

    def die(self, rank: int) -> None:
        """At once; of its last messages some still arrive."""
        self.dead.add(rank)
        self.flying = [item for item in self.flying if item[0] != rank or self.dice.random() < 0.5]

    def _send(self, rank: int, forwards: list[Forward]) -> None:
        for forward in forwards:
            assert self.spreads[rank].holds >= forward.what, "it tells what it does not hold"
            assert rank not in forward.to, "it tells itself"
            assert forward.to, "it tells nobody"
            assert forward.what or forward.asks, "it tells nothing"
            self.sent[rank] += len(forward.to)
            for target in forward.to:
                self.flying.append((rank, target, forward.what, forward.asks))
                if not any(spread.given_up for spread in self.spreads):
                    assert self.told[rank, target].isdisjoint(forward.what), "it tells it again"
                self.told[rank, target] |= forward.what


dice = st.randoms(use_true_random=False)
kinds = st.sampled_from(EVERY_KIND)
sizes = st.one_of(st.integers(1, 20), st.integers(21, 70))


@given(kinds, sizes, dice)
@settings(deadline=None)
def test_everything_reaches_everybody_once(kind: Kind, n: int, dice: random.Random) -> None:
    """Whatever arrives in which order, and for any n, not only powers of two."""
    crowd = Crowd(kind, n, dice)
    ranks = list(range(n))
    dice.shuffle(ranks)
    while ranks or crowd.flying:
        if ranks and (not crowd.flying or dice.random() < 0.3):
            crowd.arrive(ranks.pop())
        else:
            crowd.deliver()
        if ranks:
            assert not any(spread.complete for spread in crowd.spreads), "not all have arrived"
    assert all(spread.complete and not spread.missing() for spread in crowd.spreads)
    rounds = (n - 1).bit_length()
    match kind:
        case Kind.ALL_TO_ALL:
            assert crowd.sent == [n - 1] * n
        case Kind.DISSEMINATION:
            assert crowd.sent == [rounds] * n
        case Kind.COORDINATOR | Kind.TREE:
            assert sum(crowd.sent) == 2 * (n - 1)


@given(kinds, st.integers(1, 24), dice, st.data())
@settings(max_examples=300, deadline=None)
def test_after_a_crash_all_that_the_living_hold_reaches_all_of_them(
    kind: Kind, n: int, dice: random.Random, data: st.DataObject
) -> None:
    """Each schedule has ranks on whom others depend; giving up goes round any of them.

    Arrivals, deaths, deadlines and messages come in any order: some give up before others have
    arrived, and some are complete and never give up.
    """
    wanted = data.draw(st.integers(1, n)) if kind in TAKES_SOME else n
    crowd = Crowd(kind, n, dice, wanted)
    doomed = set(dice.sample(range(n), data.draw(st.integers(0, n - 1))))
    doomed |= {0} if data.draw(st.booleans()) and n > 1 else set()
    living = set(range(n)) - doomed
    acts = [(crowd.arrive, rank) for rank in living]
    acts += [(crowd.give_up, rank) for rank in living]
    acts += [(crowd.arrive, rank) for rank in doomed if dice.random() < 0.8]
    dice.shuffle(acts)
    deaths = sorted(doomed)
    dice.shuffle(deaths)
    held_then: dict[int, RankSet] = {}
    while acts or deaths or crowd.flying:
        if acts and (not crowd.flying or dice.random() < 0.3):
            act, rank = acts.pop()
            if rank in crowd.dead:
                continue
            act(rank)
            if act == crowd.give_up:
                alive = set(range(n)) - crowd.dead - doomed
                held_then[rank] = union(crowd, alive)
        elif deaths and (not crowd.flying or dice.random() < 0.1):
            crowd.die(deaths.pop())
        elif crowd.flying:
            crowd.deliver()
    for rank in living:
        spread = crowd.spreads[rank]
        if not spread.complete:
            assert spread.holds >= RankSet.of(living)
            assert spread.holds >= held_then[rank], "somebody who lives held it, and was asked"
            assert set(spread.missing()) <= doomed, "only who died can be missing"


def union(crowd: Crowd, ranks: set[int]) -> RankSet:
    """What any of these hold."""
    found = NOBODY
    for rank in ranks:
        found |= crowd.spreads[rank].holds
    return found


@pytest.mark.parametrize("kind", EVERY_KIND)
@pytest.mark.parametrize("missing", [0, 1, 7, 15])
def test_who_never_comes_is_named_by_everybody(kind: Kind, missing: int) -> None:
    """A barrier that times out says for whom it waits, with each schedule."""
    crowd = Crowd(kind, 16, random.Random(missing))
    for rank in range(16):
        if rank != missing:
            crowd.arrive(rank)
    crowd.deliver_all()
    if kind not in TAKES_SOME:
        assert any(len(spread.missing()) > 1 for spread in crowd.spreads), "nothing to show"
    for rank in range(16):
        if rank != missing:
            crowd.give_up(rank)
    crowd.deliver_all()
    assert all(list(spread.missing()) == [missing] for spread in crowd.spreads)


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_one_that_gives_up_alone_is_answered_by_those_that_wait(kind: Kind) -> None:
    """Deadlines differ, and many arrivals have none: the others must not be named as missing."""
    crowd = Crowd(kind, 16, random.Random(1))
    crowd.die(8)
    for rank in set(range(16)) - {8}:
        crowd.arrive(rank)
    crowd.deliver_all()
    crowd.give_up(5)
    crowd.deliver_all()
    assert list(crowd.spreads[5].missing()) == [8]


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_what_was_lost_is_said_again_to_who_asks_again(kind: Kind) -> None:
    """A give-up may be lost like any message, and with it what all were told then."""
    crowd = Crowd(kind, 2, random.Random(1))
    for rank in range(2):
        crowd.arrive(rank)
    crowd.flying.clear()
    for rank in range(2):
        crowd.give_up(rank)
    crowd.flying = [item for item in crowd.flying if item[1] != 1]
    crowd.deliver_all()
    assert [spread.complete for spread in crowd.spreads] == [True, False]
    crowd.give_up(1)
    crowd.deliver_all()
    assert crowd.spreads[1].complete


def test_who_was_just_told_is_not_answered_as_well() -> None:
    """All give up at about the same time, and each would be answered by all whom it has heard."""
    crowd = Crowd(Kind.ALL_TO_ALL, 3, random.Random(1))
    crowd.die(2)
    for rank in range(2):
        crowd.arrive(rank)
    crowd.flying.clear()
    for lost_to in (1, None):
        before = crowd.sent[0]
        for rank in range(2):
            crowd.give_up(rank)
        crowd.flying = [item for item in crowd.flying if item[1] != lost_to]
        crowd.deliver_all()
        assert crowd.sent[0] == before + 2, "what it tells all, and nothing more"
    assert all(list(crowd.spreads[rank].missing()) == [2] for rank in range(2))


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_a_late_arrival_goes_straight_to_those_that_gave_up(kind: Kind) -> None:
    """They no longer get it by the schedule: who stood between may be gone."""
    crowd = Crowd(kind, 8, random.Random(1))
    crowd.die(0)
    for rank in range(1, 7):
        crowd.arrive(rank)
    for rank in range(1, 7):
        crowd.give_up(rank)
    crowd.deliver_all()
    crowd.arrive(7)
    crowd.deliver_all()
    assert all(list(crowd.spreads[rank].missing()) == [0] for rank in range(1, 8))


def test_some_are_enough_for_a_coordinator() -> None:
    """Three of five meet; the coordinator tells all at once, and a fourth is told as well."""
    crowd = Crowd(Kind.COORDINATOR, 5, random.Random(1), wanted=3)
    for rank in (4, 2):
        crowd.arrive(rank)
    crowd.deliver_all()
    assert not any(spread.complete for spread in crowd.spreads)
    crowd.arrive(3)
    crowd.deliver_all()
    assert all(spread.complete for spread in crowd.spreads)
    assert all(list(spread.holds) == [2, 3, 4] for spread in crowd.spreads)
    crowd.arrive(1)
    crowd.deliver_all()
    assert all(list(spread.holds) == [1, 2, 3, 4] for spread in crowd.spreads)


def test_who_stands_between_others_is_known() -> None:
    """Its suspicion is a reason not to wait for a deadline."""
    relays = {kind: list(make(kind, n=16, rank=5, wanted=16).relays) for kind in EVERY_KIND}
    assert relays == {
        Kind.ALL_TO_ALL: [],
        Kind.COORDINATOR: [0],
        Kind.DISSEMINATION: [rank for rank in range(16) if rank != 5],
        Kind.TREE: [0, 4, 8, 12],
    }


@pytest.mark.parametrize(
    ("n", "group"),
    [(1, 2), (4, 2), (16, 4), (17, 5), (GROUP_MAX**2, GROUP_MAX), (GROUP_MAX**2 + 1, 17)],
)
def test_groups_are_a_root_of_all(n: int, group: int) -> None:
    """Two levels as long as a head can gather its group, then three."""
    assert group_size(n) == group


@given(st.integers(1, 300), st.integers(2, 9), dice)
@settings(max_examples=50, deadline=None)
def test_a_tree_of_any_group_reaches_all(n: int, group: int, dice: random.Random) -> None:
    """Also with many levels, and a last group that is not full."""
    crowd = Crowd(Kind.TREE, n, dice)
    crowd.spreads = [TreeOfGroups(n=n, rank=rank, wanted=n, group=group) for rank in range(n)]
    for rank in range(n):
        crowd.arrive(rank)
    crowd.deliver_all()
    assert all(spread.complete for spread in crowd.spreads)
    assert max(crowd.sent) <= 2 * (group - 1) * (n.bit_length())


def test_the_choice_follows_the_table_to_the_rank() -> None:
    """At each threshold its schedule, one past it the next."""
    kinds = [kind for _, kind in TABLE] + [BEYOND_TABLE]
    for place, (most, kind) in enumerate(TABLE):
        assert choose(most, most) is kind
        assert choose(most + 1, most + 1) is kinds[place + 1]


@given(st.integers(1, 100_000), st.data())
def test_where_some_are_enough_no_schedule_waits_for_all(n: int, data: st.DataObject) -> None:
    """A rank that does not take part would stop dissemination and tree for ever."""
    wanted = data.draw(st.integers(1, n))
    kind = choose(n, wanted)
    assert wanted == n or kind in TAKES_SOME
