"""How long a barrier takes with each schedule, over bare UDP between namespaces.

    python bench/spread.py
    python bench/spread.py --nodes 2,4 --barriers 200 --json

One process a member, each on a host of its own, drives a schedule of
`phalanx.transport.core.spread` over a UDP socket with epoll: no association, no membership and
no order, so what is compared is the schedules alone. `TABLE` there rests on these figures.
Schedules take turns, block by block, so that whatever else the machine does hits all of them.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from spread_member import Task, Times

from phalanx.transport.core.spread import Kind, choose
from phalanx.transport.testing.lab import Lab, ensure_privileges

NODES_MAX = 16
PORT = 7700
BLOCKS = 4
"""Each schedule has so many turns."""
WARM_UP = 20
"""Barriers of each block that do not count: the processes come to it one after the other."""
WAIT_S = 120.0
RAIL = "a"


class BenchFailed(Exception):
    """A member has not come to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One schedule among so many."""

    algorithm: Kind
    nodes: int
    p50_us: float
    p99_us: float
    barriers: int
    """That each member counted."""
    gave_up: int
    """Deadlines of 50 ms that passed, of all schedules of this size."""


def measure(lab: Lab, nodes: int, barriers: int) -> list[Row]:
    """The schedules among the first hosts of a lab.

    Raises:
        BenchFailed: a member has not come to its end.
    """
    blocks = [(kind, WARM_UP + -(-barriers // BLOCKS)) for _ in range(BLOCKS) for kind in Kind]
    hosts = lab.hosts[:nodes]
    addresses = [lab.address(RAIL, host) for host in hosts]
    member = Path(__file__).with_name("spread_member.py")
    processes = [
        lab.spawn(
            host,
            [sys.executable, str(member)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for host in hosts
    ]
    try:
        for rank, process in enumerate(processes):
            task = Task(rank=rank, addresses=addresses, port=PORT, blocks=blocks)
            _say(process, msgspec.json.encode(task).decode())
        for process in processes:
            if _line(process) != "ready":
                raise BenchFailed("a member has no socket")
        for process in processes:
            _say(process, "go")
        times = [msgspec.json.decode(_line(process), type=Times) for process in processes]
    finally:
        for process in processes:
            process.communicate(timeout=WAIT_S)  # the end of its input ends it
    return [_row(kind, nodes, blocks, times) for kind in Kind]


def _say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None, "it was made with a pipe"
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None, "it was made with a pipe"
    line = process.stdout.readline().strip()
    if not line:
        raise BenchFailed(f"a member has ended with status {process.wait(WAIT_S)}")
    return line


def _row(kind: Kind, nodes: int, blocks: Sequence[tuple[Kind, int]], times: Sequence[Times]) -> Row:
    taken = [
        taken_ns
        for member in times
        for (of, _), block in zip(blocks, member.blocks, strict=True)
        if of is kind
        for taken_ns in block[WARM_UP:]
    ]
    cuts = statistics.quantiles(taken, n=100)
    return Row(
        algorithm=kind,
        nodes=nodes,
        p50_us=round(cuts[49] / 1000, 1),
        p99_us=round(cuts[98] / 1000, 1),
        barriers=len(taken) // nodes,
        gave_up=sum(member.gave_up for member in times),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the figures of one size say of `TABLE`."""

    nodes: int
    fastest: Kind
    chosen: Kind
    ratio: float
    """The median of the chosen one, as a multiple of the fastest's."""

    def __str__(self) -> str:
        return (
            f"{self.nodes} nodes: {self.fastest} is the fastest; the table chooses {self.chosen}, "
            f"which takes {self.ratio:.2f} times as long"
        )


def judge(nodes: int, rows: Sequence[Row]) -> Verdict:
    """The schedule with the least median, and the one that would be taken."""
    medians = {row.algorithm: row.p50_us for row in rows}
    fastest = min(medians, key=medians.__getitem__)
    chosen = choose(nodes, nodes)
    ratio = round(medians[chosen] / medians[fastest], 2)
    return Verdict(nodes=nodes, fastest=fastest, chosen=chosen, ratio=ratio)


def main(
    nodes: Annotated[str, typer.Option(help="Of how many processes, 2 to 16.")] = "2,4,8,16",
    barriers: Annotated[int, typer.Option(min=40, help="Of each schedule and size.")] = 4000,
    as_json: Annotated[bool, typer.Option("--json", help="One object on standard output.")] = False,
) -> None:
    """Measure the schedules, and say which is the fastest of each size."""
    ensure_privileges()
    try:
        sizes = sorted({int(part) for part in nodes.split(",")})
    except ValueError:
        raise typer.BadParameter(f"{nodes!r}: numbers are written as 2,4,8") from None
    if not 2 <= sizes[0] <= sizes[-1] <= NODES_MAX:
        raise typer.BadParameter(f"2 to {NODES_MAX} processes can be had")
    found: list[Row] = []
    verdicts: list[Verdict] = []
    if not as_json:
        print("| nodes | algorithm | p50 in µs | p99 in µs |\n|--:|---|--:|--:|")
    with Lab(hosts=sizes[-1], rails=(RAIL,)) as lab:
        for size in sizes:
            rows = measure(lab, size, barriers)
            found += rows
            verdicts.append(judge(size, rows))
            for row in rows if not as_json else ():
                print(f"| {size} | {row.algorithm} | {row.p50_us:,.1f} | {row.p99_us:,.1f} |")
    if as_json:
        lists = {"rows": found, "verdicts": verdicts}
        print(json.dumps({name: [asdict(item) for item in of] for name, of in lists.items()}))
        return
    for verdict in verdicts:
        print(verdict)


if __name__ == "__main__":
    typer.run(main)
