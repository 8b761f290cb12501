"""What the program of agreed order tells: its figures, ratios and limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import RenderableType

from phalanx.barrier.demo_plot import Figure

from .figures import OWN, Latency, Throughput, Verdict, is_own, ratio
from .machine import Machine
from .plot import Bar, Panel, make_figure
from .tables import judged, latency_table, made_on, throughput_table

ROUND_TRIP_BYTES = 64
RATE_LIMITS = {(3, 64): 4.0}
"""What phalanx's rate is to be at least, of corosync's, by number of nodes and size."""
FAN_OUT_LIMITS = {(3, 16_384): 1.5, (3, 65_536): 1.5}
"""The same with fan-out by multicast."""
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
        return [*found, *judged(self.verdicts), made_on(self.machine, self.versions)]

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
    """phalanx's figures, with each way of its own, by those of each peer."""
    found = [
        ratio(
            f"agreed order, {row.nodes} nodes, {row.size_bytes:,} bytes, {own.system} / "
            f"{row.system}",
            own.per_s,
            row.per_s,
            _rate_limit(own),
            "at least",
        )
        for row in throughputs
        for own in throughputs
        if is_own(own.system) and not is_own(row.system) and own.size_bytes == row.size_bytes
    ]
    return found + [
        ratio(
            f"round trip p50, {row.nodes} nodes, {own.system} / {row.system}",
            own.p50_us,
            row.p50_us,
            ROUND_TRIP_LIMITS.get(row.nodes) if own.system == OWN else None,
        )
        for row in round_trips
        for own in round_trips
        if is_own(own.system) and not is_own(row.system) and own.nodes == row.nodes
    ]


def _rate_limit(own: Throughput) -> float | None:
    limits = RATE_LIMITS if own.system == OWN else FAN_OUT_LIMITS
    return limits.get((own.nodes, own.size_bytes))
