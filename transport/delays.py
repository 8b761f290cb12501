"""By how much each node comes after the first: one small record for each, however often."""

from __future__ import annotations


class Delays:
    """Counts, sums and worsts by node."""

    def __init__(self) -> None:
        self._records: dict[int, list[int]] = {}

    def note(self, node: int, delay_ns: int) -> None:
        """A node has come so long after the first."""
        record = self._records.get(node)
        if record is None:
            self._records[node] = [1, delay_ns, delay_ns]
        else:
            record[0] += 1
            record[1] += delay_ns
            record[2] = max(record[2], delay_ns)

    def all(self) -> dict[int, tuple[int, int, int]]:
        """By node, in ascending order: how often, and the mean and the worst in nanoseconds."""
        return {
            node: (count, total // count, worst)
            for node, (count, total, worst) in sorted(self._records.items())
        }
