"""Who was released with whom: what the histories of a simulation must say of registered parties
and of double barriers, and what nobody may be counted for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from phalanx.transport.events import Member, Position, ViewId, ViewInstalled
from phalanx.transport.testing.barrier_checkers import Arrival, Outcome
from phalanx.transport.testing.simulated_node import Life
from phalanx.transport.testing.simulation import SimulatedNode

from .meetings import LEAVING, PHASERS, REGISTRATION, barriers_of


@dataclass(slots=True)
class _Tale:
    """What one incarnation has done at barriers, by name."""

    registered: dict[str, Position] = field(default_factory=dict[str, Position])
    """Where in the order it became a party, the first time."""
    asked: set[str] = field(default_factory=set[str])
    """Where it has asked to become one, and may have, without being told so."""
    leaving: set[str] = field(default_factory=set[str])
    """Where it has said, or may have, that it is no party any more."""
    spoiled: set[str] = field(default_factory=set[str])
    releases: list[tuple[Outcome, Position | None]] = field(
        default_factory=list[tuple[Outcome, Position | None]]
    )
    """With the place of the registration by which it had arrived."""


def _tales(lives: Sequence[Life]) -> dict[Member, _Tale]:
    tales: dict[Member, _Tale] = defaultdict(_Tale)
    for life in lives:
        tale = tales[life.member]
        now: dict[str, Position] = {}
        by: dict[int, Position | None] = {}
        for _, item in life.history:
            if isinstance(item, Arrival):
                by[item.ticket] = now.get(item.name)
                if item.name.endswith(REGISTRATION):
                    tale.asked.add(item.name.removesuffix(REGISTRATION))
                if item.name.endswith(LEAVING):
                    tale.leaving.add(item.name.removesuffix(LEAVING))
                if item.ticket < 0:
                    tale.spoiled.add(item.name)
            elif isinstance(item, Outcome):
                name = item.name.removesuffix(REGISTRATION)
                if item.verdict == "released":
                    tale.releases.append((item, by.get(item.ticket)))
                elif item.registered is not None:
                    now[name] = item.registered
                    tale.registered.setdefault(name, item.registered)
                elif name != item.name:
                    tale.leaving.add(name)
    return tales


def together(lives: Sequence[Life]) -> Iterator[str]:
    """11: a release names everybody who was registered, and nobody who has spoiled it.

    Registered is who has its place in the order before that of the generation, and was there from
    then to the release. Who registered later is released by a later generation.
    """
    tales = _tales(lives)
    views: dict[ViewId, tuple[Member, ...]] = {}
    for life in lives:
        for _, item in life.history:
            if isinstance(item, ViewInstalled):
                views[item.view.id] = item.view.incarnations
    for member, tale in tales.items():
        for outcome, registered in tale.releases:
            for party in outcome.parties:
                if outcome.name in tales[party].spoiled:
                    yield f"{member} left {outcome.name!r} with {party}, which had spoiled it"
            if outcome.name in PHASERS:
                yield from _left_out(member, outcome, tales, views)
                yield from _too_early(member, outcome, registered, tales)


def _left_out(
    here: Member,
    release: Outcome,
    tales: dict[Member, _Tale],
    views: dict[ViewId, tuple[Member, ...]],
) -> Iterator[str]:
    assert release.generation is not None, "a release has one"
    assert release.position is not None, "and was decided somewhere"
    there = set(views.get(_view(release.generation), ())) & set(
        views.get(_view(release.position), ())
    )
    for member in there.difference(release.parties):
        tale = tales[member]
        registered = tale.registered.get(release.name)
        if registered is None or release.name in tale.leaving:
            continue
        if registered < release.generation:
            yield (
                f"{here} was released from {release.name!r} {release.generation} without "
                f"{member}, registered at {registered}"
            )


def _too_early(
    here: Member, release: Outcome, registered: Position | None, tales: dict[Member, _Tale]
) -> Iterator[str]:
    assert release.generation is not None, "a release has one"
    if registered is None or registered < release.generation:
        return
    # The place of a former incarnation may be kept for it.
    for member, tale in tales.items():
        if member.node == here.node and member.incarnation < here.incarnation:
            before = tale.registered.get(release.name, Position(0, 0, 0))
            if release.name in tale.asked and before < release.generation:
                return
    yield (
        f"{here}, registered at {registered}, was released from {release.name!r} "
        f"{release.generation}, which had begun before"
    )


def _view(position: Position) -> ViewId:
    return ViewId(position.era, position.k)


def ghosts(nodes: Sequence[SimulatedNode]) -> Iterator[str]:
    """Arrivals of running incarnations that count in an open generation where nobody waits.

    Everything that was put in order must have been told by now.
    """
    newest = max((node.view.id for node in nodes if node.view is not None), default=None)
    # Who has left, and whose process goes on, was told no more.
    there_now = [node for node in nodes if node.view is not None and node.view.id == newest]
    running = {node.life.member: node for node in there_now}
    for node in there_now:
        for generation in barriers_of(node).open_generations():
            if generation.spoiled:
                continue
            for member in generation.marks:
                there = running.get(member)
                if there is None or not _has_part(there, generation.name):
                    yield f"{member} counts at {generation.name!r}, and nobody waits there"


def registered_still(nodes: Sequence[SimulatedNode]) -> Iterator[str]:
    """Incarnations that were told that they have left a barrier, and are registered there."""
    for node in nodes:
        for name in PHASERS:
            changes = [
                item.name
                for _, item in node.history
                if (isinstance(item, Outcome) and item.name == name + LEAVING)
                or (isinstance(item, Arrival) and item.name == name + REGISTRATION)
            ]
            left = bool(changes) and changes[-1] == name + LEAVING
            if left and barriers_of(node).registered_with(name) is not None:
                yield f"{node.life.member} has left {name!r}, and is registered there"


def _has_part(node: SimulatedNode, name: str) -> bool:
    """Whether it waits at that name, or has arrived there for the last time."""
    if any(waits_at == name for waits_at, _ in barriers_of(node).waits()):
        return True
    return any(
        isinstance(item, Arrival) and item.name == f"{name}{LEAVING}" for _, item in node.history
    )
