"""One rank of a job of MPI that meets the others at its barrier; rank 0 speaks for all of them.

`python -m peers.mpi_rank TASK` is started by mpirun, which `openmpi.py` starts; with "idle" behind
it on the other hosts, where the lines of a member are to be said as well.
"""

from __future__ import annotations

import gc
import importlib
import sys
import time
from typing import Protocol

import msgspec

from .lines import Ready, Task, Times, hear, say, until_ns
from .rounds import timed


class Communicator(Protocol):
    """The part of mpi4py that is used."""

    rank: int

    def Barrier(self) -> None: ...
    def bcast(self, value: object) -> object: ...
    def gather(self, value: list[int]) -> list[list[int]] | None: ...


def idle() -> None:
    """Nothing is measured here."""
    say(Ready())
    hear("go")
    say(Times(ns=[]))
    hear("end")


def main() -> None:
    """The whole life of the process."""
    task = msgspec.json.decode(sys.argv[1], type=Task)
    if sys.argv[2:]:
        idle()
        return
    everybody: Communicator = importlib.import_module("mpi4py.MPI").COMM_WORLD
    first = everybody.rank == 0
    gc.freeze()  # as the members of phalanx do
    everybody.Barrier()
    if first:
        say(Ready())
        time.sleep(until_ns(hear("go")))  # all begin at that moment
    everybody.bcast(None)
    gathered = everybody.gather(timed(task.count, lambda _: everybody.Barrier))
    if gathered is not None:
        # Round by round: the first tenth is that of all ranks.
        say(Times(ns=[ns for rounds in zip(*gathered, strict=True) for ns in rounds]))
        hear("end")
    everybody.bcast(None)


if __name__ == "__main__":
    main()
