"""Hundreds of random runs: every guarantee holds in each, and everybody finds back together.

`PHALANX_SEEDS=1..3000` plays others, as `phalanx sim --seeds 1..3000` does.
"""

from __future__ import annotations

import os

from phalanx.barrier.sim_command import parse_seeds
from phalanx.barrier.testing.plan import ALL_KINDS, draw_plan
from phalanx.barrier.testing.verdict import Verdict, judge_all

SEEDS = parse_seeds(os.environ.get("PHALANX_SEEDS", "0..199"))
SEEDS_OF_NINE = SEEDS[:8]


def play(seeds: tuple[int, ...], size: int | None) -> list[Verdict]:
    """The verdicts; a failure is told with all that led to it."""
    verdicts = list(judge_all([draw_plan(seed, size) for seed in seeds]))
    broken = [verdict for verdict in verdicts if not verdict.held]
    assert not broken, "\n\n".join(v.story() for v in broken[:3]) + f"\n{len(broken)} runs failed"
    return verdicts


def test_random_runs_of_small_clusters_keep_every_guarantee() -> None:
    """Faults meet in ways that nobody writes a scenario for."""
    verdicts = play(SEEDS, None)
    suffered = {fault.kind for verdict in verdicts for fault in verdict.plan.faults}
    if len(SEEDS) >= 200:
        assert suffered == {*ALL_KINDS}, "a kind of fault that never comes proves nothing"
    assert all(v.figures["messages delivered"] and v.figures["views installed"] for v in verdicts)


def test_random_runs_of_nine_nodes_keep_every_guarantee() -> None:
    """Several joins and failures meet in one change."""
    play(SEEDS_OF_NINE, 9)
