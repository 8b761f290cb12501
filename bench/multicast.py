"""How fast one sender reaches several receivers, with packets lost: phalanx beside NORM.

    python bench/multicast.py --peer norm

The first of the nodes sends flat out; what counts is what the slowest receiver is delivered. At
each receiver packets are lost at random, on every rail. See docs/performance.md for the method.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from peers import figures
from peers.compiled import Build
from peers.lines import Delivered, Run, Task
from peers.machine import Machine
from peers.multicast_result import MulticastReport, judge
from peers.norm import Norm
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
from peers.phalanx_cluster import Phalanx
from peers.program import Steps, carry_out, numbers
from peers.stage import Stage, System, run_flood

NODES_MAX = 16
SIZE_MIN, SIZE_MAX = 16, 1 << 20
LOSS_MAX = 50


class Peer(enum.StrEnum):
    """Whom phalanx is compared with."""

    NORM = "norm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be measured."""

    systems: Sequence[System]
    nodes: int
    sizes: Sequence[int]
    losses: Sequence[int]
    runs: int
    warm_up_ns: int
    window_ns: int

    @property
    def steps(self) -> int:
        """How many runs there are."""
        return len(self.systems) * len(self.sizes) * len(self.losses) * self.runs

    def carry_out(self, stage: Stage, progress: Steps, machine: Machine) -> MulticastReport:
        """Measure all of it, the systems in turn, so that all see the same machine.

        Raises:
            BenchFailed: a run did not come to its end.
        """
        floods: dict[tuple[int, int, str], list[Run[Delivered]]] = {}
        for number in range(1, self.runs + 1):
            for loss in self.losses:
                for size in self.sizes:
                    for system in self.systems:
                        words = f"{size:,} bytes, {loss} % lost, run {number} of {self.runs}"
                        progress.begin(f"{system.name}, {words}")
                        with system.up(stage, self.nodes):
                            run = run_flood(stage, system, self._task(size), loss_percent=loss)
                        # The sender has no network between itself and what it sends.
                        floods.setdefault((loss, size, system.name), []).append(run.receivers())
        goodputs = [
            figures.throughput(name, self.nodes, size, self.window_ns, runs, loss_percent=loss)
            for (loss, size, name), runs in floods.items()
        ]
        return MulticastReport(
            machine=machine,
            versions={system.name: system.version() for system in self.systems},
            goodputs=goodputs,
            verdicts=judge(goodputs),
        )

    def _task(self, size: int) -> Task:
        return Task(
            kind="stream",
            nodes=self.nodes,
            size_bytes=size,
            warm_up_ns=self.warm_up_ns,
            window_ns=self.window_ns,
        )


def main(
    peer: Annotated[
        list[Peer] | None, typer.Option(help="Compare with it; may be given again.")
    ] = None,
    nodes: Annotated[
        int, typer.Option(min=2, max=NODES_MAX, help="The sender and its receivers.")
    ] = 4,
    sizes: Sizes = "64,1024,65536",
    losses: Annotated[str, typer.Option(help="In per cent of the packets.")] = "0,1,5",
    runs: Runs = 5,
    seconds: Seconds = 2.0,
    warm_up: WarmUp = 0.5,
    unicast: Annotated[
        bool, typer.Option("--unicast", help="Measure phalanx without multicast as well.")
    ] = False,
    peers_only: PeersOnly = False,
    offload: Annotated[
        bool,
        typer.Option(
            "--offload", help="Let the kernel carry several packets as one, which are lost as one."
        ),
    ] = False,
    build: HowBuilt = Build.PGO,
    json: AsJson = False,
    report: Whole = None,
    plot: Plot = None,
) -> None:
    """Measure multicast among processes in namespaces of their own, and compare it with peers.

    The exit status is 0 if everything was measured, all that phalanx has sent came to everybody,
    and the figures keep to their limits, 1 if not, and 2 if something is missing here.
    """
    systems: list[System] = [] if peers_only else [Phalanx(fan_out=True, build=build)]
    if unicast and not peers_only:
        systems.append(Phalanx(build=build))
    if peer:
        systems.append(Norm())
    if not systems:
        raise typer.BadParameter("there is nothing left to measure", param_hint="--peers-only")
    plan = Plan(
        systems=systems,
        nodes=nodes,
        sizes=sizes_of(sizes, SIZE_MIN, SIZE_MAX),
        losses=sorted(set(numbers(losses, "--losses", 0, LOSS_MAX))),
        runs=runs,
        warm_up_ns=int(warm_up * S),
        window_ns=int(seconds * S),
    )
    raise typer.Exit(
        carry_out(
            "bench/multicast.py",
            plan.carry_out,
            systems,
            hosts=nodes,
            steps=plan.steps,
            json=json,
            plot=plot,
            whole=report,
            offload=offload,
        )
    )


if __name__ == "__main__":
    typer.run(main)
