"""What became of a run, as plain data that a worker process can hand back."""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from phalanx.transport.config import MS

from .plan import Plan
from .run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One run: whether every guarantee held, and what happened in it."""

    plan: Plan
    complaint: str
    """Empty if everything held."""
    steps: int
    virtual_ns: int
    cpu_s: float
    trace: str
    """A hash over all histories: the same plan gives the same."""
    log: tuple[str, ...] = ()
    figures: Counter[str] = field(default_factory=Counter[str])

    @property
    def held(self) -> bool:
        """Whether the run was in order."""
        return not self.complaint

    @property
    def kind(self) -> str:
        """What broke, in a word: a checker, or a kind of exception."""
        return self.complaint.split("\n", 1)[0].split(":", 1)[0][:60]

    def story(self) -> str:
        """The failure with all that led to it."""
        plan = self.plan
        head = (
            f"seed {plan.seed}, {plan.size} nodes: broken at step {self.steps}, "
            f"{self.virtual_ns / MS:.3f} ms"
        )
        return "\n".join([head, self.complaint, "what happened:", *self.log])


def judge(plan: Plan) -> Verdict:
    """Play a plan; nothing that happens in it raises."""
    run = Run(plan)
    started_s = time.process_time()
    complaint = ""
    try:
        run.play()
    except AssertionError as broken:
        complaint = str(broken) or "AssertionError: " + _where(broken)
    except Exception as error:  # a run that ends in a traceback is the worst of failures
        complaint = f"{type(error).__name__}: {error}\n{_where(error)}"
    return Verdict(
        plan=plan,
        complaint=complaint,
        steps=run.network.steps,
        virtual_ns=run.network.now_ns,
        cpu_s=time.process_time() - started_s,
        trace=run.trace(),
        log=tuple(run.log) if complaint else (),
        figures=run.figures(),
    )


def judge_all(plans: Sequence[Plan], jobs: int = 0) -> Iterator[Verdict]:
    """Play plans on so many processes (0: one for each core); verdicts come as they are ready."""
    jobs = min(jobs or os.cpu_count() or 1, len(plans))
    if jobs <= 1:
        yield from map(judge, plans)
        return
    # Spawned and not forked: whoever calls may have threads, and a run needs nothing of theirs.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(judge, plans, chunksize=1)


def _where(error: BaseException) -> str:
    return "".join(traceback.format_tb(error.__traceback__)[-3:])
