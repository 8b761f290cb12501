"""Every way in which a barrier may end, on real processes and rails.

Whatever happens, all who go on are told the same of a generation: the verdict, the reason, who is
missing; and nobody waits past its deadline and one lease. The histories of each test are judged
by the checkers as well (`Fleet.settle`, and the end of each test).
"""

from __future__ import annotations

import signal
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest

from phalanx.transport.testing.lab import Lab

from .harness import MS, Fleet, now_ns
from .outcomes import (
    DIED,
    LONG_S,
    answers,
    await_arrivals,
    begin,
    come_together,
    meet,
    others_than,
    same_outcome,
)
from .reports import DieAt

pytestmark = pytest.mark.netns

PARTING_NS = 2 * MS
"""How much later the last one arrives each time, as the rails are cut."""


# ---------------------------------------------------------------------------- a party crashes


@pytest.mark.parametrize("host", ["echo", "alpha"])
def test_a_party_that_crashes_before_it_arrives_breaks_it(five: Fleet, host: str) -> None:
    """Nobody waits for the dead, be it the proposer of the next view."""
    others, dead = others_than(five, host), five[host].id
    asked = begin(five, others, "before", timeout_s=LONG_S)
    await_arrivals(five, "before", others, at=others)
    five[host].kill()
    outcome = same_outcome(answers(five, asked))
    assert not outcome.released
    assert outcome.missing == {dead: DIED}
    assert outcome.reason == f"node {dead} {DIED}"
    come_together(five)


@pytest.mark.parametrize("policy", ["break", "shrink", "wait_for_rejoin"])
def test_a_party_that_crashes_after_it_has_arrived(five: Fleet, policy: str) -> None:
    """Its arrival counts no more: the policy says what that means, the same to all."""
    dead, late = "echo", "bravo"
    first = others_than(five, late)
    waiting = others_than(five, late, dead)
    incarnations = meet(five, five.hosts, "all").incarnations
    order = {"timeout_s": LONG_S, "policy": policy}
    asked = begin(five, first, "after", payload="old", **order)
    await_arrivals(five, "after", first, at=five.hosts)
    killed_ns = five[dead].kill()
    asked.pop(dead)
    if policy == "break":
        outcome = same_outcome(answers(five, asked))
        assert not outcome.released
        assert outcome.missing == {five[dead].id: DIED}
        come_together(five)
        return
    five.await_view([five[host].id for host in (*waiting, late)], waiting, killed_ns)
    if policy == "wait_for_rejoin":
        five.start(dead)
        five.await_whole()
        asked |= begin(five, [dead], "after", payload="new", **order)
        await_arrivals(five, "after", [dead], at=[late])
    asked |= begin(five, [late], "after", **order)
    outcome = same_outcome(answers(five, asked))
    assert outcome.released
    if policy == "shrink":
        assert outcome.incarnations == incarnations[:-1]
        assert outcome.payloads == {five[host].id: "old" for host in waiting}
    else:
        assert outcome.incarnations[:-1] == incarnations[:-1]
        assert outcome.incarnations[-1] > incarnations[-1], "its next start has arrived"
        assert outcome.payloads[five[dead].id] == "new"
    come_together(five)


def test_a_number_of_parties_misses_only_who_has_arrived(five: Fleet) -> None:
    """Whoever comes makes up the number; one that dies before it came is none of them."""
    first, late, dead = ("alpha", "bravo"), ("charlie", "delta"), "echo"
    order = {"timeout_s": LONG_S, "parties": 4}
    asked = begin(five, first, "four", **order)
    await_arrivals(five, "four", first, at=five.hosts)
    killed_ns = five[dead].kill()
    others = others_than(five, dead)
    five.await_view([five[host].id for host in others], others, killed_ns)
    asked |= begin(five, late[:1], "four", **order)
    await_arrivals(five, "four", late[:1], at=others)
    assert not any(five[host].answered(number) for host, number in asked.items())
    asked |= begin(five, late[1:], "four", **order)
    assert same_outcome(answers(five, asked)).released
    come_together(five)


