"""Registered parties (a phaser): who is waited for is what the order says."""

from __future__ import annotations

import pytest

from phalanx.barrier.events import Enrolled, Mismatch, Registration, Retired, TimedOut, Unknown
from phalanx.barrier.settings import Policy, Registered, Settings
from phalanx.transport.config import MS
from phalanx.transport.errors import UsageError
from phalanx.transport.events import Member

from .model import Call, Model
from .scenes import broken, drain, released

NAME = "phaser"


def registered(model: Model, *nodes: int, name: str = NAME) -> list[Registration]:
    """Register these nodes one after the other; what they were told."""
    told: list[Registration] = []
    for node in nodes:
        call = model.register(node, name)
        model.quiesce()
        assert isinstance(call.outcome, Enrolled), call.outcome
        told.append(call.outcome.registration)
    return told


def nodes_of(call: Call) -> list[int]:
    """Which nodes were released together."""
    return [party.node for party in released(call).release.parties]


def test_all_who_are_registered_are_waited_for_and_nobody_else() -> None:
    """Membership is one thing, taking part another."""
    model = Model({1, 2, 3})
    registered(model, 1, 2)
    first = model.arrive(1, NAME)
    model.quiesce()
    assert first.outcome is None
    model.arrive(2, NAME)
    model.quiesce()
    assert nodes_of(first) == [1, 2]


def test_who_registers_while_a_generation_is_open_counts_from_the_next() -> None:
    """The parties of a generation are fixed where its first arrival is ordered; a late registrar
    learns that, and who has arrived.
    """
    model = Model({1, 2, 3})
    registered(model, 1, 2)
    first = model.arrive(1, NAME)
    model.quiesce()
    (told,) = registered(model, 3)
    assert (told.parties, told.arrived, told.waited_for) == ((1, 2, 3), (1,), (2,))
    third = model.arrive(3, NAME)
    model.quiesce()
    second = model.arrive(2, NAME)
    model.quiesce()
    assert nodes_of(first) == nodes_of(second) == [1, 2]
    assert third.outcome is None
    following = [model.arrive(node, NAME) for node in (1, 2)]
    model.quiesce()
    assert nodes_of(third) == [1, 2, 3]
    assert released(third).release == released(following[0]).release
    assert told.generation == released(first).release.generation


def test_arriving_and_deregistering_counts_once_more_and_waits_for_nobody() -> None:
    """The last thing that a worker does."""
    model = Model({1, 2})
    registered(model, 1, 2)
    last = model.deregister(2, arrive=True, payload=b"bye")
    model.quiesce()
    assert isinstance(last.outcome, Retired)
    first = model.arrive(1, NAME)
    model.quiesce()
    assert nodes_of(first) == [1, 2]
    assert released(first).release.payloads == {2: b"bye"}
    alone = model.arrive(1, NAME)
    model.quiesce()
    assert nodes_of(alone) == [1]


def test_deregistering_is_an_arrival_only_where_one_is_waited_for() -> None:
    """It opens no generation, and holds up none."""
    model = Model({1, 2, 3})
    registered(model, 1, 2, 3)
    model.deregister(3)
    model.quiesce()
    assert model.nodes[1].core.generations() == []
    first = model.arrive(1, NAME)
    model.quiesce()
    model.deregister(2)
    model.quiesce()
    assert nodes_of(first) == [1, 2]


def test_who_deregisters_is_no_party_of_a_generation_in_which_it_has_not_arrived() -> None:
    """Two are open, and it arrives in one of them: the other one must not wait for it."""
    model = Model({1, 2, 3})
    registered(model, 1, 2)
    old = model.arrive(1, NAME)
    model.quiesce()
    registered(model, 3)
    young = model.arrive(3, NAME)
    model.quiesce()
    model.deregister(2)
    model.quiesce()
    assert nodes_of(old) == [1, 2]
    model.arrive(1, NAME)
    model.quiesce()
    assert nodes_of(young) == [1, 3]


def test_registrations_outlive_views_as_a_whole() -> None:
    """A newcomer that registers and arrives first of all is no generation of its own."""
    model = Model({1, 2})
    registered(model, 1, 2)
    model.install({1, 2, 3})
    newcomer = model.register(3)
    drain(model, 3)  # Its entry is ordered before anything is carried.
    model.quiesce()
    assert isinstance(newcomer.outcome, Enrolled)
    assert newcomer.outcome.registration.parties == (1, 2, 3)
    early = model.arrive(3, NAME)
    model.quiesce()
    assert early.outcome is None
    for node in (1, 2):
        model.arrive(node, NAME)
    model.quiesce()
    assert nodes_of(early) == [1, 2, 3]


def test_a_first_registration_waits_until_everybody_has_said_what_it_knows() -> None:
    """One silent member may know of an older roster."""
    model = Model({1, 2, 3})
    call = model.register(1)
    for node in (1, 2):
        drain(model, node)
        for other in (1, 2):
            while model.deliver(other):
                pass
            drain(model, other)
    assert call.outcome is None
    model.quiesce()
    assert isinstance(call.outcome, Enrolled)


