"""Whole stacks under a seeded simulator: random runs with faults, and what must hold in each.

`phalanx sim` plays them from the command line. See `docs/testing.md`.
"""

from .plan import Fault, Plan, draw_plan
from .run import Run

__all__ = ["Fault", "Plan", "Run", "draw_plan"]
