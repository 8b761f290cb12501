"""Barriers in a simulation: nodes arrive, and their histories say what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from phalanx.transport.errors import UsageError
from phalanx.transport.events import Lane, Position
from phalanx.transport.testing.barrier_checkers import Arrival, Outcome
from phalanx.transport.testing.simulation import SimulatedNode, Simulation

from .. import events as outcomes
from .. import names
from ..core import BarrierCore
from ..settings import AllParties, Count, Entered, Named, Policy, Registered, Settings, Strength

TAKEN_BACK = "taken back"
SPOILED = "spoiled"
REGISTERED = "registered"
REGISTRATION = " (registration)"
LEAVING = " (leaving)"
"""Behind a name: what else than to wait there was asked."""
_LANES = (Lane.FIFO, Lane.ORDERED)


def use_barriers(simulation: Simulation) -> None:
    """Give each node named barriers, and note what becomes of waits in its history."""
    simulation.layers["barrier"] = BarrierCore
    simulation.after_turn.append(note_outcomes)


def barriers_of(node: SimulatedNode) -> BarrierCore:
    """The barriers of a node."""
    layer = node.layers["barrier"]
    assert isinstance(layer, BarrierCore), "`use_barriers` made it"
    return layer


SETTINGS: dict[str, Settings] = {
    "any two": Settings(Count(2)),
    "first two": Settings(Named((1, 2))),
    "safe": Settings(strength=Strength.SAFE),
    "those who are left": Settings(policy=Policy.SHRINK),
    "any three or fewer": Settings(Count(3), Strength.SAFE, Policy.SHRINK),
    "with patience": Settings(Named((1, 2)), policy=Policy.WAIT_FOR_REJOIN),
}
"""What is agreed on at a name, where it is not the usual."""
PHASERS: dict[str, Settings] = {
    "phaser": Settings(Registered()),
    "phaser of the living": Settings(Registered(), Strength.SAFE, Policy.SHRINK),
    "phaser with patience": Settings(Registered(), policy=Policy.WAIT_FOR_REJOIN),
}
"""Where parties register."""
DOUBLE = "job"
"""A double barrier."""
DOUBLE_SETTINGS = Settings(Count(2), policy=Policy.SHRINK)


def arrive(
    node: SimulatedNode, name: str, timeout_ns: int | None, payload: bytes = b""
) -> int | None:
    """Its parties meet at `name`; with a timeout, the arrival may be taken back.

    Returns the ticket; None if it may not arrive now.
    """
    settings = SETTINGS.get(name) or PHASERS.get(name) or Settings()
    return _arrive(node, name, settings, timeout_ns, payload)


def _arrive(
    node: SimulatedNode,
    name: str,
    settings: Settings,
    timeout_ns: int | None,
    payload: bytes = b"",
) -> int | None:
    if isinstance(settings.parties, Named) and node.id not in settings.parties.nodes:
        return None  # It would be told that it is none of them.
    if settings.strength is Strength.SAFE and not _all_held(node):
        return None  # A face would wait for that.
    now_ns = node.clock()
    deadline_ns = None if timeout_ns is None else now_ns + timeout_ns
    try:
        ticket = barriers_of(node).arrive(
            name,
            settings,
            payload=payload,
            deadline_ns=deadline_ns,
            now_ns=now_ns,
            after=_unnumbered(node),
        )
    except UsageError:
        return None  # It waits there already, or is not registered.
    _note(node, ticket, name, timeout_ns, payload)
    return ticket


def _unnumbered(node: SimulatedNode) -> dict[Lane, int]:
    return {lane: token for lane in _LANES if (token := node.endpoint.delivery.unnumbered(lane))}


def _all_held(node: SimulatedNode) -> bool:
    stream = node.endpoint.delivery.out[0, Lane.FIFO]
    return stream.token_settled == stream.token_accepted


def _note(
    node: SimulatedNode, ticket: int, name: str, timeout_ns: int | None, payload: bytes = b""
) -> None:
    at = None if timeout_ns is None else node.simulation.network.now_ns + timeout_ns
    node.note(Arrival(ticket=ticket, name=name, deadline_ns=at, payload=payload))
    node.wake_soon()


def take_part(
    node: SimulatedNode, name: str, timeout_ns: int | None, payload: bytes, *, leaves: bool
) -> None:
    """Register where it is not registered; else arrive, or leave."""
    core, settings, now_ns = barriers_of(node), PHASERS[name], node.clock()
    if core.registered_with(name) is None:
        deadline_ns = None if timeout_ns is None else now_ns + timeout_ns
        try:
            ticket = core.register(name, settings, deadline_ns=deadline_ns, now_ns=now_ns)
        except UsageError:
            return  # It is about to, or to leave.
        _note(node, ticket, name + REGISTRATION, timeout_ns)
    elif not leaves:
        arrive(node, name, timeout_ns, payload)
    elif settings.strength is not Strength.SAFE or _all_held(node):
        at_once = bool(payload)
        try:
            ticket = core.deregister(
                name, arrive=at_once, payload=payload, deadline_ns=None, after=_unnumbered(node)
            )
        except UsageError:
            return
        node.note(Arrival(ticket=ticket, name=name + LEAVING, deadline_ns=None))
        _note(node, ticket, name, None, payload)


def enter_or_leave(node: SimulatedNode, timeout_ns: int | None, *, fails: bool) -> None:
    """A double barrier: leave it if this incarnation has entered, by an exception if it `fails`."""
    entered = _entered(node)
    if entered is None:
        _arrive(node, names.enter_name(DOUBLE), DOUBLE_SETTINGS, timeout_ns)
        return
    name = names.leave_name(DOUBLE, entered.generation or Position(0, 0, 0))
    settings = Settings(Entered(entered.parties), DOUBLE_SETTINGS.strength, DOUBLE_SETTINGS.policy)
    if not fails:
        _arrive(node, name, settings, timeout_ns)
    elif not node.endpoint.detached:
        barriers_of(node).spoil(name, settings, f"node {node.id} has left by an exception")
        ticket = -1 - len(node.history)
        _note(node, ticket, name, None)
        node.note(Outcome(ticket=ticket, name=name, generation=None, verdict="unknown"))


def _entered(node: SimulatedNode) -> Outcome | None:
    """The last release at which it entered, unless it has arrived at the leaving since."""
    for _, item in reversed(node.history):
        if isinstance(item, Arrival) and names.base(item.name) == DOUBLE:
            if item.name != names.enter_name(DOUBLE):
                return None
        elif isinstance(item, Outcome) and item.name == names.enter_name(DOUBLE):
            return item if item.verdict == "released" else None
    return None


def waits_in_vain(node: SimulatedNode) -> list[str]:
    """Generations that wait for somebody who is gone, and whose rejoin is not waited for."""
    view = node.view
    if view is None:
        return []
    return [
        f"{node.life.member} waits at {generation.name!r} for {gone}, which is gone"
        for generation in barriers_of(node).open_generations()
        if isinstance(generation.settings.parties, AllParties | Entered)
        and generation.settings.policy is not Policy.WAIT_FOR_REJOIN
        for gone in (generation.wanted or frozenset()).difference(view.members)
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
    core = barriers_of(node)
    if core.has_outcomes:
        for outcome in core.take_outcomes():
            node.note(_outcome(outcome))


def verdict_of(reason: str, missing: Mapping[int, str]) -> str:
    """How a generation was broken, in the same words for all parties.

    Who takes an arrival back, and whose deadline it was, is told to each party in its own words.
    """
    if "left the view" in reason:
        return f"broken {dict(sorted(missing.items()))}"
    return SPOILED if "left by an exception" in reason else TAKEN_BACK


def _outcome(outcome: outcomes.Outcome) -> Outcome:
    ticket, unknown = outcome.ticket, "unknown"
    match outcome:
        case outcomes.Released(release=release):
            return Outcome(
                ticket=ticket,
                name=release.name,
                generation=release.generation,
                verdict="released",
                parties=release.parties,
                position=release.position,
                payloads=release.payloads,
                token=release.token,
            )
        case outcomes.Broken(name=name, generation=generation):
            verdict = verdict_of(outcome.reason, outcome.missing)
        case outcomes.TimedOut(name=name, generation=generation):
            verdict = TAKEN_BACK
        case outcomes.Enrolled(registration=registration):
            return Outcome(
                ticket=ticket,
                name=registration.name + REGISTRATION,
                generation=None,
                verdict=REGISTERED,
                registered=registration.position,
            )
        case outcomes.Retired():
            # Whether it was an arrival as well is not said.
            name = outcome.name + LEAVING
            return Outcome(ticket=ticket, name=name, generation=None, verdict=unknown)
        case outcomes.Mismatch() | outcomes.Refused() | outcomes.Unknown():
            return Outcome(ticket=ticket, name=outcome.name, generation=None, verdict=unknown)
    return Outcome(ticket=ticket, name=name, generation=generation, verdict=verdict)
