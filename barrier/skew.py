"""How much later than the first of them each party of a barrier arrives."""

from __future__ import annotations

from phalanx.transport.delays import Delays

from .events import Skew
from .generation import Generation


class Skews:
    """One small record for each node, however many generations there were."""

    def __init__(self) -> None:
        self._delays = Delays()

    def note(self, generation: Generation) -> None:
        """All parties of a generation have arrived, as the times say at which this was learnt."""
        times = generation.times
        if not times:
            return
        first_ns = min(times.values())
        for node, at_ns in times.items():
            self._delays.note(node, at_ns - first_ns)

    def all(self) -> dict[int, Skew]:
        """By node, in ascending order."""
        return {
            node: Skew(arrivals=count, mean_ns=mean, worst_ns=worst)
            for node, (count, mean, worst) in self._delays.all().items()
        }
