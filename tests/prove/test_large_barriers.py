"""A barrier of 65,536 nodes, and the dead of 1,024 named by all the others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from phalanx.barrier.sim_barrier_command import Row, line_of
from phalanx.barrier.testing.large import LargeBarrier, LargeOptions
from phalanx.transport.core.ranks import RankSet
from phalanx.transport.core.spread import Kind

NODES = 65_536
TOOK_S_MAX = 300
PEAK_BYTES_MAX = 8 << 30
DOCUMENT = Path(__file__).parents[2] / "docs" / "algorithms.md"


def test_a_barrier_of_65536_nodes_takes_sixteen_rounds() -> None:
    """In a process of its own, so that its memory is that of this run."""
    command = [Path(sys.executable).with_name("phalanx"), "sim-barrier", "--json"]
    arguments = ["--nodes", str(NODES), "--algorithm", Kind.DISSEMINATION.value]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=2 * TOOK_S_MAX, check=True
    )
    figures = json.loads(done.stdout)
    took_s, peak_bytes = figures.pop("took_s"), figures.pop("peak_bytes")
    print(f"{took_s:.0f} s, {peak_bytes >> 20} MiB")
    assert figures.pop("complaints") == []
    row = Row(**figures)
    assert (row.rounds, row.messages_max, row.released) == (16, 16, NODES)
    assert took_s <= TOOK_S_MAX
    assert peak_bytes <= PEAK_BYTES_MAX
    assert line_of(row) in DOCUMENT.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize(
    ("kind", "absent"),
    [(Kind.ALL_TO_ALL, 700), (Kind.COORDINATOR, 0), (Kind.DISSEMINATION, 700), (Kind.TREE, 0)],
)
def test_the_dead_of_a_thousand_are_named_by_everybody(kind: Kind, absent: int) -> None:
    """A million messages; deadlines are as far apart as arrivals."""
    options = LargeOptions(kind=kind, nodes=1024, absent=frozenset({absent}), silent=True)
    figures = LargeBarrier(options).run()
    assert not figures.complaints
    assert figures.named == dict.fromkeys(set(range(1024)) - {absent}, RankSet.one(absent))