def test_a_deadline_names_everybody_who_is_missing(five: Fleet) -> None:
    """Two deadlines pass at once: the order says which one it was, and the other is told so."""
    first = ("alpha", "bravo")
    asked = begin(five, first, "deadline", timeout_s=0.3)
    told = answers(five, asked)
    outcome = same_outcome(told)
    assert outcome.missing == {five[h].id: "not arrived" for h in others_than(five, *first)}
    [hasty] = [host for host in first if told[host].error == "BarrierTimeout"]
    assert outcome.reason == f"node {five[hasty].id} timed out"
    five.settle()


@pytest.mark.parametrize("policy", ["break", "wait_for_rejoin"])
def test_a_party_is_killed_and_restarted_within_one_generation(five: Fleet, policy: str) -> None:
    """Both starts have the same node id, and what the first has said is not the second one's."""
    host, late = "delta", "alpha"
    first = others_than(five, late)
    before = meet(five, five.hosts, "all")
    order = {"timeout_s": LONG_S, "policy": policy}
    asked = begin(five, first, "twice", **order)
    await_arrivals(five, "twice", first, at=five.hosts)
    five[host].kill()
    del asked[host]
    five.start(host)
    if policy == "break":
        outcome = same_outcome(answers(five, asked))
        assert list(outcome.missing) == [five[host].id]
        five.await_whole()
        again = meet(five, five.hosts, "twice", **order)
        assert again.generation > outcome.generation
        come_together(five)
        return
    five.await_whole()
    asked |= begin(five, [late], "twice", **order)
    await_arrivals(five, "twice", [late], at=[host])
    assert not any(five[other].answered(number) for other, number in asked.items())
    asked |= begin(five, [host], "twice", **order)
    outcome = same_outcome(answers(five, asked))
    assert outcome.released
    changed = [a != b for a, b in zip(before.incarnations, outcome.incarnations, strict=True)]
    assert changed == [other == host for other in five.hosts]
    come_together(five)


# ------------------------------------------------------------------ after release, before others


@contextmanager
def lost(lab: Lab, host: str, *rule: str) -> Generator[None, None, None]:
    """Packets of a host are dropped, by one command: there is less than a lease for the rest."""
    lab.run(host, ["iptables", "-w", "-A", *rule, "-j", "DROP"])
    try:
        yield
    finally:
        lab.run(host, ["iptables", "-w", "-D", *rule, "-j", "DROP"])


def mute(lab: Lab, host: str) -> AbstractContextManager[None]:
    """Nothing that it says is heard any more; it hears everybody."""
    return lost(lab, host, "OUTPUT")


def deaf(lab: Lab, host: str, other: str) -> AbstractContextManager[None]:
    """It does not hear one other any more."""
    addresses = ",".join(lab.address(rail, other) for rail in lab.rails)
    return lost(lab, host, "INPUT", "-s", addresses)


@pytest.mark.parametrize("size", ["trio", "five"])
def test_a_party_crashes_after_its_release_before_others_saw_it(
    request: pytest.FixtureRequest, size: str
) -> None:
    """It alone has the ENDs of all. The others hold all arrivals, and the cut releases them."""
    fleet: Fleet = request.getfixturevalue(size)
    host, late = "alpha", "charlie"
    first, others = others_than(fleet, late), others_than(fleet, host)
    asked = begin(fleet, first, "seen", timeout_s=LONG_S)
    await_arrivals(fleet, "seen", first, at=fleet.hosts)
    with mute(fleet.lab, host):
        asked |= begin(fleet, [late], "seen", timeout_s=LONG_S)
        released = answers(fleet, {host: asked.pop(host)})
        killed_ns = fleet[host].kill()
    told = answers(fleet, asked)
    assert min(answer.at_ns for answer in told.values()) > killed_ns, "nobody else had seen it"
    outcome = same_outcome(released | told)
    assert outcome.released
    fleet.await_view([fleet[other].id for other in others], others, killed_ns)
    come_together(fleet)


