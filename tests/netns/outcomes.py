"""Meetings that a test asks for, and what must be the same at all who go on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from .harness import MS, Fleet
from .reports import Answer, Arrived, Meet, Seen

LEASE_NS = 400 * MS
"""Of the profile `lan`: how long the order has to answer after a deadline."""
WAKE_NS = 100 * MS
"""How late a busy machine may run a process that has something to do."""

LONG_S = 10.0
"""A deadline that does not come."""
DIED = "left the view: its process died"
"""How a view says that somebody was killed."""

Triple = tuple[int, int, int]


class Outcome(NamedTuple):
    """What became of one generation, at every party that goes on."""

    released: bool
    generation: Triple
    position: Triple
    incarnations: tuple[int, ...]
    """Of those who were released, by node."""
    payloads: dict[int, str]
    reason: str
    """Why it was broken; empty if it was by somebody's deadline and nobody else was there."""
    missing: dict[int, str]


def begin(fleet: Fleet, hosts: Collection[str], name: str, **order: Any) -> dict[str, int]:
    """Let these hosts meet at a barrier; `answers` waits for what becomes of it."""
    return {host: fleet[host].begin(Meet(name=name, **order)) for host in hosts}


def await_arrivals(fleet: Fleet, name: str, hosts: Collection[str], at: Collection[str]) -> None:
    """Return when it is known at some hosts that these have arrived."""
    order = Arrived(names=[name], nodes=[fleet[host].id for host in hosts])
    asked = {host: fleet[host].begin(order) for host in at}
    for host, number in asked.items():
        fleet[host].result(number)


def answers(fleet: Fleet, asked: Mapping[str, int]) -> dict[str, Answer]:
    """What each host was told; nobody waits past its deadline and one lease."""
    found = {host: fleet[host].result(number) for host, number in asked.items()}
    for host, answer in found.items():
        late_ms = (answer.at_ns - answer.due_ns) / MS
        limit_ms = (LEASE_NS + WAKE_NS) / MS
        assert not answer.due_ns or late_ms <= limit_ms, f"{host}: {late_ms:.0f} ms late"
    return found


def same_outcome(told: Mapping[str, Answer]) -> Outcome:
    """All were told the same, in the words that each of them gets; returns it."""
    outcomes = {host: _outcome(answer) for host, answer in told.items()}
    # Whose deadline it was is told so, and not why the others were.
    reasons = {it.reason for it in outcomes.values() if it.reason}
    assert len(reasons) <= 1, f"reasons differ: {outcomes}"
    reason = reasons.pop() if reasons else ""
    first, *others = (it._replace(reason=reason) for it in outcomes.values())
    assert all(other == first for other in others), f"outcomes differ: {outcomes}"
    return first


def _outcome(answer: Answer) -> Outcome:
    known = ("", "BarrierBroken", "BarrierTimeout")
    assert answer.error in known, f"{answer.error}: {answer.text}"
    assert answer.generation != (0, 0, 0), f"of no generation: {answer.text}"
    return Outcome(
        released=not answer.error,
        generation=answer.generation,
        position=answer.position,
        incarnations=tuple(answer.incarnations),
        payloads=answer.payloads,
        reason=answer.reason,
        missing=answer.missing,
    )


def meet(fleet: Fleet, hosts: Collection[str], name: str, **order: Any) -> Outcome:
    """These meet, and are all released."""
    outcome = same_outcome(answers(fleet, begin(fleet, hosts, name, **order)))
    assert outcome.released, f"{outcome}"
    return outcome


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


def same_deliveries(views: Mapping[str, Seen]) -> dict[str, int]:
    """View synchrony: who went together to a view delivered the same before; returns it."""
    newcomers = [host for host, view in views.items() if len(view.joined) == len(view.members)]
    assert not newcomers, f"{newcomers} were evicted meanwhile and came back"
    marks = [view.marks for view in views.values()]
    assert all(other == marks[0] for other in marks), f"deliveries differ: {marks}"
    return marks[0]
