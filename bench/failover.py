"""What a failure costs: the longest gap in a stream of messages, and how soon everybody knows.

    python bench/failover.py --peer corosync

One of three members sends a thousand messages a second; then a rail breaks, or a member does. See
docs/performance.md for the method and for the limits.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from peers.compiled import Build
from peers.corosync import ACTIVE, DEFAULTS, TUNED, Corosync
from peers.crew import Crew
from peers.failover_result import Broken, FailoverReport, judge, look, summed_up
from peers.lines import Task
from peers.machine import Machine
from peers.options import AsJson, HowBuilt, PeersOnly, Plot, S, Whole
from peers.phalanx_cluster import Phalanx
from peers.program import Steps, carry_out
from peers.stage import Mortal, Stage, Strike, run_pace

NODES = 3
SIZE_BYTES = 256
BEFORE_S = 2.0
"""From the beginning to the failure."""


class Peer(enum.StrEnum):
    """Whom phalanx is compared with."""

    COROSYNC = "corosync"


def _silent(stage: Stage, system: Mortal, crew: Crew, nodes: int) -> None:
    """Rail a of the sender carries nothing any more, and nobody is told."""
    del system, crew, nodes
    stage.lab.drop(stage.lab.rails[0], stage.lab.hosts[0])


def _link_down(stage: Stage, system: Mortal, crew: Crew, nodes: int) -> None:
    """The cable of rail a is pulled at the sender."""
    del system, crew, nodes
    stage.lab.cut(stage.lab.rails[0], stage.lab.hosts[0])


def _one_way(stage: Stage, system: Mortal, crew: Crew, nodes: int) -> None:
    """Nothing comes to the sender over rail a any more; what it sends arrives."""
    del system, crew, nodes
    stage.lab.drop(stage.lab.rails[0], stage.lab.hosts[0], "in")


def _killed(stage: Stage, system: Mortal, crew: Crew, nodes: int) -> None:
    """What runs on the last host ends at once."""
    host = stage.hosts(nodes)[-1]
    system.kill(host)
    crew.kill(host)


def _vanished(stage: Stage, system: Mortal, crew: Crew, nodes: int) -> None:
    """The last host is reached over no rail any more."""
    del system
    host = stage.hosts(nodes)[-1]
    for rail in stage.lab.rails:
        stage.lab.drop(rail, host)
    crew.forget(host)


FAULTS: Mapping[str, Strike] = {
    "silent drop": _silent,
    "link down": _link_down,
    "one way": _one_way,
    "killed": _killed,
    "vanished": _vanished,
}
GONE = ("killed", "vanished")
"""After these there is one member less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be measured."""

    systems: Sequence[Mortal]
    faults: Sequence[str]
    runs: int
    rate_per_s: int

    @property
    def steps(self) -> int:
        """How many runs there are."""
        return len(self.systems) * len(self.faults) * self.runs

    def carry_out(self, stage: Stage, progress: Steps, machine: Machine) -> FailoverReport:
        """Measure all of it, the systems in turn, so that all see the same machine.

        Raises:
            BenchFailed: a run did not come to its end.
        """
        found: dict[tuple[str, str], list[Broken]] = {}
        for number in range(1, self.runs + 1):
            for fault in self.faults:
                for system in self.systems:
                    progress.begin(f"{fault}, {system.name}, run {number} of {self.runs}")
                    with system.up(stage, NODES):
                        task = self._task(system)
                        run = run_pace(stage, system, task, FAULTS[fault], BEFORE_S)
                    broken = look(*run, NODES - 1 if fault in GONE else None)
                    found.setdefault((fault, system.name), []).append(broken)
        failures = [
            summed_up(name, fault, NODES, SIZE_BYTES, self.rate_per_s, runs)
            for (fault, name), runs in found.items()
        ]
        return FailoverReport(
            machine=machine,
            versions={system.name: system.version() for system in self.systems},
            failures=failures,
            verdicts=judge(failures),
        )

    def _task(self, system: Mortal) -> Task:
        return Task(
            kind="pace",
            nodes=NODES,
            count=self.rate_per_s,
            size_bytes=SIZE_BYTES,
            window_ns=int((BEFORE_S + system.notices_s) * S),
        )


def main(
    peer: Annotated[
        list[Peer] | None, typer.Option(help="Compare with it; may be given again.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help=f"Only this one: {', '.join(FAULTS)}; may be given again."),
    ] = None,
    runs: Annotated[int, typer.Option(min=1, max=100, help="The median of them counts.")] = 3,
    rate: Annotated[int, typer.Option(min=100, max=20_000, help="Messages a second.")] = 1000,
    peers_only: PeersOnly = False,
    build: HowBuilt = Build.PGO,
    json: AsJson = False,
    report: Whole = None,
    plot: Plot = None,
) -> None:
    """Break rails and members under traffic, and measure what comes through.

    corosync is measured as it comes, tuned as far as it can be, and with active links. The exit
    status is 0 if phalanx lost nothing and keeps to its limits, 1 if not, and 2 if something
    is missing here.
    """
    unknown = sorted(set(fault or ()) - FAULTS.keys())
    if unknown:
        words = f"{unknown[0]!r}: use one of {', '.join(FAULTS)}"
        raise typer.BadParameter(words, param_hint="--fault")
    systems: list[Mortal] = []
    if not peers_only:
        systems += [
            Phalanx(build=build),
            Phalanx(ordered=True, build=build),
            Phalanx(active=True, build=build),
        ]
    if peer:
        systems += [Corosync(DEFAULTS), Corosync(TUNED), Corosync(ACTIVE)]
    if not systems:
        raise typer.BadParameter("there is nothing left to measure", param_hint="--peers-only")
    plan = Plan(
        systems=systems,
        faults=list(dict.fromkeys(fault or FAULTS)),
        runs=runs,
        rate_per_s=rate,
    )
    raise typer.Exit(
        carry_out(
            "bench/failover.py",
            plan.carry_out,
            systems,
            hosts=NODES,
            steps=plan.steps,
            json=json,
            plot=plot,
            whole=report,
        )
    )


if __name__ == "__main__":
    typer.run(main)
