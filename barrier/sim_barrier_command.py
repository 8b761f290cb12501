"""`phalanx sim-barrier`: what a barrier of very many parties costs, with each schedule."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from phalanx.transport.core.spread import Kind

from .sim_command import parse_seeds
from .testing.large import Figures, LargeBarrier, LargeOptions

NODES_MIN, NODES_MAX = 2, 1 << 17
ALL_TO_ALL_NODES_MAX = 1024
"""Each pair of nodes is two messages: 17 million with 4,096."""
GIVING_UP_NODES_MAX = 1024
"""Where parties give up they tell everybody, which costs as much."""
_KIB_OF_MAXRSS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SimBarrierOptions:
    """What the command line says."""

    nodes: tuple[int, ...]
    kinds: tuple[Kind, ...] = tuple(Kind)
    seed: int = 1
    loss: float = 0.0
    absent: tuple[int, ...] = ()
    """Ranks that are dead."""
    json: bool = False
    plot: Path | None = None

    def runs(self) -> Iterator[LargeOptions]:
        """One for each number of nodes and each schedule that can be had at that size."""
        for nodes in self.nodes:
            for kind in self.kinds:
                if kind is Kind.ALL_TO_ALL and nodes > ALL_TO_ALL_NODES_MAX:
                    continue
                yield LargeOptions(
                    kind=kind,
                    nodes=nodes,
                    seed=self.seed,
                    loss=self.loss,
                    absent=frozenset(self.absent),
                    silent=True,
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The figures of one run that are told."""

    algorithm: str
    nodes: int
    rounds: int
    """The longest chain of messages; 0 where parties gave up."""
    messages_mean: float
    """Sent by a node."""
    messages_max: int
    bytes_mean: float
    """Payload sent by a node, without headers."""
    bytes_max: int
    took_delays: float
    """From the last arrival to the last outcome, in mean delays of a message."""
    gave_up: int
    lost: int
    released: int


def parse_nodes(text: str) -> tuple[int, ...]:
    """`16,64,1024` as numbers.

    Raises:
        ValueError: says how they are written, or how many there may be.
    """
    try:
        found = tuple(sorted({int(part.replace("_", "")) for part in text.split(",")}))
    except ValueError:
        raise ValueError(f"{text!r}: numbers of nodes are written as 16,64,1024") from None
    for nodes in found:
        if not NODES_MIN <= nodes <= NODES_MAX:
            raise ValueError(f"{nodes}: {NODES_MIN} to {NODES_MAX:,} nodes can be had")
    return found


def parse_absent(text: str, nodes: Sequence[int]) -> tuple[int, ...]:
    """`0,3..5` as ranks; none if empty.

    Raises:
        ValueError: says how ranks are written, or that there are too few nodes.
    """
    absent = parse_seeds(text) if text else ()
    if absent and max(absent) >= min(nodes):
        raise ValueError(
            f"{max(absent)}: the ranks of {min(nodes)} nodes are 0 to {min(nodes) - 1}"
        )
    if len(set(absent)) >= min(nodes):
        raise ValueError("somebody has to be there")
    return absent


def check(options: SimBarrierOptions) -> None:
    """Whether this can be played in a time that somebody waits.

    Raises:
        ValueError: it cannot; says why.
    """
    if (options.loss or options.absent) and max(options.nodes) > GIVING_UP_NODES_MAX:
        raise ValueError(
            f"with losses or dead ranks everybody tells everybody: at most "
            f"{GIVING_UP_NODES_MAX:,} nodes"
        )


def row_of(figures: Figures) -> Row:
    """What is told of a run."""
    options = figures.options
    return Row(
        algorithm=options.kind.value,
        nodes=options.nodes,
        rounds=0 if figures.gave_up else figures.rounds,
        messages_mean=round(sum(figures.messages) / options.nodes, 2),
        messages_max=max(figures.messages),
        bytes_mean=round(sum(figures.payload_bytes) / options.nodes, 1),
        bytes_max=max(figures.payload_bytes),
        took_delays=round(figures.took_ns / options.delay_ns, 1),
        gave_up=figures.gave_up,
        lost=figures.lost,
        released=figures.released,
    )


HEAD = (
    "| algorithm | nodes | rounds | messages a node | of the busiest | bytes a node "
    "| of the busiest | delays |\n|---|--:|--:|--:|--:|--:|--:|--:|"
)


def line_of(row: Row) -> str:
    """A row of the Markdown table."""
    return (
        f"| {row.algorithm} | {row.nodes:,} | {row.rounds or '-'} | {row.messages_mean:,.2f} "
        f"| {row.messages_max:,} | {row.bytes_mean:,.1f} | {row.bytes_max:,} "
        f"| {row.took_delays:.1f} |"
    )


def run(options: SimBarrierOptions) -> int:
    """Play the runs; returns the exit status: 0 if each barrier did what it must.

    Raises:
        EnvironmentTrouble: the picture cannot be drawn or written.
    """
    from .sim_barrier_plot import check_path, plot

    if options.plot is not None:
        check_path(options.plot)
    console = Console(stderr=True)
    rows: list[Row] = []
    wrong = 0
    if not options.json:
        print(HEAD)
    for run_options in options.runs():
        started_s = time.monotonic()
        figures = LargeBarrier(run_options).run()
        took_s = time.monotonic() - started_s
        peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB_OF_MAXRSS
        row = row_of(figures)
        rows.append(row)
        if options.json:
            machine = {"took_s": round(took_s, 2), "peak_bytes": peak_bytes}
            print(json.dumps({**asdict(row), **machine, "complaints": figures.complaints}))
        else:
            print(line_of(row), flush=True)
        wrong += bool(figures.complaints)
        for complaint in figures.complaints:
            console.print(f"{row.algorithm}, {row.nodes}: {complaint}", markup=False)
        console.print(
            f"{row.algorithm}, {row.nodes:,} nodes: {took_s:.1f} s, "
            f"at most {peak_bytes >> 20:,} MiB so far",
            highlight=False,
        )
    if options.plot is not None:
        plot(options.plot, rows)
    return 1 if wrong else 0
