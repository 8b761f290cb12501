"""A failure that cannot be seen again cannot be mended: a plan plays the same each time."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from phalanx.barrier.testing.plan import Plan, draw_plan
from phalanx.barrier.testing.run import Run
from phalanx.barrier.testing.verdict import judge
from phalanx.transport.config import MS
from phalanx.transport.core.endpoint import Endpoint
from phalanx.transport.core.outputs import Cast
from phalanx.transport.testing.simulation import SimulatedNode

from .other_hashes import said_under

HASHES = """
from phalanx.barrier.testing.plan import draw_plan
from phalanx.barrier.testing.verdict import judge
print(*(judge(draw_plan(seed)).trace for seed in (3, 11, 13)))
"""


def test_the_same_plan_gives_the_same_run() -> None:
    """Bit for bit, everything that every node was told, and when."""
    for seed in (3, 11):
        one, other = judge(draw_plan(seed)), judge(draw_plan(seed))
        assert (one.trace, one.steps) == (other.trace, other.steps)
        assert one.held


CAST_EVERY_NS = 20 * MS
TROUBLED = {"datagrams_lost": 0.2, "datagrams_doubled": 0.3, "datagrams_late": 0.3}


def datagrams_of(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What arrives, and when, if every node casts something to all others now and then."""
    run = Run(plan)
    arrived: list[tuple[object, ...]] = []
    last_ns: dict[int, int] = {}
    take = Endpoint.receive_datagram

    def receive(
        self: Endpoint, node: int, rail: str, frame: bytes, now_ns: int, *numbers: int
    ) -> None:
        arrived.append((run.network.now_ns, self.node, node, rail, frame))
        take(self, node, rail, frame, now_ns, *numbers)

    def cast(node: SimulatedNode) -> None:
        now_ns = run.network.now_ns
        if now_ns - last_ns.get(node.id, 0) >= CAST_EVERY_NS and node.running:
            last_ns[node.id] = now_ns
            others = tuple(peer for peer in run.nodes if peer != node.id)
            casts = [Cast(others, rail, b"%d" % now_ns) for rail in plan.rails]
            node.endpoint.outputs.casts.extend(casts)

    with monkeypatch.context() as patch:
        patch.setattr(Endpoint, "receive_datagram", receive)
        run.simulation.after_turn.append(cast)
        run.simulation.start_all()
        run.simulation.run_for(500 * MS)
        run.network.block_datagrams(1, 2)
        run.simulation.run_for(500 * MS)
    return arrived


def test_the_same_plan_brings_the_same_datagrams(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each that is lost, doubled or late is so again, at the same nanosecond."""
    plan = replace(draw_plan(3, 3), **TROUBLED)
    one, other = datagrams_of(plan, monkeypatch), datagrams_of(plan, monkeypatch)
    assert one == other
    assert len(one) > 50
    assert datagrams_of(replace(plan, seed=4), monkeypatch) != one
    assert datagrams_of(replace(plan, datagrams_lost=1.0), monkeypatch) == []


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
