"""What the program of multicast tells: goodput by loss and size, its ratios and limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import RenderableType

from phalanx.barrier.demo_plot import Figure

from .figures import OWN, Throughput, Verdict, is_own, ratio
from .machine import Machine
from .plot import Bar, Panel, make_figure, megabytes
from .tables import goodput_table, judged, made_on

FAN_OUT = f"{OWN}, fan-out"
LEAST_OF_PEER = 1.0
"""What its goodput is to be at least, of the peer's, at every rate of loss."""
KEPT_BYTES, KEPT_PERCENT, KEPT_LEAST = 1024, 5.0, 0.7
"""Of messages of this size, with so many lost: so much of what it is without loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MulticastReport:
    """Everything that was measured."""

    bench: str = "multicast"
    machine: Machine
    versions: dict[str, str]
    goodputs: list[Throughput]
    verdicts: list[Verdict]

    @property
    def sound(self) -> bool:
        """Whatever phalanx has sent came to everybody; what a peer loses is told."""
        own = [row for row in self.goodputs if is_own(row.system)]
        return all(row.gaps == 0 and row.complete for row in own)

    def tables(self) -> Sequence[RenderableType]:
        """For people."""
        receivers = self.goodputs[0].nodes - 1
        title = f"One sender flat out to {receivers}, at the slowest receiver"
        found: list[RenderableType] = [goodput_table(title, self.goodputs)]
        return [*found, *judged(self.verdicts), made_on(self.machine, self.versions)]

    def figure(self) -> Figure:
        """A diagram for each size."""
        panels: list[Panel] = []
        for size in sorted({row.size_bytes for row in self.goodputs}):
            groups: dict[str, dict[str, Bar]] = {}
            for row in self.goodputs:
                if row.size_bytes == size:
                    lost = f"{row.loss_percent:g} % lost"
                    groups.setdefault(lost, {})[row.system] = megabytes(row)
            panels.append(Panel(title=f"{size:,} B", unit="MB/s", groups=groups))
        receivers = self.goodputs[0].nodes - 1
        title = f"Reliable multicast, one sender to {receivers} (line: range of the runs)"
        return make_figure(title, made_on(self.machine, self.versions), panels)


def judge(rows: Sequence[Throughput]) -> list[Verdict]:
    """phalanx's goodput by that of each peer, and with loss by that without."""
    found: list[Verdict] = []
    for row in rows:
        for own in rows:
            same = (own.size_bytes, own.loss_percent) == (row.size_bytes, row.loss_percent)
            if is_own(own.system) and not is_own(row.system) and same:
                what = f"{row.size_bytes:,} bytes, {row.loss_percent:g} % lost"
                found.append(
                    ratio(
                        f"goodput, {what}, {own.system} / {row.system}",
                        own.per_s,
                        row.per_s,
                        LEAST_OF_PEER if own.system == FAN_OUT else None,
                        "at least",
                    )
                )
    for own in rows:
        whole = next(
            (
                row
                for row in rows
                if (row.system, row.size_bytes) == (own.system, own.size_bytes)
                and not row.loss_percent
            ),
            None,
        )
        if is_own(own.system) and own.loss_percent and whole is not None:
            asked = own.size_bytes == KEPT_BYTES and own.loss_percent == KEPT_PERCENT
            found.append(
                ratio(
                    f"goodput, {own.size_bytes:,} bytes, {own.system}, "
                    f"{own.loss_percent:g} % lost / none",
                    own.per_s,
                    whole.per_s,
                    KEPT_LEAST if asked and own.system == FAN_OUT else None,
                    "at least",
                )
            )
    return found
