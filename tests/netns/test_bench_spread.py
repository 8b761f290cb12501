"""`bench/spread.py` measures what it says: a tiny run, for the form of its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from phalanx.transport.core.spread import Kind, choose

PROGRAM = Path(__file__).parents[2] / "bench" / "spread.py"
RUN_S_MAX = 120


@pytest.mark.netns
def test_each_schedule_is_measured_at_each_size() -> None:
    """Three processes and two, each on a host of its own; with each a barrier is complete."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--nodes", "2,3", "--barriers", "40", "--json"],
        capture_output=True,
        text=True,
        timeout=RUN_S_MAX,
        check=True,
    )
    found = json.loads(done.stdout)
    assert [(row["nodes"], row["algorithm"]) for row in found["rows"]] == [
        (nodes, kind.value) for nodes in (2, 3) for kind in Kind
    ]
    for row in found["rows"]:
        assert row["barriers"] == 40
        assert 0 < row["p50_us"] <= row["p99_us"]
    assert [verdict["nodes"] for verdict in found["verdicts"]] == [2, 3]
    for verdict in found["verdicts"]:
        rows = [row for row in found["rows"] if row["nodes"] == verdict["nodes"]]
        medians = {row["algorithm"]: row["p50_us"] for row in rows}
        assert medians[verdict["fastest"]] == min(medians.values())
        assert verdict["chosen"] == choose(verdict["nodes"], verdict["nodes"]).value
        assert verdict["ratio"] >= 1
