"""By how much each node comes after the first: one small record for each, however often."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

GROUPS_MAX: Final = 16
"""Sets of nodes that are noted as one; past it each node is told apart."""


@dataclass(slots=True, init=False)
class _Record:
    """Of one node, or of several that came together."""

    count: int
    total_ns: int
    worst_ns: int

    def __init__(self) -> None:
        self.count = self.total_ns = self.worst_ns = 0

    def add(self, count: int, total_ns: int, worst_ns: int) -> None:
        """Note so many."""
        self.count += count
        self.total_ns += total_ns
        self.worst_ns = max(self.worst_ns, worst_ns)


class Delays:
    """Counts, sums and worsts by node."""

    def __init__(self) -> None:
        self._records: dict[int, _Record] = {}
        self._groups: dict[tuple[int, ...], _Record] = {}
        """By nodes that came together: what their own records do not have yet."""

    def note(self, node: int, delay_ns: int) -> None:
        """A node has come so long after the first."""
        self._of(node).add(1, delay_ns, delay_ns)

    def note_together(self, nodes: tuple[int, ...], delay_ns: int) -> None:
        """All of these have come so long after the first."""
        group = self._groups.get(nodes)
        if group is None:
            if len(self._groups) >= GROUPS_MAX:
                self._tell_apart()
            group = self._groups[nodes] = _Record()
        group.add(1, delay_ns, delay_ns)

    def all(self) -> Mapping[int, tuple[int, int, int]]:
        """By node, in ascending order: how often, and the mean and the worst in nanoseconds."""
        self._tell_apart()
        return {
            node: (record.count, record.total_ns // record.count, record.worst_ns)
            for node, record in sorted(self._records.items())
        }

    def _of(self, node: int) -> _Record:
        record = self._records.get(node)
        if record is None:
            record = self._records[node] = _Record()
        return record

    def _tell_apart(self) -> None:
        for nodes, group in self._groups.items():
            for node in nodes:
                self._of(node).add(group.count, group.total_ns, group.worst_ns)
        self._groups.clear()
