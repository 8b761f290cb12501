"""A checker that cannot fail checks nothing: each finds the breach that is made for it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest

from phalanx.transport.config import MS
from phalanx.transport.events import ViewInstalled
from phalanx.transport.testing import state_checkers
from phalanx.transport.testing.simulated_application import ReadWithoutState, StateNoted
from phalanx.transport.testing.simulated_node import Life
from phalanx.transport.testing.simulation import Simulation, Stateful, simulated_config

from .scenes import Talk, converge

Breach = Callable[[list[Life]], None]


@pytest.fixture(scope="module")
def lives() -> list[Life]:
    """Histories of a good run: a newcomer, and a start-over with what an evicted node has kept."""
    simulation = Simulation(simulated_config(3), stateful=Stateful((1 * MS,) * 3, 10_000))
    everybody = tuple(simulation.nodes)
    simulation.start_all()
    converge(simulation, *everybody)
    Talk(simulation).everybody(10 * MS)
    simulation.nodes[2].kill()
    converge(simulation, 1, 3)
    simulation.nodes[2].start()
    simulation.run_until(lambda: simulation.synced_on(*everybody), 3000 * MS)
    simulation.isolate(3)
    converge(simulation, 1, 2)
    for node in (1, 2):
        simulation.nodes[node].kill()
        simulation.nodes[node].start()
    simulation.heal_all()
    simulation.run_until(lambda: simulation.nodes[3].life.over is not None, 3000 * MS)
    simulation.nodes[3].begin_anew()
    simulation.run_until(lambda: simulation.synced_on(*everybody), 3000 * MS)
    simulation.run_for(100 * MS)
    return simulation.lives


def last_note(life: Life) -> int:
    """Where the last state that its application noted stands."""
    return max(n for n, (_, item) in enumerate(life.history) if isinstance(item, StateNoted))


def other_state(lives: list[Life]) -> None:
    """Two applications come to a view with different states."""
    place = last_note(lives[-1])
    at_ns, note = lives[-1].history[place]
    assert isinstance(note, StateNoted)
    lives[-1].history[place] = (at_ns, replace(note, digest="other"))


def read_without(lives: list[Life]) -> None:
    """An application is given a message of a view whose state it has not."""
    life = lives[-1]
    assert life.application is not None
    view = next(item.view for _, item in life.history if isinstance(item, ViewInstalled))
    life.history.append((0, ReadWithoutState(life.application, view.id, b"early")))


def never_came(lives: list[Life]) -> None:
    """A newcomer waits for its state for ever."""
    del lives[-1].history[last_note(lives[-1])]


def other_donor(lives: list[Life]) -> None:
    """All take the state of one whose process began with the start-over."""
    for life in lives:
        for place, (at_ns, item) in enumerate(life.history):
            if isinstance(item, ViewInstalled) and item.started_over:
                life.history[place] = (at_ns, replace(item, donor=1))


def older_donor(lives: list[Life]) -> None:
    """One gives its state that had only been in the first view."""
    other_donor(lives)
    first = next(item for _, item in lives[0].history if isinstance(item, StateNoted))
    giver = [life for life in lives if life.member.node == 1][-1]
    assert giver.application is not None
    giver.history.insert(0, (0, replace(first, application=giver.application)))


def test_the_good_run_is_good(lives: list[Life]) -> None:
    """Or a complaint below would prove nothing; and the run has what the breaches need."""
    state_checkers.check_state(lives)
    views = [item for life in lives for _, item in life.history if isinstance(item, ViewInstalled)]
    assert {view.donor for view in views if view.started_over} == {3}


@pytest.mark.parametrize(
    ("breach", "name", "words"),
    [
        (other_state, "state_transfer", "with different states"),
        (read_without, "state_transfer", "it has no state"),
        (never_came, "state_arrives", "never got the state"),
        (other_donor, "newest_state", "never had any"),
        (older_donor, "newest_state", "has the state of"),
    ],
)
def test_a_breach_is_found(lives: list[Life], breach: Breach, name: str, words: str) -> None:
    """By the checker whose business it is."""
    broken = copy.deepcopy(lives)
    breach(broken)
    with pytest.raises(AssertionError, match=f"{name}: .*{words}"):
        state_checkers.check_state(broken)
