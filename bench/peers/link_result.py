"""What the program of one link tells: rates by size, ratios and limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import RenderableType

from phalanx.barrier.demo_plot import Figure

from .figures import OWN, Throughput, Verdict, is_own, ratio
from .machine import Machine
from .plot import Bar, Panel, make_figure, megabytes
from .tables import goodput_table, judged, made_on
from .usrsctp import NAME as CEILING
from .zeromq import NAME as ZEROMQ

SMALL_BYTES, LEAST_OF_ZEROMQ = 64, 1.0
"""What the rate of messages of this size is to be at least on the bulk lane, of pyzmq's."""
LARGE_BYTES, LEAST_OF_CEILING = 1024, 0.8
"""The same from this size on over SCTP, of what the stack does in C."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkReport:
    """Everything that was measured."""

    bench: str = "link"
    machine: Machine
    versions: dict[str, str]
    rates: list[Throughput]
    verdicts: list[Verdict]

    @property
    def sound(self) -> bool:
        """Everything that was sent came, in its order."""
        return all(row.gaps == 0 and row.complete for row in self.rates)

    def tables(self) -> Sequence[RenderableType]:
        """For people."""
        found: list[RenderableType] = [goodput_table("One to one, flat out", self.rates)]
        return [*found, *judged(self.verdicts), made_on(self.machine, self.versions)]

    def figure(self) -> Figure:
        """One diagram, a group for each size."""
        groups: dict[str, dict[str, Bar]] = {}
        for row in self.rates:
            groups.setdefault(f"{row.size_bytes:,} B", {})[row.system] = megabytes(row)
        panel = Panel(
            title="flat out (line: range of the runs)",
            unit="MB/s",
            groups=groups,
            logarithmic=True,
        )
        return make_figure("One to one", made_on(self.machine, self.versions), [panel])


def judge(rows: Sequence[Throughput]) -> list[Verdict]:
    """phalanx's rate, by each way of its own, by that of each peer."""
    return [
        ratio(
            f"one to one, {row.size_bytes:,} bytes, {own.system} / {row.system}",
            own.per_s,
            row.per_s,
            _limit(own, row),
            "at least",
        )
        for row in rows
        for own in rows
        if is_own(own.system) and not is_own(row.system) and own.size_bytes == row.size_bytes
    ]


def _limit(own: Throughput, row: Throughput) -> float | None:
    over_sctp = own.system == OWN
    if row.system == ZEROMQ and row.size_bytes == SMALL_BYTES and not over_sctp:
        return LEAST_OF_ZEROMQ
    if row.system == CEILING and row.size_bytes >= LARGE_BYTES and over_sctp:
        return LEAST_OF_CEILING
    return None
