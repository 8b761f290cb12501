"""A failure that cannot be seen again cannot be mended: a plan plays the same each time."""

from __future__ import annotations

import msgspec
import pytest

from phalanx.barrier.testing.plan import Plan, draw_plan
from phalanx.barrier.testing.verdict import judge

from .other_hashes import said_under

HASHES = """
from phalanx.barrier.testing.plan import draw_plan
from phalanx.barrier.testing.verdict import judge
print(*(judge(draw_plan(seed, 4)).trace for seed in (3, 11)))
"""


def test_the_same_plan_gives_the_same_run() -> None:
    """Bit for bit, everything that every node was told, and when."""
    for seed in (3, 11):
        one, other = judge(draw_plan(seed)), judge(draw_plan(seed))
        assert (one.trace, one.steps) == (other.trace, other.steps)
        assert one.held


def test_different_seeds_give_different_runs() -> None:
    """Or thousands of them would show no more than one."""
    assert len({judge(draw_plan(seed, 2)).trace for seed in range(5)}) == 5


def test_another_process_with_other_hashes_plays_the_same() -> None:
    """Sets and dicts of strings have another order in each process."""
    assert said_under(1, HASHES) == said_under(2, HASHES) != ""


@pytest.mark.parametrize("seed", range(20))
def test_a_plan_survives_being_written_down(seed: int) -> None:
    """What a failure has left is played from a file."""
    plan = draw_plan(seed)
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan
