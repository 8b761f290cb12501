"""Who leaves the view: broken, shrunk, or waited for; the same for all that go on."""

from __future__ import annotations

import pytest

from phalanx.barrier.generation import NOT_A_MEMBER, NOT_ARRIVED
from phalanx.barrier.settings import Count, Policy, Settings, Strength, named
from phalanx.transport.config import MS
from phalanx.transport.events import Member, Position

from .model import Model
from .scenes import broken, drain, released

SHRINK = Settings(policy=Policy.SHRINK)
REJOIN = Settings(policy=Policy.WAIT_FOR_REJOIN)


def members(*nodes: int) -> tuple[Member, ...]:
    """First starts of these nodes."""
    return tuple(Member(node, 1) for node in nodes)


# --------------------------------------------------------------------------------- shrink


@pytest.mark.parametrize("name", ["shrink", "shrink three", "shrink named"])
def test_a_view_releases_those_who_are_left_when_all_of_them_have_arrived(name: str) -> None:
    """Nobody else will come: the view itself decides, at its place before all of its entries."""
    model = Model({1, 2, 3})
    calls = [model.arrive(1, name), model.arrive(2, name)]
    model.quiesce()
    model.install({1, 2})
    for call in calls:
        assert released(call).release.parties == members(1, 2)
        assert released(call).release.position == Position(1, 2, 0)


@pytest.mark.parametrize("name", ["shrink", "shrink three", "shrink named"])
def test_who_is_left_is_still_waited_for(name: str) -> None:
    """Only who left is no party any more, with its arrival, should it have arrived."""
    model = Model({1, 2, 3})
    calls = [model.arrive(1, name), model.arrive(3, name)]
    model.quiesce()
    model.install({1, 2})
    assert calls[0].outcome is None
    calls.append(model.arrive(2, name))
    model.quiesce()
    assert released(calls[0]).release.parties == members(1, 2)
    assert released(calls[0]).release.generation.k == 1


def test_messages_of_who_left_do_not_matter_to_who_is_left() -> None:
    """With `break` this generation would be broken; here its sender is no party."""
    model = Model({1, 2, 3})
    model.send(3, 2)
    calls = [model.arrive(n, "shrink") for n in (1, 2, 3)]
    model.quiesce(progress=False)
    assert calls[0].outcome is None, "decided, and messages of 3 are not here"
    model.install({1, 2}, fifo={3: 1})
    for call in calls[:2]:
        assert released(call).release.parties == members(1, 2)
        assert released(call).release.position == Position(1, 2, 0)


def test_a_shrunk_count_is_never_larger_than_the_view() -> None:
    """A count waits for nobody in particular: it gives up what nobody is there for."""
    model = Model({1, 2, 3, 4})
    settings = Settings(Count(n=3), policy=Policy.SHRINK)
    call = model.arrive(1, "x", settings=settings)
    model.quiesce()
    model.install({1, 2, 3})
    assert call.outcome is None, "three are there, so three are waited for"
    model.install({1, 2})
    other = model.arrive(2, "x", settings=settings)
    model.quiesce()
    assert released(call).release.parties == released(other).release.parties == members(1, 2)


def test_a_named_node_that_never_was_there_is_not_shrunk_away() -> None:
    """It has not left: it is starting."""
    model = Model({1, 2})
    settings = Settings(named({1, 2, 3}), policy=Policy.SHRINK)
    call = model.arrive(1, "x", settings=settings)
    model.quiesce()
    model.install({1})
    assert call.outcome is None
    assert model.nodes[1].core.missing("x") == {3: NOT_A_MEMBER}


def test_a_node_that_left_and_came_back_is_a_party_of_the_next_generation() -> None:
    """In the one that shrank it is none any more."""
    model = Model({1, 2, 3})
    old = model.arrive(1, "shrink named")
    model.quiesce()
    model.install({1, 2, 3}, restarted={3})
    back = model.arrive(3, "shrink named")
    model.quiesce()
    second = model.arrive(2, "shrink named")
    model.quiesce()
    assert released(old).release.parties == released(second).release.parties == members(1, 2)
    assert back.outcome is None
    following = [model.arrive(n, "shrink named") for n in (1, 2)]
    model.quiesce()
    assert released(back).release == released(following[0]).release


def test_a_view_does_not_release_a_party_without_payloads_that_the_others_hold() -> None:
    """A count that took a newcomer, which has been given nothing of an earlier view yet: what the
    others could return at once has to wait until it could as well.
    """
    model = Model({1, 2})
    settings = Settings(Count(n=3), policy=Policy.SHRINK)
    old = model.arrive(1, "x", settings=settings, payload=b"one")
    model.quiesce()
    model.install({1, 2, 3})
    model.take(1)
    model.number(1)  # It carries, and has not said its payload again.
    newcomer = model.arrive(3, "x", settings=settings)
    drain(model, 3)
    for node in model.nodes:
        while model.deliver(node):
            pass
    model.install({1, 3})
    assert (old.outcome, newcomer.outcome) == (None, None), "3 does not hold what 1 has brought"
    model.quiesce()
    assert released(old).release == released(newcomer).release
    assert released(newcomer).release.payloads == {1: b"one"}
    assert released(newcomer).release.position.index > 0


# ------------------------------------------------------------------------ wait for the rejoin


