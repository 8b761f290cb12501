"""How much later than the first of them each party of a barrier arrives."""

from __future__ import annotations

from .events import Skew
from .generation import Generation


class Skews:
    """One small record for each node, however many generations there were."""

    def __init__(self) -> None:
        self._records: dict[int, list[int]] = {}
        """By node: arrivals, sum and worst of their delays in nanoseconds."""

    def note(self, generation: Generation) -> None:
        """All parties of a generation have arrived, as the times say at which this was learnt."""
        times = generation.times
        if not times:
            return
        first_ns = min(times.values())
        for node, at_ns in times.items():
            delay_ns = at_ns - first_ns
            record = self._records.get(node)
            if record is None:
                self._records[node] = [1, delay_ns, delay_ns]
            else:
                record[0] += 1
                record[1] += delay_ns
                record[2] = max(record[2], delay_ns)

    def all(self) -> dict[int, Skew]:
        """By node, in ascending order."""
        return {
            node: Skew(arrivals=count, mean_ns=total // count, worst_ns=worst)
            for node, (count, total, worst) in sorted(self._records.items())
        }
