"""How fast messages get into one order: phalanx beside corosync, on the same hosts and rails.

    python bench/order.py --peer corosync

All members send flat out, and what counts is what the slowest of them is delivered; then, with
nothing else going on, how long a message takes until it is back at its sender in the order. See
docs/performance.md for the method and for what the ratios mean.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from peers import figures
from peers.compiled import Build
from peers.corosync import SIZE_MAX, Corosync
from peers.lines import Delivered, Run, Task, Times
from peers.machine import Machine
from peers.options import (
    AsJson,
    HowBuilt,
    PeersOnly,
    Plot,
    Runs,
    S,
    Seconds,
    Sizes,
    WarmUp,
    Whole,
    sizes_of,
)
from peers.order_result import ROUND_TRIP_BYTES, OrderReport, judge
from peers.phalanx_cluster import Phalanx
from peers.program import Steps, carry_out
from peers.stage import Stage, System, run_flood, run_rounds

NODES_MAX = 16
SIZE_MIN = 16
"""Each message begins with its sender and number."""


class Peer(enum.StrEnum):
    """Whom phalanx is compared with."""

    COROSYNC = "corosync"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be measured."""

    systems: Sequence[System]
    nodes: int
    sizes: Sequence[int]
    runs: int
    warm_up_ns: int
    window_ns: int
    messages: int

    @property
    def steps(self) -> int:
        """How many runs there are."""
        return len(self.systems) * (len(self.sizes) + 1) * self.runs

    def carry_out(self, stage: Stage, progress: Steps, machine: Machine) -> OrderReport:
        """Measure all of it, the systems in turn, so that all see the same machine.

        Raises:
            BenchFailed: a run did not come to its end.
        """
        trips: dict[str, list[Run[Times]]] = {system.name: [] for system in self.systems}
        floods: dict[tuple[str, int], list[Run[Delivered]]] = {}
        for number in range(1, self.runs + 1):
            for system in self.systems:
                words = f"run {number} of {self.runs}"
                with system.up(stage, self.nodes):
                    progress.begin(f"{system.name}, round trip, {words}")
                    trips[system.name].append(run_rounds(stage, system, self._round_trip))
                    for size in self.sizes:
                        progress.begin(f"{system.name}, {size:,} bytes, {words}")
                        flood = run_flood(stage, system, self._flood(size))
                        floods.setdefault((system.name, size), []).append(flood)
        round_trips = [
            figures.latency(name, self.nodes, self.messages, runs) for name, runs in trips.items()
        ]
        throughputs = [
            figures.throughput(name, self.nodes, size, self.window_ns, runs)
            for (name, size), runs in floods.items()
        ]
        return OrderReport(
            machine=machine,
            versions={system.name: system.version() for system in self.systems},
            throughputs=sorted(throughputs, key=lambda row: row.size_bytes),
            round_trips=round_trips,
            verdicts=judge(throughputs, round_trips),
        )

    @property
    def _round_trip(self) -> Task:
        return Task(
            kind="latency", nodes=self.nodes, count=self.messages, size_bytes=ROUND_TRIP_BYTES
        )

    def _flood(self, size: int) -> Task:
        return Task(
            kind="flood",
            nodes=self.nodes,
            size_bytes=size,
            warm_up_ns=self.warm_up_ns,
            window_ns=self.window_ns,
        )


def main(
    peer: Annotated[
        list[Peer] | None, typer.Option(help="Compare with it; may be given again.")
    ] = None,
    nodes: Annotated[int, typer.Option(min=2, max=NODES_MAX, help="Members.")] = 3,
    sizes: Sizes = "64,1024,16384,65536",
    runs: Runs = 5,
    seconds: Seconds = 2.0,
    warm_up: WarmUp = 0.5,
    messages: Annotated[
        int, typer.Option(min=10, max=1_000_000, help="Of each round-trip run.")
    ] = 2000,
    peers_only: PeersOnly = False,
    fan_out: Annotated[
        bool, typer.Option("--fan-out", help="Measure phalanx with multicast as well.")
    ] = False,
    build: HowBuilt = Build.PGO,
    json: AsJson = False,
    report: Whole = None,
    plot: Plot = None,
) -> None:
    """Measure agreed order among processes in namespaces of their own, and compare it with peers.

    The exit status is 0 if everything was measured, in one order at all nodes and without gaps,
    and keeps to its limits, 1 if not, and 2 if something is missing here.
    """
    systems: list[System] = [] if peers_only else [Phalanx(build=build)]
    if fan_out and not peers_only:
        systems.append(Phalanx(fan_out=True, build=build))
    if peer:
        systems.append(Corosync())
    if not systems:
        raise typer.BadParameter("there is nothing left to measure", param_hint="--peers-only")
    plan = Plan(
        systems=systems,
        nodes=nodes,
        sizes=sizes_of(sizes, SIZE_MIN, SIZE_MAX),
        runs=runs,
        warm_up_ns=int(warm_up * S),
        window_ns=int(seconds * S),
        messages=messages,
    )
    raise typer.Exit(
        carry_out(
            "bench/order.py",
            plan.carry_out,
            systems,
            hosts=nodes,
            steps=plan.steps,
            json=json,
            plot=plot,
            whole=report,
        )
    )


if __name__ == "__main__":
    typer.run(main)