@pytest.mark.parametrize("name", ["rejoin", "rejoin named"])
def test_a_node_that_left_is_waited_for_and_has_to_arrive_again(name: str) -> None:
    """The process that had arrived does not exist any more, so its arrival is void."""
    model = Model({1, 2, 3})
    calls = [model.arrive(n, name) for n in (1, 3)]
    model.quiesce()
    model.install({1, 2})
    calls.append(model.arrive(2, name))
    model.quiesce()
    assert [call.outcome for call in calls] == [None] * 3
    assert model.nodes[1].core.missing(name) == {3: NOT_A_MEMBER}
    model.install({1, 2, 3})
    model.quiesce()
    assert model.nodes[2].core.missing(name) == {3: NOT_ARRIVED}
    back = model.arrive(3, name)
    model.quiesce()
    for call in (calls[0], calls[2], back):
        assert released(call).release.parties == (*members(1, 2), Member(3, 2))
        assert released(call).release.generation.k == 1


@pytest.mark.parametrize("early", [True, False])
def test_a_node_that_restarts_within_one_view_change_counts_by_its_new_arrival_only(
    early: bool,
) -> None:
    """Killed and back before anybody noticed; its arrival may even be ordered before the others
    have said again that they wait.
    """
    model = Model({1, 2, 3})
    calls = [model.arrive(1, "rejoin"), model.arrive(3, "rejoin", payload=b"old")]
    model.quiesce()
    model.install({1, 2, 3}, restarted={3})
    back = model.arrive(3, "rejoin", payload=b"new")
    if early:
        drain(model, 3)
    model.quiesce()
    assert calls[0].outcome is None
    calls.append(model.arrive(2, "rejoin"))
    model.quiesce()
    release = released(calls[0]).release
    assert release == released(back).release == released(calls[2]).release
    assert release.payloads == {3: b"new"}


def test_a_release_whose_messages_died_with_their_sender_waits_for_its_rejoin() -> None:
    """Nobody has returned it, so it can still wait."""
    model = Model({1, 2, 3})
    model.send(3, 2)
    calls = [model.arrive(n, "rejoin") for n in (1, 2, 3)]
    model.quiesce(progress=False)
    model.install({1, 2}, fifo={3: 1})
    assert calls[0].outcome is None
    model.install({1, 2, 3})
    back = model.arrive(3, "rejoin")
    model.quiesce()
    assert released(calls[0]).release == released(calls[1]).release == released(back).release


def test_a_deadline_bounds_the_waiting_for_a_rejoin() -> None:
    """No hang: the party whose time is up breaks it for all, as ever."""
    model = Model({1, 2, 3})
    calls = [model.arrive(1, "rejoin", timeout_ns=100 * MS), model.arrive(2, "rejoin")]
    model.quiesce()
    model.install({1, 2})
    model.quiesce()
    model.pass_time(100 * MS)
    model.quiesce()
    assert calls[0].outcome is not None
    assert broken(calls[1]).reason == "node 1 timed out"
    assert broken(calls[1]).missing == {3: NOT_A_MEMBER}


# ------------------------------------------------------------------------------------ safe


def test_a_safe_release_waits_until_every_member_holds_it() -> None:
    """Else a member that is cut off with it would be released alone."""
    model = Model({1, 2})
    calls = [model.arrive(1, "safe"), model.arrive(2, "safe")]
    model.quiesce(progress=False)
    core = model.nodes[1].core
    assert calls[0].outcome is None
    assert core.missing("safe") == dict.fromkeys((1, 2), "does not say that it holds the release")
    core.stable(Position(1, 1, 1), now_ns=0)
    assert not core.has_outcomes, "that is before the entry that decided it"
    model.stabilize(1)
    release = released(calls[0]).release
    assert release.token == release.position == Position(1, 1, 2)


def test_a_view_change_makes_a_release_safe() -> None:
    """Whoever goes on holds all of the view before."""
    model = Model({1, 2, 3})
    calls = [model.arrive(n, "safe") for n in (1, 2, 3)]
    model.quiesce(progress=False)
    assert calls[0].outcome is None
    model.install({1, 2})
    assert released(calls[0]).release == released(calls[1]).release
    assert released(calls[0]).release.parties == members(1, 2, 3)


def test_tokens_grow_over_views_and_only_safe_releases_have_one() -> None:
    """Whoever guards a resource compares them: an older holder is refused."""
    model = Model({1, 2})
    tokens: list[Position] = []
    for _ in range(3):
        calls = [model.arrive(1, "safe"), model.arrive(2, "safe"), model.arrive(1, "two")]
        model.arrive(2, "two")
        model.quiesce()
        token = released(calls[0]).release.token
        assert token is not None
        tokens.append(token)
        assert released(calls[2]).release.token is None
        model.install({1, 2})
    assert tokens == sorted(set(tokens))


def test_a_safe_release_whose_members_never_say_that_they_hold_it_ends_in_unknown() -> None:
    """No hang: one lease after the deadline."""
    model = Model({1, 2})
    call = model.arrive(1, settings=Settings(strength=Strength.SAFE), timeout_ns=50 * MS)
    model.arrive(2, settings=Settings(strength=Strength.SAFE))
    model.quiesce(progress=False)
    model.pass_time(50 * MS)
    model.pass_time(1000 * MS)
    assert "not every member" in getattr(call.outcome, "reason", "")
