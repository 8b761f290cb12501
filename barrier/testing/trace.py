"""A run of a plan as text."""

from __future__ import annotations

from typing import TextIO

from phalanx.transport.testing.trace import Tracer

from .plan import Plan
from .run import Run


def write_trace(plan: Plan, file: TextIO) -> str:
    """Play the plan and write down everything; returns what broke, or nothing."""
    run = Run(plan)

    def put(line: str) -> None:
        print(line, file=file)

    run.tell = lambda line: put(f"{line}  <--")
    for name in (
        "seed",
        "size",
        "rails",
        "tie_breaker",
        "small_limits",
        "clock_rates",
        "reads_after_ns",
    ):
        put(f"# {name} = {getattr(plan, name)}")
    for fault in (*plan.faults, *filter(None, (plan.lasting, plan.forced))):
        put(f"# fault: {fault}")
    Tracer(run.simulation, put)
    complaint = ""
    try:
        run.play()
    except AssertionError as broken:
        complaint = str(broken)
    put(f"# {complaint or 'every guarantee held'}".replace("\n", "\n# "))
    put(f"# hash of all histories: {run.trace()}")
    return complaint
