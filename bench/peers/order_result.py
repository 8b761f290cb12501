"""What the program of agreed order tells: its figures, ratios and limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import RenderableType

from phalanx.barrier.demo_plot import Figure

from .figures import Latency, Throughput, Verdict, ratio
from .machine import Machine
from .plot import Bar, Panel, make_figure
from .tables import latency_table, made_on, throughput_table, verdict_table

ROUND_TRIP_BYTES = 64
RATE_LIMITS = {(3, 64): 4.0}
"""What phalanx's rate is to be at least, of corosync's, by number of nodes and size."""
ROUND_TRIP_LIMITS = {3: 1.0}
"""What the p50 of its round trip may be of corosync's, by number of nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReport:
    """Everything that was measured."""

    bench: str = "order"
    machine: Machine
    versions: dict[str, str]
    throughputs: list[Throughput]
    round_trips: list[Latency]
    verdicts: list[Verdict]

    @property
    def sound(self) -> bool:
        """Every run had one order, without gaps, and everything sent was delivered."""
        return all(row.same_order and row.gaps == 0 and row.complete for row in self.throughputs)

    def tables(self) -> Sequence[RenderableType]:
        """For people."""
        nodes = self.round_trips[0].nodes
        flood = f"Agreed order, {nodes} nodes, all sending flat out, at the slowest node"
        trip = f"Round trip in agreed order, {ROUND_TRIP_BYTES} bytes, idle"
        found: list[RenderableType] = [throughput_table(flood, self.throughputs)]
        found.append(latency_table(trip, self.round_trips))
        if self.verdicts:
            found.append(verdict_table(self.verdicts))
        return [*found, made_on(self.machine, self.versions)]

    def figure(self) -> Figure:
        """Rates and round trips as bars."""
        rates: dict[str, dict[str, Bar]] = {}
        for row in self.throughputs:
            low, high = row.per_s_range
            bar = Bar(value=row.per_s, low=low, high=high)
            rates.setdefault(f"{row.size_bytes:,} B", {})[row.system] = bar
        trips = {
            row.system: Bar(value=row.p50_us, low=row.p50_us, high=row.p99_us)
            for row in self.round_trips
        }
        panels = [
            Panel(
                title="all sending flat out (line: range of the runs)",
                unit="deliveries/s at the slowest node",
                groups=rates,
                logarithmic=True,
            ),
            Panel(
                title="round trip, idle: p50 (line: up to p99)",
                unit="µs",
                groups={f"{ROUND_TRIP_BYTES} B": trips},
            ),
        ]
        title = f"Agreed order, {self.round_trips[0].nodes} nodes"
        return make_figure(title, made_on(self.machine, self.versions), panels)


def judge(throughputs: Sequence[Throughput], round_trips: Sequence[Latency]) -> list[Verdict]:
    """phalanx's figures by those of each peer."""
    rates = {row.size_bytes: row for row in throughputs if row.system == "phalanx"}
    trips = {row.nodes: row for row in round_trips if row.system == "phalanx"}
    found = [
        ratio(
            f"agreed order, {row.nodes} nodes, {row.size_bytes:,} bytes, phalanx / {row.system}",
            rates[row.size_bytes].per_s,
            row.per_s,
            RATE_LIMITS.get((row.nodes, row.size_bytes)),
            "at least",
        )
        for row in throughputs
        if row.system != "phalanx" and row.size_bytes in rates
    ]
    return found + [
        ratio(
            f"round trip p50, {row.nodes} nodes, phalanx / {row.system}",
            trips[row.nodes].p50_us,
            row.p50_us,
            ROUND_TRIP_LIMITS.get(row.nodes),
        )
        for row in round_trips
        if row.system != "phalanx" and row.nodes in trips
    ]
