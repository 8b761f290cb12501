"""Faults while everybody sends a thousand messages a second and meets again and again.

What must hold in all of it the checkers say (`Fleet.settle`, and the end of each test); here stands
only what is done, and that the cluster comes back.
"""

from __future__ import annotations

import signal
from collections.abc import Collection, Generator
from contextlib import contextmanager

import pytest

from phalanx.transport.testing.lab import Lab

from .conftest import Figure
from .harness import MS, Fleet, S, now_ns
from .reports import DieAt, Meetings

pytestmark = pytest.mark.netns

RATE = 1000
BACK_MS_MAX = 5000


def work(fleet: Fleet, hosts: Collection[str] | None = None) -> None:
    """Everybody, or these, send and meet the others."""
    chosen = fleet.hosts if hosts is None else hosts
    fleet.stream(RATE, chosen)
    for host in chosen:
        fleet[host].ask(Meetings(name="tick"))
    fleet.flow(RATE // 4, senders=chosen)


@contextmanager
def deaf_to(lab: Lab, host: str, other: str) -> Generator[None, None, None]:
    """What goes from `other` to `host` is lost on every rail, silently; not the other way."""
    rules = [
        ["iptables", "-w", "{}", "INPUT", "-s", lab.address(rail, other), "-j", "DROP"]
        for rail in lab.rails
    ]

    def change(how: str) -> None:
        for rule in rules:
            lab.run(host, [how if word == "{}" else word for word in rule])

    change("-A")
    try:
        yield
    finally:
        change("-D")


def go_on_without_some(fleet: Fleet, after_ns: int) -> None:
    """Some have a view of two, and work in it."""
    two = fleet.wait(lambda: _view_of_two(fleet, after_ns), "a view of two")
    fleet.flow(RATE // 4, [host for host in fleet.hosts if fleet[host].id in two])


def _view_of_two(fleet: Fleet, after_ns: int) -> list[int] | None:
    """The members of a view of two that both have had for long enough to have told."""
    for host in fleet.hosts:
        for seen in fleet[host].views(after_ns):
            members = sorted(seen.members)
            hosts = [other for other in fleet.hosts if fleet[other].id in members]
            views = [fleet[other].view() for other in hosts]
            if len(members) == 2 and all(view and view.view == seen.view for view in views):
                return members
    return None


def come_together(fleet: Fleet, figure: Figure, name: str, restarted: Collection[str] = ()) -> None:
    """All are back in one view, work in it, and nothing has gone wrong."""
    healed_ns = now_ns()
    fleet.await_whole()
    figure(f"{name}, all in a view after ms", (now_ns() - healed_ns) / MS, BACK_MS_MAX)
    if restarted:
        work(fleet, restarted)
    fleet.flow(RATE // 4)
    fleet.settle()


@pytest.mark.parametrize("direction", ["in", "out"])
def test_a_node_that_hears_nobody_or_is_heard_by_nobody(
    trio: Fleet, figure: Figure, direction: str
) -> None:
    """The proposer itself is deaf or dumb: the others must not wait for it, nor act beside it."""
    work(trio)
    cut_ns = now_ns()
    for rail in trio.lab.rails:
        trio.lab.drop(rail, "alpha", direction)
    go_on_without_some(trio, cut_ns)
    trio.lab.heal_all()
    come_together(trio, figure, f"alpha cut off {direction}")


@pytest.mark.parametrize(("host", "other"), [("alpha", "charlie"), ("charlie", "alpha")])
def test_two_of_which_one_does_not_hear_the_other(
    trio: Fleet, figure: Figure, host: str, other: str
) -> None:
    """One direction between one pair is lost; the third hears both."""
    work(trio)
    cut_ns = now_ns()
    with deaf_to(trio.lab, host, other):
        go_on_without_some(trio, cut_ns)
    come_together(trio, figure, f"{host} deaf to {other}")


def test_a_minority_that_is_cut_off_comes_back(trio: Fleet, figure: Figure) -> None:
    """The proposer alone on one side, the majority on the other, and both together again."""
    work(trio)
    cut_ns = now_ns()
    trio.lab.partition([["alpha"]])
    go_on_without_some(trio, cut_ns)
    trio["alpha"].await_event("PrimaryLost", cut_ns)
    trio.lab.partition([])
    come_together(trio, figure, "alpha parted")


@pytest.mark.parametrize("seconds", [1, 3, 5])
@pytest.mark.parametrize("host", ["charlie", "alpha"])
def test_a_member_is_stopped_for_a_while(
    trio: Fleet, figure: Figure, host: str, seconds: int
) -> None:
    """Its kernel answers, it does not; continued, it must not act on what it believed."""
    others = [name for name in trio.hosts if name != host]
    work(trio)
    stopped_ns = trio[host].stop()
    trio.await_view([trio[name].id for name in others], others, stopped_ns)
    trio.flow(max(1, (seconds * S - (now_ns() - stopped_ns)) * RATE // S), others)
    continued_ns = trio[host].go_on()
    trio[host].await_event("Evicted", continued_ns)
    trio[host].await_event("Rejoined", continued_ns)
    come_together(trio, figure, f"{host} stopped for {seconds} s")


@pytest.mark.parametrize("cause", ["a newcomer", "a death"])
def test_the_proposer_is_killed_in_the_middle_of_a_flush(
    trio: Fleet, figure: Figure, cause: str
) -> None:
    """Every member has closed its view and reported, and nobody has the next one.

    The proposer dies instead of sending its first HOLD or ACCEPT, which it sends at no other time:
    then the reports of all are there, and no ACCEPTED can be.
    """
    before = trio["bravo"].view()
    assert before is not None, "it is a member"
    work(trio)
    if cause == "a newcomer":
        killed_ns = trio["charlie"].kill()
        trio.await_view([1, 2], ("alpha", "bravo"), killed_ns)
        trio["alpha"].ask(DieAt(kinds=["Hold", "Accept"]))
        trio.start("charlie")
    else:
        trio["alpha"].ask(DieAt(kinds=["Hold", "Accept"]))
        killed_ns = trio["charlie"].kill()
    assert trio["alpha"].await_end() == -signal.SIGKILL
    trio["alpha"].ended()
    died_ns = now_ns()
    if cause == "a newcomer":
        trio.await_view([2, 3], ("bravo", "charlie"), killed_ns)
        took_ms = (now_ns() - died_ns) / MS
        figure("proposer killed in a flush, the others have a view after ms", took_ms, 2000)
    else:
        trio["bravo"].await_event("PrimaryLost", killed_ns)
        trio.start("charlie")
    trio.start("alpha")
    come_together(trio, figure, f"killed in a flush for {cause}", ("alpha", "charlie"))
    after = trio["bravo"].view()
    assert after is not None, "it is a member"
    assert after.members[2] == before.members[2], "it never left"
