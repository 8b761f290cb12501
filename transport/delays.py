"""By how much each node comes after the first: one small record for each, however often."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, init=False)
class _Record:
    """Of one node."""

    count: int
    total_ns: int
    worst_ns: int

    def __init__(self) -> None:
        self.count = self.total_ns = self.worst_ns = 0


class Delays:
    """Counts, sums and worsts by node."""

    def __init__(self) -> None:
        self._records: dict[int, _Record] = {}

    def note(self, node: int, delay_ns: int) -> None:
        """A node has come so long after the first."""
        record = self._records.get(node)
        if record is None:
            record = self._records[node] = _Record()
        record.count += 1
        record.total_ns += delay_ns
        record.worst_ns = max(record.worst_ns, delay_ns)

    def all(self) -> dict[int, tuple[int, int, int]]:
        """By node, in ascending order: how often, and the mean and the worst in nanoseconds."""
        return {
            node: (record.count, record.total_ns // record.count, record.worst_ns)
            for node, record in sorted(self._records.items())
        }
