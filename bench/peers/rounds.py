"""The life of a member that meets the others again and again, without phalanx."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from .lines import Ready, Times, hear, say, until_ns


def live(count: int, round_of: Callable[[int], Callable[[], object]]) -> None:
    """Say that it is ready, make so many rounds when told to, and say what each took.

    Args:
        count: how many.
        round_of: what is to be done in the round of a number; to make that ready is not measured.

    Raises:
        EOFError: whoever started this is gone.
    """
    gc.freeze()  # as the members of phalanx do
    say(Ready())
    time.sleep(until_ns(hear("go")))  # all begin at that moment
    say(Times(ns=timed(count, round_of)))
    hear("end")


def timed(count: int, round_of: Callable[[int], Callable[[], object]]) -> list[int]:
    """What each of so many rounds took, in nanoseconds."""
    taken_ns: list[int] = []
    for number in range(count):
        meet = round_of(number)
        began_ns = time.perf_counter_ns()
        meet()
        taken_ns.append(time.perf_counter_ns() - began_ns)
    return taken_ns