def test_two_are_released_and_one_of_them_crashes_before_the_third_saw_it(trio: Fleet) -> None:
    """The third fetches from the other what the dead one has said to that one alone."""
    dead, hard = "charlie", "bravo"
    first = others_than(trio, dead)
    asked = begin(trio, first, "heard", timeout_s=LONG_S)
    await_arrivals(trio, "heard", first, at=trio.hosts)
    with deaf(trio.lab, hard, dead):
        asked |= begin(trio, [dead], "heard", timeout_s=LONG_S)
        released = answers(trio, {host: asked[host] for host in others_than(trio, hard)})
        killed_ns = trio[dead].kill()
        told = answers(trio, {hard: asked[hard]})
    assert told[hard].at_ns > killed_ns, "it had not seen it"
    assert same_outcome(released | told).released
    come_together(trio)


def test_who_saw_a_release_dies_with_the_last_who_arrived(five: Fleet) -> None:
    """The others did not hear its arrival themselves; they have it from the relay, or not at all.

    All who go on are told the same: the release that the dead one saw, or who is dead.
    """
    host, late = "alpha", "charlie"
    first, others = others_than(five, late), others_than(five, host, late)
    asked = begin(five, first, "lost", timeout_s=LONG_S)
    await_arrivals(five, "lost", first, at=five.hosts)
    with ExitStack() as stack:
        for other in others:
            stack.enter_context(deaf(five.lab, other, late))
        asked |= begin(five, [late], "lost", timeout_s=LONG_S)
        seen = same_outcome(answers(five, {host: asked.pop(host)}))
        five[host].kill()
        five[late].kill()
    assert seen.released
    del asked[late]
    outcome = same_outcome(answers(five, asked))
    if outcome.released:
        assert outcome == seen
    else:
        assert outcome.generation == seen.generation
        assert sorted(outcome.missing) == [five[host].id, five[late].id]
    come_together(five)


def test_a_safe_release_waits_until_all_hold_it(five: Fleet) -> None:
    """Who is not heard is told no release, for the others may yet be told something else."""
    host, late = "alpha", "charlie"
    first, others = others_than(five, late), others_than(five, host)
    order = {"timeout_s": LONG_S, "strength": "safe"}
    asked = begin(five, first, "held", **order)
    await_arrivals(five, "held", first, at=five.hosts)
    muted_ns = now_ns()
    with mute(five.lab, host):
        asked |= begin(five, [late], "held", **order)
        lost = answers(five, {host: asked.pop(host)})[host]
        assert (lost.error, lost.outcome) == ("NoQuorum", "unknown")
        same_outcome(answers(five, asked))
        five.await_view([five[other].id for other in others], others, muted_ns)
    five[host].await_event("Rejoined", muted_ns)
    come_together(five)


@pytest.mark.parametrize("kinds", [["Prepare"], ["Hold", "Accept"], ["Install"]])
def test_a_release_outlives_the_proposer_of_the_flush_that_tells_it(
    five: Fleet, kinds: list[str]
) -> None:
    """One is released and dies unheard, and so does who proposes the view without it."""
    host, proposer, late = "alpha", "bravo", "charlie"
    first = others_than(five, late)
    asked = begin(five, first, "told", timeout_s=LONG_S)
    await_arrivals(five, "told", first, at=five.hosts)
    five[proposer].ask(DieAt(kinds=kinds))
    with mute(five.lab, host):
        asked |= begin(five, [late], "told", timeout_s=LONG_S)
        seen = same_outcome(answers(five, {host: asked.pop(host)}))
        five[host].kill()
    del asked[proposer]
    assert five[proposer].await_end() == -signal.SIGKILL
    five[proposer].ended()
    assert seen.released
    assert same_outcome(answers(five, asked)) == seen
    come_together(five)


# ------------------------------------------------------------------------------ the view changes


