"""What the program of the barrier tells: its figures, ratios and limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import RenderableType

from phalanx.barrier.demo_plot import Figure

from .figures import OWN, Latency, Verdict, ratio
from .machine import Machine
from .plot import Bar, Panel, make_figure
from .tables import judged, latency_table, made_on

LIMITS = {("corosync", 4): 0.6, ("redis", 4): 1.0, ("corosync", 8): 0.4}
"""What phalanx's p50 may be of a peer's, by peer and number of nodes."""
WIDE = 20
"""Where the slowest takes so many times as long as the fastest, the others could not be seen."""
BACKGROUND_NODES = 4
BACKGROUND_LIMIT = 5.0
"""What the p99 under load may be of the p50 without."""
FLOWED_MIN = 0.95
"""Of the load that was asked for; with less the figure says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """A barrier while the bulk lane is busy between the same nodes."""

    asked_mb_per_s: float
    flowed_mb_per_s: float
    """What all members together received from the others, in 10^6 bytes a second."""
    idle: Latency
    loaded: Latency


@dataclass(frozen=True, slots=True, kw_only=True)
class BarrierReport:
    """Everything that was measured."""

    bench: str = "barrier"
    machine: Machine
    versions: dict[str, str]
    latencies: list[Latency]
    background: Background | None
    verdicts: list[Verdict]

    @property
    def sound(self) -> bool:
        """A barrier that did not meet has failed before."""
        return True

    def tables(self) -> Sequence[RenderableType]:
        """For people."""
        found: list[RenderableType] = []
        if self.latencies:
            found.append(latency_table("Barrier, all members, back to back", self.latencies))
        if self.background is not None:
            rows = [self.background.idle, self.background.loaded]
            title = f"With {self.background.flowed_mb_per_s:.1f} MB/s on the bulk lane, and without"
            found.append(latency_table(title, rows))
        return [*found, *judged(self.verdicts), made_on(self.machine, self.versions)]

    def figure(self) -> Figure:
        """The p50 of each as bars, with lines up to the p99."""
        panels: list[Panel] = []
        if self.latencies:
            groups: dict[str, dict[str, Bar]] = {}
            for row in self.latencies:
                groups.setdefault(f"{row.nodes} nodes", {})[row.system] = _bar(row)
            middles = [row.p50_us for row in self.latencies]
            wide = max(middles) > WIDE * min(middles)
            panel = Panel(title="back to back", unit="µs", groups=groups, logarithmic=wide)
            panels.append(panel)
        if self.background is not None:
            load = f"{self.background.flowed_mb_per_s:.0f} MB/s of bulk"
            rows = {"idle": self.background.idle, load: self.background.loaded}
            groups = {words: {"phalanx": _bar(row)} for words, row in rows.items()}
            panels.append(Panel(title="under load", unit="µs", groups=groups, logarithmic=True))
        footnote = made_on(self.machine, self.versions)
        return make_figure("Barrier: p50, and the line up to p99", footnote, panels)


def _bar(row: Latency) -> Bar:
    return Bar(value=row.p50_us, low=row.p50_us, high=row.p99_us)


def judge(latencies: Sequence[Latency], background: Background | None) -> list[Verdict]:
    """phalanx's p50 by that of each peer, and its tail under load."""
    ours = {row.nodes: row for row in latencies if row.system == OWN}
    found = [
        ratio(
            f"barrier p50, {row.nodes} nodes, phalanx / {row.system}",
            ours[row.nodes].p50_us,
            row.p50_us,
            LIMITS.get((row.system, row.nodes)),
        )
        for row in latencies
        if row.system != OWN and row.nodes in ours
    ]
    return found if background is None else found + _under_load(background)


def _under_load(background: Background) -> list[Verdict]:
    """The tail under load by the middle without, and whether there was a load."""
    return [
        ratio(
            f"barrier among {BACKGROUND_NODES}, p99 under load / idle p50",
            background.loaded.p99_us,
            background.idle.p50_us,
            BACKGROUND_LIMIT,
        ),
        ratio(
            "load that flowed / load asked for",
            background.flowed_mb_per_s,
            background.asked_mb_per_s,
            FLOWED_MIN,
            "at least",
        ),
    ]
