"""How long a barrier takes: phalanx beside corosync and Redis, on the same hosts and rails.

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
from pathlib import Path
from typing import Annotated

import typer
from peers import figures
from peers.corosync import Corosync
from peers.figures import Latency, Verdict
from peers.lines import Task, Times
from peers.machine import Machine
from peers.phalanx_cluster import Phalanx
from peers.plot import Bar, Panel, make_figure
from peers.program import Steps, carry_out, numbers
from peers.redis_server import Redis
from peers.stage import Stage, System, run_rounds
from peers.tables import latency_table, made_on, verdict_table
from rich.console import RenderableType

from phalanx.barrier.demo_plot import Figure

NODES_MAX = 16
LIMITS = {("corosync", 4): 0.6, ("redis", 4): 1.0, ("corosync", 8): 0.4}
"""What phalanx's p50 may be of a peer's, by peer and number of nodes."""
BACKGROUND_NODES = 4
BACKGROUND_LIMIT = 5.0
"""What the p99 under load may be of the p50 without."""
FLOWED_MIN = 0.95
"""Of the load that was asked for; with less the figure says nothing."""


class Peer(enum.StrEnum):
    """Whom phalanx is compared with."""

    COROSYNC = "corosync"
    REDIS = "redis"


@dataclass(frozen=True, slots=True, kw_only=True)
class Background:
    """A barrier while the bulk lane is busy between the same nodes."""

    asked_mb_per_s: float
    flowed_mb_per_s: float
    """What all members together received from the others, in 10^6 bytes a second."""
    idle: Latency
    loaded: Latency


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that was measured."""

    bench: str
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
        if self.verdicts:
            found.append(verdict_table(self.verdicts))
        return [*found, made_on(self.machine, self.versions)]

    def figure(self) -> Figure:
        """The p50 of each as bars, with lines up to the p99."""
        panels: list[Panel] = []
        if self.latencies:
            groups: dict[str, dict[str, Bar]] = {}
            for row in self.latencies:
                groups.setdefault(f"{row.nodes} nodes", {})[row.system] = _bar(row)
            panels.append(Panel(title="back to back", unit="µs", groups=groups))
        if self.background is not None:
            load = f"{self.background.flowed_mb_per_s:.0f} MB/s of bulk"
            rows = {"idle": self.background.idle, load: self.background.loaded}
            groups = {words: {"phalanx": _bar(row)} for words, row in rows.items()}
            panels.append(Panel(title="under load", unit="µs", groups=groups, logarithmic=True))
        footnote = made_on(self.machine, self.versions)
        return make_figure("Barrier: p50, and the line up to p99", footnote, panels)


def _bar(row: Latency) -> Bar:
    return Bar(value=row.p50_us, low=row.p50_us, high=row.p99_us)


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

    def carry_out(self, stage: Stage, progress: Steps, machine: Machine) -> Report:
        """Measure all of it, one system after the other.

        Raises:
            BenchFailed: a run did not come to its end.
        """
        latencies = [
            self._measure(stage, progress, system, nodes)
            for nodes in self.nodes
            for system in self.systems
        ]
        background = self._background(stage, progress) if self.background_mb_per_s else None
        verdicts = compare(latencies)
        if background is not None:
            verdicts += judge_background(background)
        return Report(
            bench="barrier",
            machine=machine,
            versions={system.name: system.version() for system in self.systems},
            latencies=latencies,
            background=background,
            verdicts=verdicts,
        )

    def _measure(self, stage: Stage, progress: Steps, system: System, nodes: int) -> Latency:
        task = Task(kind="barrier", nodes=nodes, count=self.rounds)
        runs: list[list[Times]] = []
        with system.up(stage, nodes):
            for number in range(1, self.runs + 1):
                progress.begin(f"{system.name}, {nodes} nodes, run {number} of {self.runs}")
                runs.append(run_rounds(stage, system, task))
        return figures.latency(system.name, nodes, self.rounds, runs)

    def _background(self, stage: Stage, progress: Steps) -> Background:
        asked, nodes = self.background_mb_per_s, BACKGROUND_NODES
        assert asked is not None, "asked for"
        system = Phalanx(ordered=False)
        # What each multicasts crosses the rails once for each of the others.
        share = asked * 1e6 / (nodes * (nodes - 1))
        idle = Task(kind="barrier", nodes=nodes, count=self.rounds)
        loaded = Task(kind="barrier", nodes=nodes, count=self.rounds, load_bytes_per_s=share)
        quiet_runs: list[list[Times]] = []
        loaded_runs: list[list[Times]] = []
        for number in range(1, self.runs + 1):
            words = f"{nodes} nodes, run {number} of {self.runs}"
            progress.begin(f"idle, {words}")
            quiet_runs.append(run_rounds(stage, system, idle))
            progress.begin(f"{asked:g} MB/s on the bulk lane, {words}")
            loaded_runs.append(run_rounds(stage, system, loaded))
        flowed = statistics.median(figures.flowed_mb_per_s(run) for run in loaded_runs)
        return Background(
            asked_mb_per_s=asked,
            flowed_mb_per_s=round(flowed, 2),
            idle=figures.latency("idle", nodes, self.rounds, quiet_runs),
            loaded=figures.latency("loaded", nodes, self.rounds, loaded_runs),
        )


def compare(latencies: Sequence[Latency]) -> list[Verdict]:
    """phalanx's p50 by that of each peer."""
    ours = {row.nodes: row for row in latencies if row.system == "phalanx"}
    return [
        figures.ratio(
            f"barrier p50, {row.nodes} nodes, phalanx / {row.system}",
            ours[row.nodes].p50_us,
            row.p50_us,
            LIMITS.get((row.system, row.nodes)),
        )
        for row in latencies
        if row.system != "phalanx" and row.nodes in ours
    ]


def judge_background(background: Background) -> list[Verdict]:
    """The tail under load by the middle without, and whether there was a load."""
    return [
        figures.ratio(
            f"barrier among {BACKGROUND_NODES}, p99 under load / idle p50",
            background.loaded.p99_us,
            background.idle.p50_us,
            BACKGROUND_LIMIT,
        ),
        figures.ratio(
            "load that flowed / load asked for",
            background.flowed_mb_per_s,
            background.asked_mb_per_s,
            FLOWED_MIN,
            "at least",
        ),
    ]


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
    runs: Annotated[int, typer.Option(min=1, max=100, help="The median of them counts.")] = 3,
    background: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=10_000,
            help=f"Also measure phalanx among {BACKGROUND_NODES} while so many MB/s in total flow "
            "between them on the bulk lane.",
        ),
    ] = None,
    peers_only: Annotated[bool, typer.Option("--peers-only", help="Leave phalanx out.")] = False,
    json: Annotated[
        bool, typer.Option("--json", help="One object of JSON instead of tables.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(dir_okay=False, help="Draw bars to a file.")] = None,
) -> None:
    """Measure a barrier among processes in namespaces of their own, and compare it with peers.

    The exit status is 0 if everything was measured and keeps to its limits, 1 if not, and 2 if
    something is missing here.
    """
    chosen = list(dict.fromkeys(peer or []))
    makers = {Peer.COROSYNC: Corosync, Peer.REDIS: Redis}
    systems: list[System] = [] if peers_only else [Phalanx(ordered=False)]
    systems += [makers[each]() for each in chosen]
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
        )
    )


if __name__ == "__main__":
    typer.run(main)
