"""What a member costs, by the size of its cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from .test_programs import run, told


@pytest.mark.netns
def test_members_are_measured_as_processes_and_in_virtual_time(tmp_path: Path) -> None:
    """An idle member takes little; a barrier beyond three takes two delays and few frames."""
    picture = tmp_path / "scale.png"
    arguments = ("--nodes", "2", "--simulate", "2,8", "--rounds", "20", "--json")
    done = run("scale.py", *arguments, "--build", "interpreted", "--plot", str(picture))
    assert done.returncode == 0, done.stderr
    result = told(done.stdout)
    (grown,) = result["grown"]
    assert grown["nodes"] == 2
    assert 0 < grown["idle_cpu_ms_per_s"] < 500
    assert 10 < grown["resident_mib"] < 120
    assert 0 < grown["barrier_p50_us"] <= grown["barrier_p99_us"]
    two, eight = result["counted"]
    assert (two["nodes"], eight["nodes"]) == (2, 8)
    assert two["barrier_delays"] < 2 < eight["barrier_delays"] < 4
    assert eight["barrier_frames"] < 2, "nobody tells everybody"
    assert eight["idle_frames_per_s"] > two["idle_frames_per_s"] > 0
    assert picture.stat().st_size > 10_000
