"""Hundreds of random runs: every guarantee holds in each, and everybody finds back together.

`PHALANX_SEEDS=first:count` plays others. A failing seed is replayed with its log by
`python -c "from tests.core.runs import replay; replay(SEED)"` from the repository's root.
"""

from __future__ import annotations

import os

import pytest

from .runs import RandomRun

FIRST, COUNT = (int(part) for part in os.environ.get("PHALANX_SEEDS", "0:120").split(":"))
GROUP = 20


@pytest.mark.parametrize("first", range(FIRST, FIRST + COUNT, GROUP))
def test_a_random_run_keeps_every_guarantee(first: int) -> None:
    """Faults meet in ways that nobody writes a scenario for."""
    failed: list[str] = []
    for seed in range(first, min(first + GROUP, FIRST + COUNT)):
        run = RandomRun(seed)
        try:
            run.play()
        except AssertionError as broken:
            log = "\n".join(run.log)
            failed.append(f"seed {seed} ({run.size} nodes):\n{broken}\n{log}")
    assert not failed, "\n\n".join(failed[:3]) + f"\n{len(failed)} seeds failed"


def test_the_same_seed_gives_the_same_run() -> None:
    """Without that no failure could be looked into."""
    for seed in (3, 11):
        one, other = RandomRun(seed), RandomRun(seed)
        one.play()
        other.play()
        assert one.trace() == other.trace()
        assert one.log == other.log
