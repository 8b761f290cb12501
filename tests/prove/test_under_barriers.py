"""The faults of `tests/netns/test_under_barriers.py` again and again on one cluster."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import pytest

from ..netns import test_under_barriers as scenes
from ..netns.conftest import Figure
from ..netns.harness import Fleet

pytestmark = [pytest.mark.netns, pytest.mark.slow]

ROUNDS = 10
Scene = Callable[[Fleet, Figure], None]

SCENES: dict[str, Scene] = {
    "deaf": lambda fleet, figure: scenes.test_a_node_that_hears_nobody_or_is_heard_by_nobody(
        fleet, figure, "in"
    ),
    "dumb": lambda fleet, figure: scenes.test_a_node_that_hears_nobody_or_is_heard_by_nobody(
        fleet, figure, "out"
    ),
    "one way": lambda fleet, figure: scenes.test_two_of_which_one_does_not_hear_the_other(
        fleet, figure, "alpha", "charlie"
    ),
    "other way": lambda fleet, figure: scenes.test_two_of_which_one_does_not_hear_the_other(
        fleet, figure, "charlie", "alpha"
    ),
    "partition": scenes.test_a_minority_that_is_cut_off_comes_back,
    "member stopped": lambda fleet, figure: scenes.test_a_member_is_stopped_for_a_while(
        fleet, figure, "charlie", 3
    ),
    "proposer stopped": lambda fleet, figure: scenes.test_a_member_is_stopped_for_a_while(
        fleet, figure, "alpha", 3
    ),
    "flush for a newcomer": lambda fleet, figure: (
        scenes.test_the_proposer_is_killed_in_the_middle_of_a_flush(fleet, figure, "a newcomer")
    ),
    "flush for a death": lambda fleet, figure: (
        scenes.test_the_proposer_is_killed_in_the_middle_of_a_flush(fleet, figure, "a death")
    ),
}


@pytest.mark.parametrize("name", SCENES)
def test_the_same_fault_again_and_again(fleet: Fleet, name: str) -> None:
    """What one fault leaves behind must not help the next one to break something."""
    figures: dict[str, list[float]] = defaultdict(list)

    def figure(what: str, value: float, limit: float) -> None:
        figures[what].append(round(value, 1))
        assert value <= limit, f"{what}: {value:.1f}, the limit is {limit:g}"

    for _ in range(ROUNDS):
        SCENES[name](fleet, figure)
        fleet.make_whole()
    for what, values in figures.items():
        print(f"{what}: {values}")
