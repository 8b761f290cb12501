"""Why a barrier is not released: who is missing, since when, and how each can be reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from phalanx.transport.config import S
from phalanx.transport.events import PathStatus, Position

from . import names
from .core import BarrierCore
from .generation import Generation

Paths = Mapping[int, Mapping[str, PathStatus]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """A party that has arrived."""

    node: int
    name: str
    ago_s: float | None
    """Seconds since this node learnt of it; None if that was before this node joined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """A party that is waited for."""

    node: int
    name: str
    why: str
    since_s: float | None
    """Seconds for which this node knows that it is waited for."""
    rails: Mapping[str, PathStatus]
    """How this node reaches it; empty for this node itself, and for one that was never met."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What is known here of the oldest open generation of a barrier; `print` it."""

    name: str
    settings: str
    """Empty if the barrier is not in use."""
    generation: Position | None
    """None if it is not in use, or nothing was ordered yet."""
    arrived: tuple[Present, ...]
    missing: tuple[Absent, ...]

    def __str__(self) -> str:
        """Several lines, for people."""
        if not self.settings:
            return f"barrier {self.name!r} is not in use"
        at = self.generation
        place = f", generation {at.era}.{at.k}.{at.index}" if at is not None else ""
        lines = [f"barrier {self.name!r} ({self.settings}){place}"]
        for party in self.arrived:
            ago = "" if party.ago_s is None else f" {party.ago_s:.3f} s ago"
            lines.append(f"  {party.name} ({party.node}) arrived{ago}")
        for absent in self.missing:
            since = "" if absent.since_s is None else f", for {absent.since_s:.3f} s now"
            lines.append(f"  {absent.name} ({absent.node}) is missing{since}: {absent.why}")
            lines += [
                f"    rail {rail}: {path.state.value}, {path.rtt_us} us"
                + (", primary" if path.primary else "")
                for rail, path in sorted(absent.rails.items())
            ]
        return "\n".join(lines)


def explain(
    core: BarrierCore, name: str, *, paths: Paths, name_of: Callable[[int], str], now_ns: int
) -> Explanation:
    """The oldest open generation of a name that a user has given, as this node sees it.

    Of a double barrier it is the one at which its parties enter, or else leave.
    """
    known = [it for it in core.open_generations() if names.base(it.name) == name]
    if known:
        # What this node itself waits in comes first.
        mine = {opened for _, opened in core.waits()}
        known.sort(key=lambda it: (it.opened not in mine, it.opened))
    generation = known[0] if known else None
    wire_names = [generation.name] if generation is not None else [name, names.enter_name(name)]
    asked = next((found for it in wire_names if (found := core.waiting_since(it))), None)
    missing: dict[int, str] = {}
    for wire_name in wire_names:
        missing = missing or core.missing(wire_name)
    since_ns = _since(generation, asked[1] if asked is not None else None)
    if generation is not None:
        settings = generation.settings.words
    else:
        settings = asked[0].words if asked is not None else ""
    return Explanation(
        name=names.shown(wire_names[0]) if settings else name,
        settings=settings,
        generation=generation.opened if generation is not None else None,
        arrived=_arrived(generation, name_of, now_ns) if generation is not None else (),
        missing=tuple(
            Absent(
                node=node,
                name=name_of(node),
                why=why,
                since_s=None if since_ns is None else (now_ns - since_ns) / S,
                rails=paths.get(node, {}),
            )
            for node, why in sorted(missing.items())
        ),
    )


def _since(generation: Generation | None, asked_ns: int | None) -> int | None:
    if generation is None or not generation.times:
        return asked_ns
    return min(generation.times.values())


def _arrived(
    generation: Generation, name_of: Callable[[int], str], now_ns: int
) -> tuple[Present, ...]:
    times = generation.times
    return tuple(
        Present(
            node=member.node,
            name=name_of(member.node),
            ago_s=(now_ns - times[member.node]) / S if member.node in times else None,
        )
        for member in generation.marks
    )
