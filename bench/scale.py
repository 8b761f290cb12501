"""What a member costs as the cluster grows: processes as far as the machine goes, then simulated.

    python bench/scale.py
    python bench/scale.py --nodes 2,4,8 --simulate 16,64

The processes show time and memory; the simulation counts frames, where processors cost nothing. See
docs/performance.md for the method.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from peers import figures
from peers.compiled import Build
from peers.crew import Crew
from peers.lines import Ready, Task, Times
from peers.machine import Machine
from peers.options import AsJson, HowBuilt, Plot, S, Whole
from peers.phalanx_cluster import Phalanx
from peers.program import Steps, carry_out, numbers
from peers.scale_result import Counted, Grown, ScaleReport
from peers.stage import Stage
from phalanx.barrier.testing.meetings import arrive, use_barriers
from phalanx.transport.testing.barrier_checkers import Outcome
from phalanx.transport.testing.simulation import Simulation, simulated_config

NODES_MAX = 64
START_S = 120.0
IDLE_S = 5.0
SETTLE_S = 2.0
BARRIERS = 20
"""That are counted in a simulation."""
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def _cpu_s(pid: int) -> float:
    """Processor time that a process has taken."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / _TICKS


def _resident_mib(pid: int) -> float:
    text = Path(f"/proc/{pid}/statm").read_text(encoding="ascii")
    return int(text.split()[1]) * _PAGE / (1 << 20)


def grow(stage: Stage, system: Phalanx, nodes: int, rounds: int) -> Grown:
    """So many members that come together, have nothing to do for a while, and then meet.

    Raises:
        BenchFailed: one did not come to its end.
    """
    task = Task(kind="barrier", nodes=nodes, count=rounds)
    with Crew(stage.lab) as crew:
        commands = system.commands(stage, task)
        began = time.monotonic()
        for host, argv in zip(stage.hosts(nodes), commands, strict=True):
            crew.start(host, argv)
        crew.gather(Ready, START_S)
        joined_s = time.monotonic() - began
        time.sleep(SETTLE_S)  # what joining has left to do is not what an idle member does
        before, since = [_cpu_s(pid) for pid in crew.pids], time.monotonic()
        time.sleep(IDLE_S)  # it is this time that is measured
        passed_s = time.monotonic() - since
        shares = [
            (_cpu_s(pid) - was) / passed_s for pid, was in zip(crew.pids, before, strict=True)
        ]
        resident_mib = max(map(_resident_mib, crew.pids))
        crew.tell(f"go {time.monotonic_ns()}")
        met = figures.latency(system.name, nodes, rounds, [crew.gather(Times, task.limit_s)])
        crew.dismiss()
    return Grown(
        nodes=nodes,
        joined_s=round(joined_s, 2),
        idle_cpu_ms_per_s=round(statistics.median(shares) * 1000, 2),
        resident_mib=round(resident_mib, 1),
        barrier_p50_us=met.p50_us,
        barrier_p99_us=met.p99_us,
    )


def count(nodes: int) -> Counted:
    """So many members in virtual time: what they say to each other."""
    simulation = Simulation(simulated_config(nodes))
    use_barriers(simulation)
    simulation.start_all()
    joined_ns = simulation.run_until(lambda: simulation.agreed_on(*simulation.nodes), 60 * S)
    simulation.run_for(S)
    seen: Counter[str] = Counter()

    def tap(_source: int, frame: bytes) -> None:
        seen["frames"] += 1
        seen["bytes"] += len(frame)

    simulation.network.tap = tap
    simulation.run_for(2 * S)
    idle, barriers = Counter(seen), BARRIERS
    seen.clear()
    met_ns: list[int] = []
    for number in range(1, barriers + 1):
        for node in simulation.nodes.values():
            arrive(node, "scale", None)
        met_ns.append(
            simulation.run_until(
                lambda number=number: all(
                    len(node.told(Outcome)) >= number for node in simulation.nodes.values()
                ),
                S,
            )
        )
    return Counted(
        nodes=nodes,
        joined_ms=round(joined_ns / 1e6, 1),
        idle_frames_per_s=round(idle["frames"] / 2 / nodes, 1),
        idle_bytes_per_s=round(idle["bytes"] / 2 / nodes),
        barrier_frames=round(seen["frames"] / barriers / nodes, 2),
        barrier_bytes=round(seen["bytes"] / barriers / nodes),
        barrier_delays=round(statistics.median(met_ns) / simulation.network.options.delay_ns, 1),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be measured."""

    system: Phalanx
    nodes: Sequence[int]
    simulated: Sequence[int]
    rounds: int

    @property
    def steps(self) -> int:
        """How many runs there are."""
        return len(self.nodes) + len(self.simulated)

    def carry_out(self, stage: Stage, progress: Steps, machine: Machine) -> ScaleReport:
        """Measure all of it.

        Raises:
            BenchFailed: a run did not come to its end.
        """
        grown: list[Grown] = []
        for nodes in self.nodes:
            progress.begin(f"{nodes} members as processes")
            with self.system.up(stage, nodes):
                grown.append(grow(stage, self.system, nodes, self.rounds))
        counted: list[Counted] = []
        for nodes in self.simulated:
            progress.begin(f"{nodes} members in virtual time")
            counted.append(count(nodes))
        versions = {self.system.name: self.system.version()}
        return ScaleReport(machine=machine, versions=versions, grown=grown, counted=counted)


def main(
    nodes: Annotated[
        str, typer.Option(help=f"Numbers of processes, 2 to {NODES_MAX}, with commas between.")
    ] = "2,4,8,16,32",
    simulate: Annotated[
        str, typer.Option(help="Numbers of members in virtual time, the same way.")
    ] = "2,4,8,16,32,64",
    rounds: Annotated[
        int, typer.Option(min=10, max=100_000, help="Of the barrier of each run.")
    ] = 500,
    build: HowBuilt = Build.PGO,
    json: AsJson = False,
    report: Whole = None,
    plot: Plot = None,
) -> None:
    """Measure what a member costs in clusters of several sizes.

    The exit status is 0 if everything was measured, 1 if not, and 2 if something is missing here.
    """
    plan = Plan(
        system=Phalanx(build=build),
        nodes=sorted(set(numbers(nodes, "--nodes", 2, NODES_MAX))),
        simulated=sorted(set(numbers(simulate, "--simulate", 2, NODES_MAX))),
        rounds=rounds,
    )
    raise typer.Exit(
        carry_out(
            "bench/scale.py",
            plan.carry_out,
            [plan.system],
            hosts=max(plan.nodes),
            steps=plan.steps,
            json=json,
            plot=plot,
            whole=report,
        )
    )


if __name__ == "__main__":
    typer.run(main)
