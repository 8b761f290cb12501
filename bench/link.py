"""How much goes from one process to another: phalanx beside ZeroMQ, plain TCP, and bare SCTP in C.

    python bench/link.py --peer pyzmq --peer tcp --peer usrsctp

One member sends flat out to one other; what counts is what that one is delivered. See
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
from peers.lines import Delivered, Run, Task
from peers.link_result import LinkReport, judge
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
from peers.phalanx_cluster import Phalanx
from peers.program import Steps, carry_out
from peers.stage import Stage, System, run_flood
from peers.tcp import Tcp
from peers.usrsctp import Usrsctp
from peers.zeromq import ZeroMq

NODES = 2
SIZE_MIN, SIZE_MAX = 16, 1 << 20


class Peer(enum.StrEnum):
    """Whom phalanx is compared with."""

    PYZMQ = "pyzmq"
    TCP = "tcp"
    USRSCTP = "usrsctp"


PEERS = {Peer.PYZMQ: ZeroMq, Peer.TCP: Tcp, Peer.USRSCTP: Usrsctp}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be measured."""

    systems: Sequence[System]
    sizes: Sequence[int]
    runs: int
    warm_up_ns: int
    window_ns: int

    @property
    def steps(self) -> int:
        """How many runs there are."""
        return len(self.systems) * len(self.sizes) * self.runs

    def carry_out(self, stage: Stage, progress: Steps, machine: Machine) -> LinkReport:
        """Measure all of it, the systems in turn, so that all see the same machine.

        Raises:
            BenchFailed: a run did not come to its end.
        """
        floods: dict[tuple[int, str], list[Run[Delivered]]] = {}
        for number in range(1, self.runs + 1):
            for size in self.sizes:
                for system in self.systems:
                    words = f"{size:,} bytes, run {number} of {self.runs}"
                    progress.begin(f"{system.name}, {words}")
                    with system.up(stage, NODES):
                        run = run_flood(stage, system, self._task(size))
                    floods.setdefault((size, system.name), []).append(run.receivers())
        rates = [
            figures.throughput(name, NODES, size, self.window_ns, runs)
            for (size, name), runs in floods.items()
        ]
        return LinkReport(
            machine=machine,
            versions={system.name: system.version() for system in self.systems},
            rates=rates,
            verdicts=judge(rates),
        )

    def _task(self, size: int) -> Task:
        return Task(
            kind="link",
            nodes=NODES,
            size_bytes=size,
            warm_up_ns=self.warm_up_ns,
            window_ns=self.window_ns,
        )


def main(
    peer: Annotated[
        list[Peer] | None, typer.Option(help="Compare with it; may be given again.")
    ] = None,
    sizes: Sizes = "64,1024,16384,65536",
    runs: Runs = 5,
    seconds: Seconds = 2.0,
    warm_up: WarmUp = 0.5,
    peers_only: PeersOnly = False,
    build: HowBuilt = Build.PGO,
    json: AsJson = False,
    report: Whole = None,
    plot: Plot = None,
) -> None:
    """Measure a link between two processes in namespaces of their own, and compare it with peers.

    phalanx is measured over SCTP, and by its datagrams. The exit status is 0 if everything was
    measured, all that was sent came, and the figures keep to their limits, 1 if not, and 2 if
    something is missing here.
    """
    systems: list[System] = []
    if not peers_only:
        systems += [Phalanx(build=build), Phalanx(datagrams=True, build=build)]
    systems += [PEERS[name]() for name in dict.fromkeys(peer or ())]
    if not systems:
        raise typer.BadParameter("there is nothing left to measure", param_hint="--peers-only")
    plan = Plan(
        systems=systems,
        sizes=sizes_of(sizes, SIZE_MIN, SIZE_MAX),
        runs=runs,
        warm_up_ns=int(warm_up * S),
        window_ns=int(seconds * S),
    )
    raise typer.Exit(
        carry_out(
            "bench/link.py",
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
