"""How long a barrier takes: phalanx beside corosync, Redis and others, on the same hosts and rails.

    python bench/barrier.py --peer redis --peer corosync
    python bench/barrier.py --nodes 4 --background 50

One process a member, each in a network namespace of its own, meets the others back to back. See
docs/performance.md for the method and for what the ratios mean.
"""

from __future__ import annotations

import enum
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import typer

from peers import figures
from peers.barrier_result import BACKGROUND_NODES, Background, BarrierReport, judge
from peers.compiled import Build
from peers.corosync import Corosync
from peers.figures import Latency
from peers.lines import Run, Task, Times
from peers.machine import Machine
from peers.openmpi import OpenMpi
from peers.options import AsJson, HowBuilt, PeersOnly, Plot, Runs, Whole
from peers.phalanx_cluster import Phalanx
from peers.program import Steps, carry_out, numbers
from peers.redis_server import Redis
from peers.stage import Stage, System, run_rounds
from peers.udp import BareUdp
from peers.zookeeper import ZooKeeper
from phalanx.transport.config import SPIN_US_MAX

NODES_MAX = 16
LOADED_US = 2_000_000
"""A loaded run has at least so many rounds as take that long idle, for a load to be one."""


class Peer(enum.StrEnum):
    """Whom phalanx is compared with."""

    COROSYNC = "corosync"
    REDIS = "redis"
    ZOOKEEPER = "zookeeper"
    OPENMPI = "openmpi"
    UDP = "udp"


PEERS = {
    Peer.COROSYNC: Corosync,
    Peer.REDIS: Redis,
    Peer.ZOOKEEPER: ZooKeeper,
    Peer.OPENMPI: OpenMpi,
    Peer.UDP: BareUdp,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be measured."""

    systems: Sequence[System]
    nodes: Sequence[int]
    rounds: int
    runs: int
    background_mb_per_s: float | None

    @property
    def hosts(self) -> int:
        """How many are needed."""
        return max([*self.nodes, BACKGROUND_NODES if self.background_mb_per_s else 0])

    @property
    def steps(self) -> int:
        """How many runs there are."""
        cells = len(self.systems) * len(self.nodes) + (2 if self.background_mb_per_s else 0)
        return cells * self.runs

    def carry_out(self, stage: Stage, progress: Steps, machine: Machine) -> BarrierReport:
        """Measure all of it, the systems in turn, so that all see the same machine.

        Raises:
            BenchFailed: a run did not come to its end.
        """
        latencies: list[Latency] = []
        for nodes in self.nodes:
            latencies += self._measure(stage, progress, nodes)
        background = self._background(stage, progress) if self.background_mb_per_s else None
        return BarrierReport(
            machine=machine,
            versions={system.name: system.version() for system in self.systems},
            latencies=latencies,
            background=background,
            verdicts=judge(latencies, background),
        )

    def _measure(self, stage: Stage, progress: Steps, nodes: int) -> list[Latency]:
        task = Task(kind="barrier", nodes=nodes, count=self.rounds)
        runs: dict[str, list[Run[Times]]] = {system.name: [] for system in self.systems}
        for number in range(1, self.runs + 1):
            for system in self.systems:
                progress.begin(f"{system.name}, {nodes} nodes, run {number} of {self.runs}")
                with system.up(stage, nodes):
                    runs[system.name].append(run_rounds(stage, system, task))
        return [figures.latency(name, nodes, self.rounds, each) for name, each in runs.items()]

    def _background(self, stage: Stage, progress: Steps) -> Background:
        asked, nodes = self.background_mb_per_s, BACKGROUND_NODES
        assert asked is not None, "asked for"
        system = next(it for it in self.systems if isinstance(it, Phalanx))
        # What each multicasts crosses the rails once for each of the others.
        share = asked * 1e6 / (nodes * (nodes - 1))
        idle = Task(kind="barrier", nodes=nodes, count=self.rounds)
        loaded = msgspec.structs.replace(idle, load_bytes_per_s=share)
        idle_runs: list[Run[Times]] = []
        loaded_runs: list[Run[Times]] = []
        for number in range(1, self.runs + 1):
            words = f"{nodes} nodes, run {number} of {self.runs}"
            progress.begin(f"idle, {words}")
            idle_runs.append(run_rounds(stage, system, idle))
            if number == 1:
                round_us = figures.latency("idle", nodes, self.rounds, idle_runs).p50_us
                count = max(self.rounds, int(LOADED_US / round_us))
                loaded = msgspec.structs.replace(loaded, count=count)
            progress.begin(f"{asked:g} MB/s on the bulk lane, {words}")
            loaded_runs.append(run_rounds(stage, system, loaded))
        flowed = statistics.median(figures.flowed_mb_per_s(run) for run in loaded_runs)
        return Background(
            asked_mb_per_s=asked,
            flowed_mb_per_s=round(flowed, 2),
            idle=figures.latency("idle", nodes, idle.count, idle_runs),
            loaded=figures.latency("loaded", nodes, loaded.count, loaded_runs),
        )


def main(
    peer: Annotated[
        list[Peer] | None, typer.Option(help="Compare with it; may be given again.")
    ] = None,
    nodes: Annotated[
        str, typer.Option(help=f"Numbers of members, 2 to {NODES_MAX}, with commas between.")
    ] = "2,4,8",
    rounds: Annotated[
        int, typer.Option(min=10, max=1_000_000, help="Of each run; the first tenth is dropped.")
    ] = 2000,
    runs: Runs = 5,
    background: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=10_000,
            help=f"Also measure phalanx among {BACKGROUND_NODES} while so many MB/s in total flow "
            "between them on the bulk lane.",
        ),
    ] = None,
    spin: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=SPIN_US_MAX,
            help="Also measure phalanx with so many microseconds of `timing.spin_us`.",
        ),
    ] = None,
    peers_only: PeersOnly = False,
    build: HowBuilt = Build.PGO,
    json: AsJson = False,
    report: Whole = None,
    plot: Plot = None,
) -> None:
    """Measure a barrier among processes in namespaces of their own, and compare it with peers.

    The exit status is 0 if everything was measured and keeps to its limits, 1 if not, and 2 if
    something is missing here.
    """
    chosen = list(dict.fromkeys(peer or []))
    systems: list[System] = [] if peers_only else [Phalanx(build=build)]
    if spin and not peers_only:
        systems.append(Phalanx(spin_us=spin, build=build))
    systems += [PEERS[each]() for each in chosen]
    if not systems:
        raise typer.BadParameter("there is nothing left to measure", param_hint="--peers-only")
    if peers_only and background is not None:
        raise typer.BadParameter("it is phalanx that is measured so", param_hint="--background")
    plan = Plan(
        systems=systems,
        nodes=sorted(set(numbers(nodes, "--nodes", 2, NODES_MAX))),
        rounds=rounds,
        runs=runs,
        background_mb_per_s=background,
    )
    raise typer.Exit(
        carry_out(
            "bench/barrier.py",
            plan.carry_out,
            systems,
            hosts=plan.hosts,
            steps=plan.steps,
            json=json,
            plot=plot,
            whole=report,
        )
    )


if __name__ == "__main__":
    typer.run(main)
