"""`make mutants`: how many seeds it takes until a guarantee breaks, for each mutant.

    python -m tests.mutants.hunt [--seeds N] [NAME ...]

Writes the seeds that catch into `caught.json`, which `make test` plays again; a known seed beyond
those played stays. The exit status is 1 if one is not caught, 2 if there is no such mutant.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import Progress

from .catalogue import MUTANTS
from .mutant import Mutant
from .play import Catch, play

CAUGHT = Path(__file__).with_name("caught.json")
SEEDS_MAX = 2000


def read_caught() -> dict[str, Catch]:
    """By name: the seed that catches each mutant."""
    return msgspec.json.decode(CAUGHT.read_bytes(), type=dict[str, Catch])


def write_caught(caught: dict[str, Catch]) -> None:
    """In the order of the catalogue, one a line."""
    lines = [
        f"{msgspec.json.encode(m.name).decode()}: {msgspec.json.encode(caught[m.name]).decode()}"
        for m in MUTANTS
        if m.name in caught
    ]
    CAUGHT.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def hunt(mutants: Sequence[Mutant], seeds: int) -> Iterator[tuple[Mutant, Catch, float]]:
    """Each mutant with what became of it and the seconds it took, as it comes."""

    def one(mutant: Mutant) -> tuple[Mutant, Catch, float]:
        started_s = time.monotonic()
        return mutant, play(mutant, range(seeds)), time.monotonic() - started_s

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        yield from pool.map(one, mutants)


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants.hunt",
        description="How many seeds it takes until each deliberate bug is caught.",
    )
    parser.add_argument("--seeds", type=int, default=SEEDS_MAX, help="how many to play at most")
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants; all of them without")
    options = parser.parse_args(arguments)
    known = [mutant.name for mutant in MUTANTS]
    if strangers := sorted(set(options.names) - set(known)):
        parser.error(f"no mutant {', '.join(strangers)}; there are {', '.join(known)}")
    wanted = [m for m in MUTANTS if not options.names or m.name in options.names]
    caught = read_caught() if CAUGHT.exists() else {}
    missed: list[str] = []
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("mutants", total=len(wanted))
        for mutant, catch, seconds in hunt(wanted, options.seeds):
            progress.advance(task)
            if catch.seed is None:
                missed.append(mutant.name)
                if mutant.name in caught and (caught[mutant.name].seed or 0) < options.seeds:
                    del caught[mutant.name]
                print(f"{mutant.name:36} NOT CAUGHT by {catch.tried} seeds, {seconds:.0f} s")
            else:
                caught[mutant.name] = catch
                print(f"{mutant.name:36} {catch.tried:4} seeds  {catch.kind}", flush=True)
    write_caught(caught)
    print(
        f"{len(wanted) - len(missed)} of {len(wanted)} mutants caught within {options.seeds} seeds"
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
