"""`phalanx sim`: many random runs of a cluster in virtual time, each of them checked."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from phalanx.transport.errors import trouble

from .testing.plan import Plan, draw_plan
from .testing.shrink import Shrinker
from .testing.trace import write_trace
from .testing.verdict import Verdict, judge_all

SEEDS_MAX = 1_000_000
"""Runs of one call; a number that is larger is a slip of the finger."""
TOLD_MAX = 3
"""Failures that are told in full; of the others the seeds are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimOptions:
    """What the command line says."""

    seeds: tuple[int, ...]
    nodes: int | None = None
    jobs: int = 0
    """Processes; 0 is one for each core."""
    trace: Path | None = None
    plan: Plan | None = None
    """One that a failure has left, instead of seeds."""
    shrink: bool = True
    keep: Path | None = None
    """Where smaller plans of failures are written; None: nowhere."""


def parse_seeds(text: str) -> tuple[int, ...]:
    """`17`, `1..3000` or `3,5,8..12` as numbers.

    Raises:
        ValueError: says how seeds are written.
    """
    found: list[int] = []
    for part in text.split(","):
        first, dots, last = part.partition("..")
        try:
            low, high = int(first), int(last) if dots else int(first)
        except ValueError:
            raise ValueError(f"{part!r}: seeds are written as 17, 1..3000 or 3,5,8..12") from None
        if not 0 <= low <= high:
            raise ValueError(f"{part!r}: the first seed comes first, and none is negative")
        if len(found) + high - low >= SEEDS_MAX:
            raise ValueError(f"{part!r}: more than {SEEDS_MAX:,} seeds; play them in several calls")
        found.extend(range(low, high + 1))
    return tuple(found)


def read_plan(path: Path) -> Plan:
    """A plan that was written down.

    Raises:
        ValueError: the file holds none; says why.
    """
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=Plan)
        plan.check()
    except (msgspec.MsgspecError, OSError, ValueError) as error:
        raise ValueError(f"{path}: no plan: {error}") from None
    return plan


def run(options: SimOptions) -> int:
    """Play the runs; returns the exit status: 0 if every guarantee held in each.

    Raises:
        EnvironmentTrouble: a file that was asked for cannot be written.
    """
    console = Console(stderr=True)
    if options.plan is not None:
        plans = [options.plan]
    else:
        plans = [draw_plan(seed, options.nodes) for seed in options.seeds]
    if options.trace is not None:
        return _trace(plans[0], options.trace)
    started_s = time.monotonic()
    failures: list[Verdict] = []
    figures: Counter[str] = Counter()
    cpu_s = virtual_ns = steps = 0.0
    with _progress(console, len(plans)) as tick:
        for verdict in judge_all(plans, options.jobs):
            tick()
            figures.update(verdict.figures)
            cpu_s += verdict.cpu_s
            virtual_ns += verdict.virtual_ns
            steps += verdict.steps
            if not verdict.held:
                failures.append(verdict)
                console.print(f"seed {verdict.plan.seed}: {verdict.kind}", markup=False)
    for verdict in failures[:TOLD_MAX]:
        _tell(console, verdict, options)
    print(_summary(plans, failures, figures))
    print(
        f"{virtual_ns / 1e9:.0f} s of virtual time, {steps:.0f} steps; "
        f"{time.monotonic() - started_s:.1f} s, {cpu_s / len(plans):.2f} s of a core for each run"
    )
    return 1 if failures else 0


@contextmanager
def _progress(console: Console, total: int) -> Generator[Callable[[], None]]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("seeds", total=total)
        yield lambda: progress.advance(task)


def _tell(console: Console, verdict: Verdict, options: SimOptions) -> None:
    """A failure, and a smaller one with the same breach."""
    plan = verdict.plan
    console.print(verdict.story(), markup=False, highlight=False)
    if options.plan is None:
        nodes = f" --nodes {options.nodes}" if options.nodes else ""
        console.print(f"again: phalanx sim --seeds {plan.seed}{nodes} --trace trace.txt")
    if not options.shrink:
        return

    def tell(smaller: Verdict) -> None:
        count = len(smaller.plan.faults)
        console.print(f"fails with {count} of {len(plan.faults)} faults as well")

    smallest = Shrinker(verdict, tell=tell).shrink()
    if options.keep is not None and smallest.plan != plan:
        path = options.keep / f"plan-{plan.seed}-{plan.size}.json"
        console.print(smallest.story(), markup=False, highlight=False)
        with trouble(f"{path} cannot be written"):
            path.write_bytes(msgspec.json.format(msgspec.json.encode(smallest.plan)))
        console.print(f"again: phalanx sim --plan {path} --trace trace.txt", soft_wrap=True)


def _trace(plan: Plan, path: Path) -> int:
    """Play a plan and write down what happens.

    Raises:
        EnvironmentTrouble: the file cannot be written.
    """
    with trouble(f"{path} cannot be written"), path.open("w", encoding="utf-8") as file:
        complaint = write_trace(plan, file)
    print(f"{path}: {'broken: ' + complaint if complaint else 'every guarantee held'}")
    return 1 if complaint else 0


def _summary(plans: Sequence[Plan], failures: Iterable[Verdict], figures: Counter[str]) -> str:
    faults = {k.removeprefix("fault: "): n for k, n in figures.items() if k.startswith("fault: ")}
    others = {k: n for k, n in figures.items() if not k.startswith("fault: ")}
    lines = [
        ", ".join(f"{number} {name}" for name, number in sorted(others.items())),
        f"{sum(faults.values())} faults: "
        + ", ".join(f"{number} {name}" for name, number in sorted(faults.items())),
    ]
    broken = sorted(verdict.plan.seed for verdict in failures)
    if broken:
        named = ", ".join(map(str, broken[:20])) + (" ..." if len(broken) > 20 else "")
        lines.append(f"{len(broken)} of {len(plans)} runs broke a guarantee: seeds {named}")
    else:
        runs = "1 run" if len(plans) == 1 else f"{len(plans)} runs"
        lines.append(f"{runs}: every guarantee held")
    return "\n".join(lines)
