"""What the program of failures tells: gaps, how soon the members knew, limits."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.table import Table

from phalanx.barrier.demo_plot import Figure

from .figures import OWN, Verdict, absolute, is_own
from .lines import Trace
from .machine import Machine
from .plot import Bar, Curves, Panel, make_figure
from .tables import judged, made_on, make_table

MS = 1_000_000
STEP_MS = 10.0
"""Of a timeline."""
BASELINE_NS = 1_000 * MS
"""So long before the failure gaps are looked for as well."""
ACTIVE = f"{OWN}, active rails"
GAP_LIMITS_MS = {
    (OWN, "silent drop"): 60.0,
    (ACTIVE, "silent drop"): 10.0,
    (OWN, "link down"): 30.0,
}
"""What the longest gap may be."""
VIEW_LIMITS_MS = {(OWN, "killed"): 50.0, (OWN, "vanished"): 600.0}
"""After how long all others have to be in a view without it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """What one run has shown."""

    gap_ms: float
    """The longest time between two deliveries at a receiver, from the failure on."""
    before_ms: float
    """The same in the last second before it."""
    view_ms: float | None
    """After how long all who are left had a view without who is gone; None if nobody is."""
    lost: int
    """Messages that did not come to a receiver that is left, and places out of order."""
    timeline: list[tuple[float, float]]
    """At the worst receiver: ms from the failure on, and the longest gap that ended about then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Medians over the runs."""

    system: str
    fault: str
    nodes: int
    size_bytes: int
    rate_per_s: int
    runs: int
    gap_ms: float
    gap_range_ms: tuple[float, float]
    before_ms: float
    view_ms: float | None
    lost: int
    """Of all runs together."""
    timeline: list[tuple[float, float]]
    """Of the run whose gap was the median, at its worst receiver: ms from the failure on, and the
    longest gap that ended in the 10 ms before.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverReport:
    """Everything that was measured."""

    bench: str = "failover"
    machine: Machine
    versions: dict[str, str]
    failures: list[Failure]
    verdicts: list[Verdict]

    @property
    def sound(self) -> bool:
        """phalanx lost nothing, whatever broke."""
        return not any(row.lost for row in self.failures if is_own(row.system))

    def tables(self) -> Sequence[RenderableType]:
        """For people."""
        return [failure_table(self.failures), *judged(self.verdicts), self._made_on]

    @property
    def _made_on(self) -> str:
        return made_on(self.machine, self.versions)

    def figure(self) -> Figure:
        """The longest gap, by what broke."""
        groups: dict[str, dict[str, Bar]] = {}
        for row in self.failures:
            low, high = row.gap_range_ms
            groups.setdefault(row.fault, {})[row.system] = Bar(value=row.gap_ms, low=low, high=high)
        panel = Panel(
            title="longest gap between two deliveries (line: range of the runs)",
            unit="ms",
            groups=groups,
            logarithmic=True,
        )
        first = self.failures[0].fault
        curves = Curves(
            title=f"{first}: the gap before each message",
            across="ms from the failure on",
            unit="ms",
            curves={row.system: row.timeline for row in self.failures if row.fault == first},
        )
        rate = f"{self.failures[0].rate_per_s:,} messages a second"
        return make_figure(f"Failures, {rate}", self._made_on, [panel, curves])


def look(at_ns: int, sent: int, traces: Sequence[Trace], members: int | None) -> Broken:
    """One run: what came at each receiver that is left, and its views.

    `members` are left of the group, if anybody is gone. The first trace is the sender's own.
    """
    worst: tuple[float, list[tuple[float, float]]] = (0.0, [])
    before_ms = 0.0
    for trace in traces[1:]:
        gaps = [
            (later - at_ns, later - earlier)
            for earlier, later in itertools.pairwise(trace.times_ns)
            if later >= at_ns - BASELINE_NS
        ]
        after = [(at / MS, gap / MS) for at, gap in gaps if at >= 0]
        longest = max((gap for _, gap in after), default=float("inf"))
        if longest >= worst[0]:
            worst = longest, _thinned(after)
        before_ms = max([before_ms, *(gap / MS for at, gap in gaps if at < 0)])
    return Broken(
        gap_ms=worst[0],
        before_ms=before_ms,
        view_ms=_view_ms(at_ns, traces, members) if members is not None else None,
        lost=sum(abs(sent - len(trace.times_ns)) + trace.gaps for trace in traces[1:]),
        timeline=worst[1],
    )


def _thinned(gaps: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The longest of each step."""
    found: dict[int, float] = {}
    for at_ms, gap_ms in gaps:
        step = int(at_ms // STEP_MS) + 1
        found[step] = max(found.get(step, 0.0), gap_ms)
    return [(step * STEP_MS, round(gap_ms, 2)) for step, gap_ms in found.items()]


def _view_ms(at_ns: int, traces: Sequence[Trace], members: int) -> float:
    """When the last of them had the view; infinite if one never had."""
    seen: list[float] = []
    for trace in traces:
        late = [at - at_ns for at, count in trace.views if at >= at_ns and count == members]
        seen.append(min(late, default=float("inf")) / MS)
    return max(seen)


def summed_up(
    system: str, fault: str, nodes: int, size_bytes: int, rate_per_s: int, runs: Sequence[Broken]
) -> Failure:
    """Medians over the runs."""
    gaps = [run.gap_ms for run in runs]
    middle = sorted(runs, key=lambda run: run.gap_ms)[len(runs) // 2]
    views = [run.view_ms for run in runs if run.view_ms is not None]
    return Failure(
        system=system,
        fault=fault,
        nodes=nodes,
        size_bytes=size_bytes,
        rate_per_s=rate_per_s,
        runs=len(runs),
        gap_ms=round(statistics.median(gaps), 1),
        gap_range_ms=(round(min(gaps), 1), round(max(gaps), 1)),
        before_ms=round(statistics.median(run.before_ms for run in runs), 1),
        view_ms=round(statistics.median(views), 1) if views else None,
        lost=sum(run.lost for run in runs),
        timeline=middle.timeline,
    )


def judge(failures: Sequence[Failure]) -> list[Verdict]:
    """phalanx's figures by their limits."""
    found: list[Verdict] = []
    for row in failures:
        key, words = (row.system, row.fault), f"{row.fault}, {row.system}"
        if key in GAP_LIMITS_MS:
            found.append(absolute(f"{words}, longest gap ms", row.gap_ms, GAP_LIMITS_MS[key]))
        if key in VIEW_LIMITS_MS and row.view_ms is not None:
            found.append(absolute(f"{words}, new view ms", row.view_ms, VIEW_LIMITS_MS[key]))
    return found


def failure_table(rows: Sequence[Failure]) -> Table:
    """One row for each failure and system."""
    title = f"What breaks, {rows[0].rate_per_s:,} messages a second of {rows[0].size_bytes} bytes"
    columns = ("failure", "system", "gap ms", "range", "before", "new view ms", "lost")
    table = make_table(title, *columns)
    for row in rows:
        low, high = row.gap_range_ms
        view = "" if row.view_ms is None else f"{row.view_ms:,.0f}"
        cells = (f"{row.gap_ms:,.1f}", f"{low:,.1f}-{high:,.1f}", f"{row.before_ms:,.1f}", view)
        table.add_row(row.fault, row.system, *cells, str(row.lost))
    return table
