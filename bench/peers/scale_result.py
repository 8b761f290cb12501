"""What the program of growth tells: the cost of a member by the size of its cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import RenderableType

from phalanx.barrier.demo_plot import Figure

from .figures import Verdict
from .machine import Machine
from .plot import Curves, make_figure
from .tables import made_on, make_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown:
    """Members as processes on the hosts of this machine."""

    nodes: int
    joined_s: float
    """From the start of the first process to the view of all."""
    idle_cpu_ms_per_s: float
    """Processor time that a member takes with nothing to do, the median of all."""
    resident_mib: float
    """Memory of the largest member."""
    barrier_p50_us: float
    barrier_p99_us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Members in virtual time: what each says, on the average."""

    nodes: int
    joined_ms: float
    """Until all were in one view."""
    idle_frames_per_s: float
    idle_bytes_per_s: int
    barrier_frames: float
    """For one barrier, heartbeats meanwhile included."""
    barrier_bytes: int
    barrier_delays: float
    """From the arrivals to the last release, in delays of the network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleReport:
    """Everything that was measured."""

    bench: str = "scale"
    machine: Machine
    versions: dict[str, str]
    grown: list[Grown]
    counted: list[Counted]
    verdicts: list[Verdict] = field(default_factory=list[Verdict])
    """Nothing is asked of these figures."""

    @property
    def sound(self) -> bool:
        """Members that did not come together have failed before."""
        return True

    def tables(self) -> Sequence[RenderableType]:
        """For people."""
        columns = ("nodes", "joined s", "idle ms/s", "MiB", "barrier p50 µs", "p99 µs")
        processes = make_table("A member as a process", *columns)
        for row in self.grown:
            processes.add_row(
                str(row.nodes),
                f"{row.joined_s:.1f}",
                f"{row.idle_cpu_ms_per_s:.1f}",
                f"{row.resident_mib:.0f}",
                f"{row.barrier_p50_us:,.0f}",
                f"{row.barrier_p99_us:,.0f}",
            )
        columns = ("nodes", "joined ms", "idle frames/s", "bytes/s", "barrier frames", "delays")
        counted = make_table("A member in virtual time", *columns)
        for each in self.counted:
            counted.add_row(
                str(each.nodes),
                f"{each.joined_ms:.0f}",
                f"{each.idle_frames_per_s:,.0f}",
                f"{each.idle_bytes_per_s:,}",
                f"{each.barrier_frames:.2f}",
                f"{each.barrier_delays:.1f}",
            )
        return [processes, counted, made_on(self.machine, self.versions)]

    def figure(self) -> Figure:
        """Time as the cluster grows, and frames."""
        middle = [(float(row.nodes), row.barrier_p50_us) for row in self.grown]
        tail = [(float(row.nodes), row.barrier_p99_us) for row in self.grown]
        idle = [(float(row.nodes), row.idle_frames_per_s) for row in self.counted]
        panels = [
            Curves(
                title="a barrier of all, as processes",
                across="members",
                unit="µs",
                curves={"p50": middle, "p99": tail},
            ),
            Curves(
                title="what an idle member sends",
                across="members",
                unit="frames/s",
                curves={"in virtual time": idle},
            ),
        ]
        return make_figure("As the cluster grows", made_on(self.machine, self.versions), panels)
