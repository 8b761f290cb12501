"""One name used in many ways, many names at once, and races, on real processes and rails."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest

from .conftest import Figure
from .harness import MS, Fleet, now_ns
from .outcomes import DIED, LONG_S, answers, await_arrivals, begin, come_together, meet
from .races import race
from .reports import Arrived, Cman, MeetAtAll

pytestmark = pytest.mark.netns

RACES = 36
MANY = 1000
AT_ONCE_NS = 1000 * MS
"""Far less than any deadline here."""


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