@pytest.mark.parametrize("kinds", [["Prepare"], ["Hold", "Accept"], ["Install"]])
def test_the_proposer_crashes_during_the_flush(five: Fleet, kinds: list[str]) -> None:
    """Two changes of the view become one, or follow each other: to a barrier it is the same.

    It dies instead of sending its first PREPARE, when all have reported, or when all have accepted.
    """
    proposer, dead = "alpha", "echo"
    waiting = others_than(five, dead)
    asked = begin(five, waiting, "flush", timeout_s=LONG_S)
    await_arrivals(five, "flush", waiting, at=waiting)
    five[proposer].ask(DieAt(kinds=kinds))
    del asked[proposer]
    five[dead].kill()
    assert five[proposer].await_end() == -signal.SIGKILL
    five[proposer].ended()
    outcome = same_outcome(answers(five, asked))
    assert not outcome.released
    gone = {five[dead].id, five[proposer].id}
    # Where the first leaving was decided already, the barrier has ended by that alone.
    assert five[dead].id in outcome.missing
    assert set(outcome.missing) <= gone
    come_together(five)


@pytest.mark.parametrize("strength", ["agreed", "safe"])
def test_a_partition_with_a_party_on_each_side(five: Fleet, strength: str) -> None:
    """The majority is told who is missing; the minority does not know, and says so in time."""
    minority, late = ["delta", "echo"], "charlie"
    waiting = others_than(five, late)
    order = {"timeout_s": LONG_S, "strength": strength}
    asked = begin(five, waiting, "parted", **order)
    await_arrivals(five, "parted", waiting, at=waiting)
    parted_ns = now_ns()
    five.lab.partition([minority])
    lost = answers(five, {host: asked.pop(host) for host in minority})
    for answer in lost.values():
        assert (answer.error, answer.outcome) == ("NoQuorum", "unknown")
    outcome = same_outcome(answers(five, asked))
    assert not outcome.released
    assert sorted(outcome.missing) == [five[host].id for host in minority]
    five.lab.partition([])
    for host in minority:
        five[host].await_event("Rejoined", parted_ns)
    come_together(five)


def test_a_partition_as_the_last_one_arrives(five: Fleet) -> None:
    """Strength `safe`: who is told a release is told the same one on either side."""
    minority, late = ["alpha", "bravo"], "echo"
    for turn in range(3):
        waiting = others_than(five, late)
        order = {"timeout_s": LONG_S, "strength": "safe"}
        asked = begin(five, waiting, "torn", **order)
        await_arrivals(five, "torn", waiting, at=waiting)
        asked |= begin(five, [late], "torn", at_ns=now_ns() + turn * PARTING_NS, **order)
        parted_ns = now_ns()
        five.lab.partition([minority])
        told = answers(five, asked)
        same_outcome({h: it for h, it in told.items() if h not in minority})
        same_outcome({h: it for h, it in told.items() if it.error != "NoQuorum"})
        majority = others_than(five, *minority)
        five.await_view([five[host].id for host in majority], majority, parted_ns)
        five.lab.partition([])
        for host in minority:
            five[host].await_event("Rejoined", parted_ns)
        come_together(five)


def test_a_generation_is_not_reused_after_a_rejoin(trio: Fleet) -> None:
    """Who was evicted while it waited counts nowhere until it arrives anew."""
    away, late = "charlie", "bravo"
    first, others = others_than(trio, late), others_than(trio, away)
    before = meet(trio, trio.hosts, "again")
    asked = begin(trio, first, "again", timeout_s=LONG_S)
    await_arrivals(trio, "again", first, at=trio.hosts)
    parted_ns = now_ns()
    trio.lab.partition([[away]])
    lost = answers(trio, {away: asked.pop(away)})[away]
    assert (lost.error, lost.outcome) == ("NoQuorum", "unknown")
    outcome = same_outcome(answers(trio, asked))
    assert list(outcome.missing) == [trio[away].id]
    middle = meet(trio, others, "again")
    trio.lab.partition([])
    trio[away].await_event("Rejoined", parted_ns)
    trio.await_whole()
    asked = begin(trio, others, "again", timeout_s=LONG_S)
    await_arrivals(trio, "again", others, at=trio.hosts)
    assert not any(trio[host].answered(number) for host, number in asked.items())
    asked |= begin(trio, [away], "again", timeout_s=LONG_S)
    after = same_outcome(answers(trio, asked))
    assert after.released
    assert after.incarnations[-1] > before.incarnations[-1]
    assert before.generation < outcome.generation < middle.generation < after.generation
    come_together(trio)
