"""Less of a failing plan that fails the same way: what is left is what matters.

Delta debugging over the faults (Zeller and Hildebrandt 2002), then shorter faults, then less
traffic. A plan without some faults draws other delays from the same seed, so that a smaller plan
may fail by another way to the same breach; that is as good a lead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from .plan import Fault, Plan
from .verdict import Verdict, judge

RUNS_MAX = 60


class Shrinker:
    """Tries plans until none of the smaller ones fails any more, or the runs are used up."""

    def __init__(self, verdict: Verdict, *, tell: Callable[[Verdict], None]) -> None:
        assert not verdict.held, "only a failure can be made smaller"
        self.best = verdict
        self.runs = 0
        self._tell = tell

    def shrink(self) -> Verdict:
        """The smallest failing run that was found."""
        while self._improve():
            pass
        return self.best

    def _improve(self) -> bool:
        for plan in _smaller(self.best.plan):
            if self.runs >= RUNS_MAX:
                return False
            self.runs += 1
            verdict = judge(plan)
            if not verdict.held and verdict.kind == self.best.kind:
                self.best = verdict
                self._tell(verdict)
                return True
        return False


def _smaller(plan: Plan) -> Iterator[Plan]:
    """Plans with less in them, the largest steps first."""
    faults = plan.faults
    if plan.forced is not None:
        yield replace(plan, forced=None)
    size = len(faults) // 2
    while size >= 1:
        for start in range(0, len(faults), size):
            yield replace(plan, faults=faults[:start] + faults[start + size :])
        size //= 2
    if plan.alone:
        yield replace(plan, alone=False)
    if plan.multicast:
        yield replace(plan, multicast=False)
    if plan.datagrams_lost or plan.datagrams_doubled or plan.datagrams_late:
        yield replace(plan, datagrams_lost=0.0, datagrams_doubled=0.0, datagrams_late=0.0)
    if plan.channels_open_ns:
        yield replace(plan, channels_open_ns=(), channels_read_ns=())
    if plan.reads_after_ns:
        yield replace(plan, reads_after_ns=(), state_bytes=0)
    for place, fault in enumerate(faults):
        if fault.lasts_ns > 1_000_000:
            shorter = replace(fault, lasts_ns=fault.lasts_ns // 4)
            yield replace(plan, faults=_with(faults, place, shorter))
    if min(plan.pauses_ns) < 1_000_000_000:
        yield replace(plan, pauses_ns=tuple(pause * 8 for pause in plan.pauses_ns))


def _with(faults: tuple[Fault, ...], place: int, fault: Fault) -> tuple[Fault, ...]:
    return (*faults[:place], fault, *faults[place + 1 :])
