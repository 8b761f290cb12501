"""Barriers in a simulation: nodes arrive, and their histories say what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from phalanx.transport.errors import UsageError
from phalanx.transport.events import Lane
from phalanx.transport.testing.barrier_checkers import Arrival, Outcome
from phalanx.transport.testing.simulation import SimulatedNode, Simulation

from .. import events as outcomes
from ..core import BarrierCore
from ..messages import AllParties, Count, Named, Parties

TAKEN_BACK = "taken back"


def use_barriers(simulation: Simulation) -> None:
    """Give each node named barriers, and note what becomes of waits in its history."""
    simulation.layers["barrier"] = BarrierCore
    simulation.after_turn.append(note_outcomes)


def barriers_of(node: SimulatedNode) -> BarrierCore:
    """The barriers of a node."""
    layer = node.layers["barrier"]
    assert isinstance(layer, BarrierCore), "`use_barriers` made it"
    return layer


PARTIES: dict[str, Parties] = {"any two": Count(2), "first two": Named((1, 2))}
"""Who meets at a name, where it is not all members."""


def arrive(node: SimulatedNode, name: str, timeout_ns: int | None) -> None:
    """Its parties meet at `name`; with a timeout, the arrival may be taken back."""
    parties = PARTIES.get(name, AllParties())
    if isinstance(parties, Named) and node.id not in parties.nodes:
        return  # It would be told that it is none of them.
    now_ns = node.clock()
    deadline_ns = None if timeout_ns is None else now_ns + timeout_ns
    after = {lane: node.endpoint.accepted(lane) for lane in (Lane.FIFO, Lane.ORDERED)}
    try:
        ticket = barriers_of(node).arrive(
            name, parties=parties, deadline_ns=deadline_ns, now_ns=now_ns, after=after
        )
    except UsageError:
        return  # It waits there already.
    at = None if timeout_ns is None else node.simulation.network.now_ns + timeout_ns
    node.note(Arrival(ticket=ticket, name=name, deadline_ns=at))
    node.wake_soon()


def waits_in_vain(node: SimulatedNode) -> list[str]:
    """Generations of all members that wait for somebody who is gone, and so for ever."""
    view = node.view
    return [
        f"{node.life.member} waits at {generation.name!r} for {member}, which is gone"
        for generation in (barriers_of(node).open_generations() if view is not None else [])
        for member in generation.members
        if view is not None and member not in view.incarnations
    ]


def waits_alone(nodes: Sequence[SimulatedNode]) -> list[str]:
    """Waits at a generation that is over elsewhere in the view, or at none: they never end.

    Everything that was put in order must have been told by now.
    """
    found: list[str] = []
    for node in nodes:
        for name, opened in barriers_of(node).waits():
            over = [
                str(other.life.member)
                for other in nodes
                if all(it.opened != opened for it in barriers_of(other).open_generations(name))
            ]
            if over:
                found.append(
                    f"{node.life.member} waits at {name!r} {opened}, which is not open at "
                    + ", ".join(over)
                )
    return found


def note_outcomes(node: SimulatedNode) -> None:
    """Take the outcomes of this turn."""
    for outcome in barriers_of(node).take_outcomes():
        node.note(_outcome(outcome))


def verdict_of(reason: str, missing: Mapping[int, str]) -> str:
    """How a generation was broken, in the same words for all parties.

    Who takes an arrival back, and whose deadline it was, is told to each party in its own words.
    """
    left = "left the view" in reason
    return f"broken {dict(sorted(missing.items()))}" if left else TAKEN_BACK


def _outcome(outcome: outcomes.Outcome) -> Outcome:
    match outcome:
        case outcomes.Released(ticket=ticket, release=release):
            return Outcome(
                ticket=ticket,
                name=release.name,
                generation=release.generation,
                verdict="released",
                parties=release.parties,
                position=release.position,
            )
        case outcomes.Broken():
            verdict = verdict_of(outcome.reason, outcome.missing)
        case outcomes.TimedOut():
            verdict = TAKEN_BACK
        case _:
            return Outcome(
                ticket=outcome.ticket, name=outcome.name, generation=None, verdict="unknown"
            )
    return Outcome(
        ticket=outcome.ticket, name=outcome.name, generation=outcome.generation, verdict=verdict
    )
