"""Barriers on whole nodes: what they promise when members die, are cut off, or come back."""

from __future__ import annotations

import pytest

from phalanx.barrier.testing.meetings import arrive, use_barriers
from phalanx.transport.config import MS
from phalanx.transport.events import Lane
from phalanx.transport.testing.barrier_checkers import BARRIERS, Outcome, no_hang
from phalanx.transport.testing.simulation import SimulatedNode, Simulation, simulated_config

from .scenes import Talk, converge, finish, payloads


def started(nodes: int = 3, seed: int = 1) -> Simulation:
    """A cluster with barriers in its first view."""
    simulation = Simulation(simulated_config(nodes), seed=seed)
    use_barriers(simulation)
    for node in simulation.nodes.values():
        node.clock_offset_ns = 10**12
    simulation.start_all()
    converge(simulation, *simulation.nodes)
    return simulation


def verdicts(node: SimulatedNode) -> list[str]:
    """What this incarnation's waits came to."""
    return [outcome.verdict for outcome in node.told(Outcome)]


def end(simulation: Simulation) -> None:
    """All guarantees, those of barriers included."""
    finish(simulation, BARRIERS)
    now_ns, lease_ns = simulation.network.now_ns, simulation.config.timing.lease_ns
    assert list(no_hang(simulation.lives, slack_ns=2 * lease_ns, end_ns=now_ns)) == []


def test_what_was_sent_before_is_there_when_the_barrier_opens() -> None:
    """All ordering comes from it: messages before on one side, messages after on the other."""
    simulation = started()
    talk = Talk(simulation)
    for turn in range(20):
        before = {
            n: [talk.say(n, lane) for lane in (Lane.FIFO, Lane.ORDERED)]
            for n in simulation.nodes.values()
        }
        for node in simulation.nodes.values():
            arrive(node, "stage", None)
        simulation.run_until(
            lambda turn=turn: all(len(verdicts(n)) > turn for n in simulation.nodes.values()),
            100 * MS,
        )
        for node in simulation.nodes.values():
            assert {p for sent in before.values() for p in sent[:1]} <= set(payloads(node))
    assert all(verdicts(node) == ["released"] * 20 for node in simulation.nodes.values())
    end(simulation)


@pytest.mark.parametrize("victim", [1, 3])
@pytest.mark.parametrize("way", ["kill", "isolate", "freeze"])
def test_a_party_that_is_gone_breaks_the_barrier_for_all_alike(victim: int, way: str) -> None:
    """A death wakes the waiters, and all of them hear the same reason."""
    simulation = started()
    rest = [node for node in simulation.nodes.values() if node.id != victim]
    for node in rest:
        arrive(node, "stage", None)
    simulation.run_for(5 * MS)
    if way == "kill":
        simulation.nodes[victim].kill()
    elif way == "isolate":
        simulation.isolate(victim)
    else:
        simulation.nodes[victim].freeze()
    converge(simulation, *(node.id for node in rest))
    assert verdicts(rest[0]) == verdicts(rest[1])
    assert len(verdicts(rest[0])) == 1
    assert f"{{{victim}: 'left the view" in verdicts(rest[0])[0]
    end(simulation)


def test_a_party_cut_off_hears_unknown_and_nobody_is_released_wrongly() -> None:
    """It cannot know what the others decide: that is an error, and no outcome."""
    simulation = started()
    simulation.isolate(1)
    for node in simulation.nodes.values():
        arrive(node, "stage", 300 * MS)
    simulation.run_for(2000 * MS)
    assert verdicts(simulation.nodes[1]) == ["unknown"]
    assert "released" not in verdicts(simulation.nodes[2]) + verdicts(simulation.nodes[3])
    simulation.heal_all()
    simulation.run_for(1000 * MS)
    end(simulation)


@pytest.mark.parametrize("delay_us", [0, 50, 100, 150, 200, 250, 300, 400, 600, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_a_deadline_or_a_death_in_the_very_moment_of_release_splits_nobody(
    delay_us: int, seed: int
) -> None:
    """The outcome is decided at a position of the order, never by a local clock."""
    simulation = started(4, seed)
    talk = Talk(simulation)
    for node in simulation.nodes.values():
        talk.say(node)
        arrive(node, "stage", delay_us * 1000 + 1 if node.id == 2 else None)
    simulation.run_for(delay_us * 1000 + 1)
    simulation.nodes[3].kill()
    converge(simulation, 1, 2, 4)
    simulation.run_for(500 * MS)
    outcomes = {verdicts(simulation.nodes[n])[0] for n in (1, 2, 4)}
    assert len(outcomes) == 1, outcomes
    end(simulation)


def test_a_frozen_reader_of_bulk_does_not_stop_a_barrier() -> None:
    """Bulk never delays a barrier, unless the caller asks to wait for it."""
    simulation = started()
    slow = simulation.nodes[3]
    slow.endpoint.freeze(Lane.BULK, frozen=True, now_ns=slow.clock())
    talk = Talk(simulation)
    for _ in range(15):
        talk.say(simulation.nodes[1], Lane.BULK, size=50_000)
        simulation.run_for(MS)
    assert simulation.nodes[1].endpoint.delivery.out[0, Lane.BULK].queue, "nothing is granted"
    for node in simulation.nodes.values():
        arrive(node, "stage", None)
    simulation.run_for(100 * MS)
    assert [verdicts(node) for node in simulation.nodes.values()] == [["released"]] * 3
    slow.endpoint.freeze(Lane.BULK, frozen=False, now_ns=slow.clock())
    slow.wake_soon()
    end(simulation)
