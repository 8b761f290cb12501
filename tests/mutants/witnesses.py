"""Which checker speaks about which mutant: a checker that never speaks proves nothing.

    python -m tests.mutants.witnesses [--seeds N]

In ordinary runs a `Referee` stops a mutant at the first broken rule, long before a guarantee is
broken. Here it is sent away. Plays the seeds that are known, and N more of each mutant; writes for
each checker one mutant and one seed into `witnesses.json`, which `make test` plays again. The exit
status is 1 if a checker is silent.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import Progress

from phalanx.barrier.testing.plan import draw_plan
from phalanx.barrier.testing.run import Run
from phalanx.transport.testing.path_checkers import path_transparency
from phalanx.transport.testing.state_checkers import STATE

from .catalogue import MUTANTS
from .hunt import read_caught
from .mutant import Mutant
from .play import witnesses

WITNESSES = Path(__file__).with_name("witnesses.json")
SEEDS = 10


class Witness(msgspec.Struct, frozen=True):
    """Where a checker speaks."""

    mutant: str
    seed: int


def read_witnesses() -> dict[str, Witness]:
    """By the name of the checker."""
    return msgspec.json.decode(WITNESSES.read_bytes(), type=dict[str, Witness])


def checkers_of_a_run() -> list[str]:
    """The names of all that judge a run."""
    run = Run(draw_plan(0))
    run.quiet = True
    judges = (*run.judges(), *STATE, path_transparency)
    return [getattr(judge, "__name__", "checker") for judge in judges]


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants.witnesses")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    seeds = range(parser.parse_args(arguments).seeds)
    caught = read_caught()
    known = read_witnesses() if WITNESSES.exists() else {}

    def hear(mutant: Mutant) -> tuple[Mutant, dict[str, int]]:
        worth = {it.seed for it in known.values() if it.mutant == mutant.name}
        if (catch := caught.get(mutant.name)) is not None and catch.seed is not None:
            worth.add(catch.seed)
        return mutant, witnesses(mutant, sorted({*worth, *seeds}))

    found: dict[str, Witness] = {}
    console = Console(stderr=True)
    with (
        Progress(console=console, disable=not console.is_terminal) as progress,
        ThreadPoolExecutor(os.cpu_count() or 1) as pool,
    ):
        task = progress.add_task("mutants", total=len(MUTANTS))
        for mutant, spoke in pool.map(hear, MUTANTS):
            progress.advance(task)
            for checker, seed in spoke.items():
                found.setdefault(checker, Witness(mutant.name, seed))
    wanted = checkers_of_a_run()
    lines = [
        f"{msgspec.json.encode(name).decode()}: {msgspec.json.encode(found[name]).decode()}"
        for name in wanted
        if name in found
    ]
    WITNESSES.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    silent = [name for name in wanted if name not in found]
    print(f"{len(wanted) - len(silent)} of {len(wanted)} checkers speak; silent: {silent}")
    return 1 if silent else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