def test_a_registered_party_that_leaves_breaks_shrinks_or_is_waited_for() -> None:
    """By the policy that all of them gave."""
    for name, verdict in (("phaser", None), ("phaser shrink", [1, 2]), ("phaser rejoin", [])):
        model = Model({1, 2, 3})
        registered(model, 1, 2, 3, name=name)
        calls = [model.arrive(node, name) for node in (1, 2)]
        model.quiesce()
        model.install({1, 2})
        model.quiesce()
        if verdict is None:
            assert broken(calls[0]).missing == {3: "left the view: crashed"}
        elif verdict:
            assert nodes_of(calls[0]) == verdict
        else:
            assert calls[0].outcome is None
            model.install({1, 2, 3})
            (told,) = registered(model, 3, name=name)
            assert told.waited_for == (3,)
            model.arrive(3, name)
            model.quiesce()
            assert released(calls[0]).release.parties[-1] == Member(3, 2)


def test_who_left_after_deregistering_breaks_nothing() -> None:
    """A worker is done and goes: that is no failure, although the others are still on their way."""
    model = Model({1, 2, 3})
    registered(model, 1, 2, 3)
    call = model.arrive(1, NAME)
    model.deregister(3, arrive=True)
    model.quiesce()
    model.install({1, 2})
    assert call.outcome is None
    model.arrive(2, NAME)
    model.quiesce()
    assert nodes_of(call) == [1, 2]


def test_a_place_that_is_kept_for_a_rejoin_is_known_to_those_who_never_registered() -> None:
    """Whoever registered may all be gone; who is left says so to newcomers."""
    name = "phaser rejoin"
    model = Model({1, 2})
    registered(model, 1, name=name)
    model.install({2, 3})
    model.quiesce()
    model.install({3, 4})
    (told,) = registered(model, 4, name=name)
    assert told.parties == (1, 4)


def test_registering_with_another_policy_is_a_disagreement() -> None:
    """Both sides are told: who waits, and who registers."""
    model = Model({1, 2, 3})
    registered(model, 1, 2)
    waiting = model.arrive(1, NAME)
    model.quiesce()
    core = model.nodes[3].core
    other = Settings(Registered(), policy=Policy.SHRINK)
    core.register(NAME, other, deadline_ns=None, now_ns=0)
    drain(model, 3)
    for node in (1, 2, 3):
        while model.nodes[node].cursor < len(model.log):
            here = model.nodes[node]
            here.core.ordered([model.log[here.cursor]], now_ns=0)
            here.cursor += 1
    (outcome,) = core.take_outcomes()
    assert isinstance(outcome, Mismatch)
    (told,) = model.nodes[1].core.take_outcomes()
    assert isinstance(told, Mismatch)
    assert (told.ticket, told.theirs) == (waiting.ticket, outcome.ours)


def test_who_comes_without_being_registered_is_turned_away_and_the_others_are_told() -> None:
    """A plain wait at the name of a phaser is a mistake in one of the programs."""
    model = Model({1, 2})
    registered(model, 1)
    call = model.arrive(2, NAME, settings=Settings())
    model.quiesce()
    assert isinstance(call.outcome, Mismatch)
    assert call.outcome.theirs == "registered parties, strength agreed"
    with pytest.raises(UsageError, match="register first"):
        model.arrive(2, NAME)
    with pytest.raises(UsageError, match="already"):
        model.register(1)


def test_a_registration_in_vain_is_taken_back_at_its_deadline() -> None:
    """Nobody must wait for a party that was told that it is none."""
    model = Model({1, 2})
    call = model.register(1, timeout_ns=50 * MS)
    drain(model, 1)
    model.pass_time(50 * MS)
    assert call.outcome is None, "the order says what became of it"
    model.quiesce()
    assert isinstance(call.outcome, TimedOut)
    registered(model, 2)
    alone = model.arrive(2, NAME)
    model.quiesce()
    assert nodes_of(alone) == [2]


def test_a_registration_of_a_detached_node_is_unknown_and_taken_back() -> None:
    """It may have been ordered; as soon as the node acts again it says that it was not meant."""
    model = Model({1, 2})
    call = model.register(1)
    drain(model, 1)
    model.detach(1)
    assert isinstance(call.outcome, Unknown)
    assert call.outcome.outcome == "unknown"
    model.quiesce()
    assert model.nodes[2].core.rosters() == {}


def test_who_registers_anew_after_its_last_arrival_counts_from_the_next_generation_on() -> None:
    """It has arrived for the last time in the one that is open, and does not arrive in it twice."""
    model = Model({1, 2})
    registered(model, 1, 2)
    model.deregister(2, arrive=True, payload=b"bye")
    model.quiesce()
    registered(model, 2)
    back = model.arrive(2, NAME, payload=b"back", timeout_ns=50 * MS)
    model.quiesce()
    model.install({1, 2, 3})
    first = model.arrive(1, NAME)
    model.quiesce()
    assert released(first).release.payloads == {2: b"bye"}
    assert back.outcome is None
    second = model.arrive(1, NAME)
    model.quiesce()
    assert released(back).release == released(second).release
    assert released(back).release.payloads == {2: b"back"}


def test_a_deadline_of_who_registered_anew_breaks_only_what_it_waits_in() -> None:
    """Its last arrival of before was not taken back."""
    model = Model({1, 2})
    registered(model, 1, 2)
    model.deregister(2, arrive=True)
    model.quiesce()
    registered(model, 2)
    back = model.arrive(2, NAME, timeout_ns=50 * MS)
    model.quiesce()
    model.pass_time(50 * MS)
    model.quiesce()
    assert isinstance(back.outcome, TimedOut)
    first = model.arrive(1, NAME)
    model.quiesce()
    assert nodes_of(first) == [1, 2]
