"""Every way in which a barrier may end, on real processes and rails.

Whatever happens, all who go on are told the same of a generation: the verdict, the reason, who is
missing; and nobody waits past its deadline and one lease. The histories of each test are judged
by the checkers as well (`Fleet.settle`, and the end of each test).
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager

import pytest

from phalanx.transport.testing.lab import Lab

from .conftest import Figure
from .harness import MS, Fleet, now_ns
from .outcomes import answers, await_arrivals, begin, meet, same_outcome
from .races import race
from .reports import Arrived, Cman, DieAt, MeetAtAll

pytestmark = pytest.mark.netns

LONG_S = 10.0
"""A deadline that does not come."""
RACES = 36
MANY = 1000
PARTING_NS = 2 * MS
AT_ONCE_NS = 1000 * MS
"""Far less than any deadline here."""
DIED = "left the view: its process died"


def others_than(fleet: Fleet, *hosts: str) -> list[str]:
    """All hosts but these."""
    return [host for host in fleet.hosts if host not in hosts]


def come_together(fleet: Fleet) -> None:
    """Everybody is there again, meets, and nothing that has happened was wrong."""
    fleet.lab.heal_all()
    for host in fleet.hosts:
        if not fleet[host].running:
            fleet.start(host)
    fleet.await_whole()
    meet(fleet, fleet.hosts, "all are here", timeout_s=LONG_S)
    fleet.settle()


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
        await_arrivals(five, "after", five.hosts[-1:], at=[late])
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
    await_arrivals(five, "twice", five.hosts[:1], at=[host])
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
    # Where ECHO's leaving was decided before, the barrier has ended by that alone.
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


# ------------------------------------------------------------------------------------- the races


@pytest.mark.parametrize("kind", ["timeout", "take back", "cancel"])
def test_a_race_with_the_last_arrival_has_one_outcome(
    trio: Fleet, figure: Figure, kind: str
) -> None:
    """A deadline, or a change of mind, as the last one comes: the order says which was first."""
    tally = race(trio, kind, RACES, seed=len(kind))
    assert tally.released > 0, f"no race: {tally}"
    assert tally.broken > 0, f"no race: {tally}"
    figure(f"races of {RACES}, {kind}: won by the last arrival", tally.released, RACES - 1)
    figure(f"races of {RACES}, {kind}: disturbed", tally.disturbed, RACES // 10)
    trio.settle()


# -------------------------------------------------------------------------------- names and parties


def test_a_name_is_reused_after_it_was_deleted(trio: Fleet) -> None:
    """As with cman: what is left of its first use does not hit the second one."""

    def call(host: str, *calls: tuple[str, Sequence[int | str]]) -> int:
        return trio[host].begin(Cman(calls=list(calls)))

    def codes(asked: dict[str, int]) -> dict[str, list[int]]:
        return {host: trio[host].result(number).codes for host, number in asked.items()}

    gone, first = "charlie", ("alpha", "bravo")
    use = ("register", ["name", 0, 3]), ("wait", ["name"])
    waits = {host: call(host, *use) for host in first}
    await_arrivals(trio, "cman:name", first, at=trio.hosts)
    # Who has given it up is told nothing more of it; the other has lost a party.
    given_up = call("alpha", ("delete", ["name"]))
    assert codes(waits) == {"alpha": [0, -errno.ENOENT], "bravo": [0, -errno.EINVAL]}
    assert codes({"alpha": given_up}) == {"alpha": [0]}
    deleted = {"bravo": call("bravo", ("delete", ["name"]))}
    assert codes(deleted) == {"bravo": [0]}
    # Now for two, at once, while the third still thinks of the first use.
    fewer = ("register", ["name", 0, 2]), ("wait", ["name"]), ("delete", ["name"])
    again = {host: call(host, *fewer) for host in first}
    assert codes(again) == {host: [0, 0, 0] for host in first}
    asked = {gone: call(gone, *use)} | {host: call(host, *use) for host in first}
    assert codes(asked) == {host: [0, 0] for host in trio.hosts}
    for host in trio.hosts:
        trio[host].ask(Cman(calls=[("delete", ["name"])]))


PARTIES: list[tuple[str, dict[str, object], dict[str, object]]] = [
    ("numbers", {"parties": 3}, {"parties": 2}),
    ("all or a number", {}, {"parties": 3}),
    ("nodes", {"nodes": [1, 2, 3]}, {"nodes": [2, 3]}),
    ("all or nodes", {}, {"nodes": [1, 2, 3]}),
    ("strength", {"strength": "agreed"}, {"strength": "safe"}),
    ("policy", {"policy": "break"}, {"policy": "shrink"}),
]


@pytest.mark.parametrize(
    ("ours", "theirs"), [it[1:] for it in PARTIES], ids=[p[0] for p in PARTIES]
)
def test_different_parties_are_told_so_at_once(
    trio: Fleet, ours: dict[str, object], theirs: dict[str, object]
) -> None:
    """Each waits for something else, so that nobody would ever be released."""
    first, other = ("alpha", "bravo"), "charlie"
    asked = begin(trio, first, "differ", timeout_s=LONG_S, **ours)
    await_arrivals(trio, "differ", first, at=trio.hosts)
    began_ns = now_ns()
    asked |= begin(trio, [other], "differ", timeout_s=LONG_S, **theirs)
    told = answers(trio, asked)
    assert {answer.error for answer in told.values()} == {"BarrierMismatch"}
    assert max(answer.at_ns for answer in told.values()) - began_ns < AT_ONCE_NS
    assert told["alpha"].text == told["bravo"].text
    assert told["alpha"].generation == told["bravo"].generation
    # Nothing of it is left at the name.
    meet(trio, trio.hosts, "differ", timeout_s=LONG_S, **ours)
    trio.settle()


# ------------------------------------------------------------------------------------------ many


def test_a_thousand_barriers_at_once(trio: Fleet, figure: Figure) -> None:
    """Two are at all of them, then the third comes to each, the last one first."""
    first, last = ("alpha", "bravo"), "charlie"
    names = [f"many-{number}" for number in range(MANY)]
    order = MeetAtAll(name="many", count=MANY, timeout_s=LONG_S)
    asked = {host: trio[host].begin(order) for host in first}
    nodes = [trio[host].id for host in first]
    trio[last].ask(Arrived(names=names, nodes=nodes))
    began_ns = now_ns()
    backwards = MeetAtAll(name="many", count=MANY, backwards=True, timeout_s=LONG_S)
    asked[last] = trio[last].begin(backwards)
    told = answers(trio, asked)
    outcomes = told[last].outcomes
    assert len(outcomes) == MANY
    assert all(text.startswith("released ") for text in outcomes.values())
    assert all(answer.outcomes == outcomes for answer in told.values())
    took_ms = (max(answer.at_ns for answer in told.values()) - began_ns) / MS
    figure(f"{MANY} barriers, from the third's order to the last release ms", took_ms, 5000)
    trio.settle()


def test_a_crash_breaks_a_thousand_barriers_the_same_way(trio: Fleet) -> None:
    """One view decides all of them."""
    first, dead = ("alpha", "bravo"), "charlie"
    names = [f"crash-{number}" for number in range(MANY)]
    order = MeetAtAll(name="crash", count=MANY, timeout_s=LONG_S)
    asked = {host: trio[host].begin(order) for host in first}
    for host in first:
        trio[host].ask(Arrived(names=names, nodes=[trio[other].id for other in first]))
    trio[dead].kill()
    told = answers(trio, asked)
    outcomes = told["alpha"].outcomes
    assert outcomes == told["bravo"].outcomes
    assert len(outcomes) == MANY
    node = trio[dead].id
    for text in outcomes.values():
        assert text.endswith(f": node {node} {DIED}; {{{node}: '{DIED}'}}")
    come_together(trio)
