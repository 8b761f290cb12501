"""Thousands of random runs: every guarantee and every rule holds in each.

They are played with the compiled build, simulator included, which plays what the sources play, in
half the time.
"""

from __future__ import annotations

import multiprocessing
import sys
import time

import pytest

from peers import compiled
from phalanx.barrier.testing.plan import ALL_KINDS, draw_plan
from phalanx.barrier.testing.verdict import Verdict, judge_all

pytestmark = pytest.mark.slow

SECONDS_MAX = 1200.0
WHERE = "__import__('phalanx.transport.core.delivery', fromlist=['Delivery']).__file__"


@pytest.fixture(autouse=True)
def in_compiled_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are spawned find the compiled build first."""
    monkeypatch.setattr(sys, "path", [str(compiled.folder(compiled.Build.COMPILED)), *sys.path])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(eval, (WHERE,)).endswith(".so")


def play(seeds: range, size: int) -> list[Verdict]:
    """The verdicts; the first failures are told with all that led to them."""
    started_s = time.monotonic()
    verdicts = list(judge_all([draw_plan(seed, size) for seed in seeds]))
    broken = [verdict for verdict in verdicts if not verdict.held]
    cpu_s = sum(verdict.cpu_s for verdict in verdicts)
    print(
        f"{len(verdicts)} runs of {size} nodes, {len(broken)} broken: "
        f"{time.monotonic() - started_s:.0f} s, {cpu_s / len(verdicts):.2f} s of a core for each"
    )
    assert not broken, "\n\n".join(v.story() for v in broken[:3]) + f"\n{len(broken)} runs failed"
    return verdicts


def test_three_thousand_runs_of_five_nodes_hold_within_twenty_minutes() -> None:
    """So many that every kind of fault has met every other."""
    started_s = time.monotonic()
    verdicts = play(range(1, 3001), 5)
    assert {fault.kind for v in verdicts for fault in v.plan.faults} == {*ALL_KINDS}
    assert time.monotonic() - started_s < SECONDS_MAX


@pytest.mark.parametrize("size", [3, 9])
def test_five_hundred_runs_of_another_size_hold(size: int) -> None:
    """With three nodes each is needed; with nine several come and go in one change."""
    play(range(1, 501), size)
