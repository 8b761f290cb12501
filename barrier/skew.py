"""How much later than the first of them each party of a barrier arrives."""

from __future__ import annotations

from typing import Final

from phalanx.transport.delays import Delays

from .events import Skew
from .generation import Generation

NOTED_MAX: Final = 64
"""Generations that are noted before they are counted: many at once take less time."""


class Skews:
    """One small record for each node, however many generations there were."""

    def __init__(self) -> None:
        self._delays = Delays()
        self._noted: list[dict[int, int]] = []

    def note(self, generation: Generation) -> None:
        """All parties of a generation have arrived, as the times say at which this was learnt."""
        if generation.in_one_moment:
            self._delays.note_together(tuple([member.node for member in generation.marks]), 0)
        elif generation.times:
            self._noted.append(generation.times)
            if len(self._noted) >= NOTED_MAX:
                self._count()

    def note_together(self, nodes: tuple[int, ...]) -> None:
        """All of these have come in one moment."""
        self._delays.note_together(nodes, 0)

    def _count(self) -> None:
        for times in self._noted:
            first_ns = min(times.values())
            for node, at_ns in times.items():
                self._delays.note(node, at_ns - first_ns)
        self._noted.clear()

    def all(self) -> dict[int, Skew]:
        """By node, in ascending order."""
        self._count()
        return {
            node: Skew(arrivals=count, mean_ns=mean, worst_ns=worst)
            for node, (count, mean, worst) in self._delays.all().items()
        }
