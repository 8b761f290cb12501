"""The compiled build does what the sources say."""

from __future__ import annotations

import os
import subprocess
import sys

from peers.compiled import Build, folder
from phalanx.barrier.testing.plan import draw_plan
from phalanx.barrier.testing.verdict import judge

SEEDS = 20
PLAY_S = 300.0
PROGRAM = f"""
from phalanx.barrier.testing.plan import draw_plan
from phalanx.barrier.testing.verdict import judge
from phalanx.transport.core import delivery
print(delivery.__file__.rpartition(".")[2], *(judge(draw_plan(s)).trace for s in range({SEEDS})))
"""


def test_the_compiled_build_plays_the_same_runs() -> None:
    """Bit for bit: what every node was told, and when, under all kinds of faults."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(folder(Build.COMPILED))},
        capture_output=True,
        text=True,
        timeout=PLAY_S,
        check=True,
    )
    assert done.stdout.split() == ["so", *(judge(draw_plan(seed)).trace for seed in range(SEEDS))]
